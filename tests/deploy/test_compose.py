"""deploy/compose.yaml: a compose file whose services would start with what it gives them."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from aos.serving.reading import read_settings
from aos.serving.settings import PROCESSES

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
GIVEN = {
    "AOS_ADMIN_TOKEN": "the-administrators-token",
    "AOS_SERVICE_TOKEN": "the-services-own-token",
    "POSTGRES_PASSWORD": "hunter2",
}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def filled(text: str) -> str:
    """A value with the variables of the shell in it, as compose fills them in."""
    return re.sub(r"\$\{(\w+)(?::[-?]([^}]*))?\}", lambda match: GIVEN.get(match[1], match[2] or ""), str(text))


def served(compose: dict[str, Any]) -> dict[str, str]:
    """Which service of AOS each container runs, by the container's name."""
    commands = {name: one.get("command", []) for name, one in compose["services"].items()}
    return {name: command[1] for name, command in commands.items() if command[:1] == ["serve"]}


class TestCompose:
    def test_it_is_a_compose_file(self, compose):
        """It has the form that the compose specification's own schema wants."""
        schema = json.loads((files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json").read_text())
        jsonschema.Draft7Validator(schema).validate(compose)

    def test_there_are_several_of_what_there_should_be(self, compose):
        """Two dispatchers and two gateways, each behind one name; one each of the others."""
        counts = {service: list(served(compose).values()).count(service) for service in PROCESSES}
        assert counts == {"dispatcher": 2, "gateway": 2, "registry": 1, "broker": 1, "operator": 1, "envoy": 1}

    def test_every_service_takes_its_settings(self, compose):
        """What it gets from the environment is complete, and nothing in it is unknown to it or cannot be."""
        read = {}
        for name, service in served(compose).items():
            environment = {key: filled(value) for key, value in compose["services"][name]["environment"].items()}
            kinds = PROCESSES.values()
            read[name] = read_settings(
                PROCESSES[service], service, file={}, path="", environment=environment, flags={}, others=kinds
            )
        assert read["dispatcher-1"].limits.node != read["dispatcher-2"].limits.node
        assert read["dispatcher-1"].limits.identity != read["dispatcher-2"].limits.identity
        assert read["gateway-1"] == read["gateway-2"]
        assert {read[name].database for name in ("dispatcher-1", "registry", "broker")} == {
            "postgresql://aos:hunter2@postgres:5432/aos"
        }

    def test_who_is_called_listens_there(self, compose):
        """Every address that one container calls is a name of another that listens on that port."""
        listening, called = set(), set()
        for name in served(compose):
            one = compose["services"][name]
            aliases = [
                alias
                for network in (one["networks"] if isinstance(one["networks"], dict) else {}).values()
                for alias in network.get("aliases", [])
            ]
            for key, value in one["environment"].items():
                port = filled(value).rpartition(":")[2]
                if key.endswith("_LISTEN"):
                    listening |= {f"{host}:{port}" for host in (name, *aliases)}
                elif re.fullmatch(r"[a-z-]+:\d+", filled(value)):
                    called.add(filled(value))
        assert called - listening == {"envoy:8080"}  # its port is its default

    def test_secrets_are_not_in_it(self, compose):
        """Tokens and passwords come from the shell; without them compose stops."""
        values = [
            value
            for one in compose["services"].values()
            for key, value in one.get("environment", {}).items()
            if "TOKEN" in key or "PASSWORD" in key or "DATABASE" in key
        ]
        assert values
        assert all(":?" in value for value in values)

    def test_only_envoy_is_open(self, compose):
        """No other container has a port on the host, and those with secrets of the database are on no outer network."""
        assert [name for name, one in compose["services"].items() if "ports" in one] == ["envoy"]
        outer = {name for name, one in compose["services"].items() if "outside" in one.get("networks", {})}
        assert outer == {"envoy", "gateway-1", "gateway-2"}


class TestImage:
    def test_it_is_made_of_what_is_there(self):
        """What the Dockerfile copies exists, and is let through to it."""
        dockerfile, ignored = (DEPLOY / "Dockerfile").read_text(), (DEPLOY.parent / ".dockerignore").read_text().splitlines()
        copied = [name for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile, re.MULTILINE) for name in line.split()[:-1]]
        assert copied
        assert [name for name in copied if not (DEPLOY.parent / name).exists()] == []
        assert [name for name in copied if f"!{name}" not in ignored] == []
