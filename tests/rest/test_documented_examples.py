"""The curl examples in the reference do what the page shows, with the real model behind a real Envoy."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from aos.clock import SystemClock
from aos.operator.llama import loaded
from aos.settings import bundled_model
from aos.testing.harness import running_aos

pytestmark = pytest.mark.asyncio(loop_scope="module")

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
PAGES = ("rest-jobs.md", "rest-models.md", "rest-opml.md", "rest-projects.md", "rest-ledger.md")
BLOCK = re.compile(r"```(sh|json|text)\n(.*?)```", re.DOTALL)


def examples(page: str) -> list[tuple[str, str, str]]:
    """The page's commands, each with the kind and text of the reply shown under it; empty if none is."""
    found = BLOCK.findall((REFERENCE / page).read_text())
    following = [*found[1:], ("", "")]
    return [
        (text, *shown) if shown[0] in {"json", "text"} else (text, "", "")
        for (kind, text), shown in zip(found, following, strict=True)
        if kind == "sh"
    ]


def request(command: str, variables: dict[str, str]) -> httpx.Request:
    """What curl would send for the command."""
    for name, value in variables.items():
        command = command.replace(f"${name}", value)
    program, *words = shlex.split(command)
    assert program == "curl"
    url, data, headers = "", None, {}
    arguments = iter(words)
    for word in arguments:
        match word:
            case "-d":
                data = next(arguments)
                headers.setdefault("content-type", "application/x-www-form-urlencoded")
            case "-H":
                name, _, value = next(arguments).partition(": ")
                headers[name] = value
            case "-N":
                pass
            case _:
                url = word
    return httpx.Request("POST" if data is not None else "GET", url, content=data, headers=headers)


def same(shown: object, got: object, at: str = "reply") -> None:
    """Pass if the reply is what the page shows: fields, order, types and values; `…` is any text, a number any number."""
    assert type(shown) is type(got), at
    match shown:
        case {"…": inner}:
            assert got, at
            for value in got.values():
                same(inner, value, at)
        case dict():
            assert list(shown) == list(got), at
            for key, value in shown.items():
                same(value, got[key], f"{at}.{key}")
        case list():
            assert len(shown) == len(got), at
            for index, (one, other) in enumerate(zip(shown, got, strict=True)):
                same(one, other, f"{at}[{index}]")
        case str():
            assert re.fullmatch(re.escape(shown).replace("…", "(.|\n)+"), got), f"{at}: {got!r}"
        case int() if not isinstance(shown, bool):
            assert (shown > 0) is (got > 0), at
        case _:
            assert shown == got, at


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def network():
    async with (
        loaded(bundled_model()) as model,
        # registering without a proof is for development
        running_aos(model, name=bundled_model().stem, envoy=True, clock=SystemClock(), open_to_all=True) as running,
    ):
        yield running


class TestReferencePages:
    @pytest.mark.parametrize("page", PAGES)
    async def test_the_examples_do_what_the_page_shows(self, network, page):
        """Each command, in its order, gets the reply that stands under it."""
        variables = {"AOS_URL": network.url, "AOS_TOKEN": network.token, "AOS_OPERATOR_TOKEN": network.admin_token, "JOB": ""}
        variables |= {"AOS_OPERATOR": network.operators[0]}
        shown = examples(page)
        assert len(shown) >= 4
        async with httpx.AsyncClient(timeout=30) as client:
            for command, kind, text in shown:
                reply = await client.send(request(command, variables))
                if "/api/job/submit" in command and reply.status_code == 200:
                    variables["JOB"] = reply.json()["result"]
                    await network.client.outcome(f"jobs/{variables['JOB']}")
                match kind:
                    case "json":
                        same(json.loads(text), reply.json())
                    case "text":
                        self._same_stream(text, reply.text)
                    case _:
                        assert reply.status_code == 200, command

    @staticmethod
    def _same_stream(shown: str, got: str) -> None:
        lines, heard = shown.splitlines(), got.splitlines()
        assert len(lines) == len(heard)
        for one, other in zip(lines, heard, strict=True):
            if one.startswith("data: {"):
                same(json.loads(one.removeprefix("data: ")), json.loads(other.removeprefix("data: ")))
            else:
                assert one == other
