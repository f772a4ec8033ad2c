"""deploy/helm/aos, rendered by Helm's own engine: what Kubernetes takes, and services that start with what they are given."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml

from aos.serving.reading import check_tables, read_settings
from aos.serving.settings import PROCESSES

CHART = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "aos"
SECRETS = {"admin-token": "the-administrators-token", "service-token": "the-services-own-token", "database": "postgresql://db/aos"}
PLAIN = {"secret": "aos"}
FULL = {
    "secret": "aos",
    "imagePullSecrets": [{"name": "mine"}],
    "envoy": {"tlsSecret": "certificate", "service": {"type": "LoadBalancer", "port": 443, "annotations": {"a": "b"}}},
    "operator": {
        "replicas": 3,
        "models": ["mine=/models/mine.gguf"],
        "volumes": [{"name": "models", "emptyDir": {}}],
        "volumeMounts": [{"name": "models", "mountPath": "/models"}],
        "nodeSelector": {"gpu": "yes"},
        "storage": {"className": "fast"},
    },
    "kept": {"existingClaim": "mine"},
    "podAnnotations": {"a": "b"},
    "settings": {"dispatcher": {"limits": {"queue_jobs": 123456789, "epoch_seconds": 0.5}}, "shared": {"grace": 7}},
}


def rendered(values: dict[str, Any]) -> list[dict[str, Any]]:
    with helm_python.Chart.load(str(CHART)) as chart:
        chart.validate_schema(values)
        texts = chart.render(values, name="net", namespace="here")
    return [each for text in texts.values() for each in yaml.safe_load_all(text) if each]


@pytest.fixture(scope="module", params=[PLAIN, FULL], ids=["plain", "full"])
def objects(request) -> list[dict[str, Any]]:
    return rendered(request.param)


def pods(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The pod templates, by the names of what makes pods of them."""
    return {
        one["metadata"]["name"]: one["spec"]["template"]
        for one in objects
        if "template" in one["spec" if "spec" in one else "data"]
    }


def containers(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [each for template in pods(objects).values() for each in template["spec"]["containers"]]


def environment(container: dict[str, Any], pod: str) -> dict[str, str]:
    """What a container's environment is, with the Secret's values and the pod's name in it."""
    found: dict[str, str] = {}
    for one in container.get("env", []):
        source = one.get("valueFrom", {})
        secret = source.get("secretKeyRef")
        found[one["name"]] = SECRETS[secret["key"]] if secret else pod if source else one["value"].replace("$(POD)", pod)
    return found


class TestChart:
    def test_helm_finds_nothing_wrong(self):
        """Its linter has neither errors nor warnings."""
        found = helm_python.lint(str(CHART), PLAIN, strict=True)
        assert found["errors"] == []
        assert [one for one in found["messages"] if one["severity"] > 1] == []

    @pytest.mark.parametrize("version", ["1.27", "1.32"])
    def test_kubernetes_takes_all_of_it(self, objects, version):
        """Each object has the form that the cluster's schema wants, with no field that it does not know."""
        for one in objects:
            kubernetes_validate.validate(one, version, strict=True)

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({}, "secret"),
            ({"secret": ""}, "secret"),
            (PLAIN | {"dispatcher": {"replicas": 0}}, "replicas"),
            (PLAIN | {"dispacher": {}}, "dispacher"),
            (PLAIN | {"settings": {"dispacher": {}}}, "dispacher"),
            (PLAIN | {"kept": {"size": "much"}}, "size"),
        ],
    )
    def test_values_that_cannot_be_are_refused(self, wrong, words):
        """Helm stops before anything is installed, and names the value."""
        with pytest.raises(helm_python.HelmError, match=words):
            rendered(wrong)


class TestServices:
    def test_each_takes_its_settings(self, objects):
        """The file of settings with the pod's environment is complete, and nothing in it is unknown or cannot be."""
        (text,) = [one["data"]["aos.toml"] for one in objects if one["kind"] == "ConfigMap"]
        file = tomllib.loads(text)
        check_tables(file, "aos.toml", PROCESSES)
        read = {}
        for name in ("a", "b"):
            for one in containers(objects):
                if one["args"][0] == "serve":
                    service = one["args"][1]
                    read[one["name"], name] = read_settings(
                        PROCESSES[service],
                        service,
                        file=file,
                        path="aos.toml",
                        environment=environment(one, name),
                        flags={},
                        others=PROCESSES.values(),
                    )
        assert {name for name, _ in read} >= {"dispatcher", "registry", "broker", "gateway", "operator", "http"}
        assert read["dispatcher", "a"].limits.node != read["dispatcher", "b"].limits.node
        if "queue_jobs" in text:
            assert (read["dispatcher", "a"].limits.queue_jobs, read["broker", "a"].grace) == (123456789, 7)
            assert (read["https", "a"].port, read["http", "a"].port) == (8443, 8080)
            assert read["https", "a"].certificate == Path("/etc/aos-tls/tls.crt")
            assert read["http", "a"].certificate is None

    def test_what_is_called_is_there(self, objects):
        """Every address in the settings is a Service, with pods behind it that have the port."""
        (text,) = [one["data"]["aos.toml"] for one in objects if one["kind"] == "ConfigMap"]
        called = {
            word for table in tomllib.loads(text).values() for word in table.values() if isinstance(word, str) and ".svc:" in word
        }
        assert len(called) == 5
        behind = {one["metadata"]["name"]: one["spec"] for one in objects if one["kind"] == "Service"}
        for address in called:
            host, _, port = address.partition(":")
            service = behind[host.split(".")[0]]
            (chosen,) = [one for one in pods(objects).values() if one["metadata"]["labels"] == service["selector"]]
            ports = {each.get("name"): each["containerPort"] for one in chosen["spec"]["containers"] for each in one["ports"]}
            target = service["ports"][0].get("targetPort", "grpc")
            assert (service["ports"][0]["port"], ports[target]) == (int(port), int(port))

    def test_no_pod_has_more_power_than_it_needs(self, objects):
        """Nobody is root, writes to its image, talks to the cluster, or finds the cluster's Services among its settings."""
        for template in pods(objects).values():
            spec = template["spec"]
            assert spec["securityContext"]["runAsNonRoot"]
            assert (spec["enableServiceLinks"], spec["automountServiceAccountToken"]) == (False, False)
            for one in spec["containers"]:
                wanted = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
                assert one["securityContext"] == wanted
                assert one["resources"]["limits"]["memory"]

    def test_nothing_secret_is_in_it(self, objects):
        """Tokens and the database's URL are taken from the Secret, and from nowhere else."""
        text = json.dumps(objects)
        assert not any(word in text for word in ("postgresql://", "admin_token", "service_token"))

    def test_pods_have_the_time_that_leaving_takes(self, objects):
        """Kubernetes kills none before its notice and its grace, or its drain, are over."""
        (text,) = [one["data"]["aos.toml"] for one in objects if one["kind"] == "ConfigMap"]
        file = tomllib.loads(text)
        times = {name: one["spec"]["terminationGracePeriodSeconds"] for name, one in pods(objects).items() if "migrate" not in name}
        shared, envoy = file["shared"], file["envoy"]
        assert times.pop("net-envoy") > envoy["notice_seconds"] + envoy["drain_seconds"]
        assert min(times.values()) > shared["notice"] + shared["grace"]
