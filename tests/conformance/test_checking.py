"""The conformance checker, against real servers that keep the interface or break it in one place."""

from __future__ import annotations

import httpx
import pytest

from aos.conformance.asking import Place, check, root
from aos.conformance.findings import Report, Verdict
from tests.conformance.server import JSON, SSE, Answer, chunk, completion, pictures, say, serving, stream, transcript


async def found(change=lambda _: None, *, headers: dict[str, str] | None = None, **options) -> Report:
    async with serving(change) as server, httpx.AsyncClient(trust_env=False) as client:
        return await check(client, Place(server.url, headers or {}), **options)


def lines(report: Report, verdict: Verdict) -> set[str]:
    return {one.line for one in report.findings if one.verdict is verdict}


class TestGoodServers:
    async def test_one_that_keeps_the_interface_conforms(self):
        """Every line passes, and its capabilities are told."""
        report = await found()
        assert report.conforms, report
        assert lines(report, Verdict.PASS) == {one.line for one in report.findings}
        assert set(report.capabilities) == {"models", "chat", "usage", "stream", "stream-usage", "errors"}
        assert report.model == "m"

    async def test_openais_own_shape_conforms(self):
        """What only the documented readers have is noted, not asked for."""

        def plain(server):
            body = {name: value for name, value in completion().items() if name not in ("code", "message")}
            server.chat = say(body, content_type="application/json; charset=utf-8")
            events = transcript()
            del events[3]["usage"]
            server.stream = stream(events)
            server.unknown = say({"error": {"message": "no", "code": "model_not_found"}}, 404)
            server.models = say({"object": "list", "data": [{"id": "m", "object": "model"}]})

        report = await found(plain)
        assert report.conforms, report
        assert lines(report, Verdict.NOTE) == {"chat.code", "chat.stream.usage"}
        assert "stream-usage" not in report.capabilities

    @pytest.mark.parametrize(("kind", "capability"), [(1, "images"), (2, "image-edits")])
    async def test_pictures(self, kind, capability):
        """A model of that type is asked for a picture, and not for text."""
        report = await found(kind=kind)
        assert report.conforms, report
        assert set(report.capabilities) == {"models", capability, "errors"}

    async def test_forms(self):
        """Whether changes are taken as forms, which the interface does not ask for, is told, and is no failure if not."""
        report = await found(kind=2)
        assert lines(report, Verdict.NOTE) == {"image-edits.form"}
        report = await found(lambda server: setattr(server, "form", say(pictures())), kind=2)
        assert set(report.capabilities) == {"models", "image-edits", "image-edits-form", "errors"}

    async def test_the_list_says_which_type_a_model_has(self):
        """So nothing need be told."""
        report = await found(lambda server: setattr(server, "models", say({"data": [{"id": "m", "type": 2}]})))
        assert "image-edits" in report.capabilities

    async def test_a_server_without_a_list_is_asked_by_name(self):
        """The list is not necessary."""
        report = await found(lambda server: setattr(server, "models", Answer(status=404)), model="m")
        assert report.conforms, report
        assert lines(report, Verdict.NOTE) == {"models"}

    async def test_a_key_is_sent_and_never_shown(self):
        """With every question."""
        async with serving() as server, httpx.AsyncClient(trust_env=False) as client:
            place = Place(server.url, {"authorization": "Bearer secret"})
            await check(client, place)
        assert all("authorization: bearer secret" in head for head in server.headers)
        assert "secret" not in repr(place)


def without(*names: str):
    def change(server):
        server.chat = say({name: value for name, value in completion().items() if name not in names})

    return change


def chat(**changes):
    return lambda server: setattr(server, "chat", say(completion() | changes))


def streamed(edit):
    def change(server):
        events = transcript()
        edit(events)
        server.stream = stream(events)

    return change


def raw(data: bytes, content_type: str = SSE, **more):
    return lambda server: setattr(server, "stream", Answer(data, content_type=content_type, **more))


BROKEN = {
    "models": [
        lambda server: setattr(server, "models", say({"models": []})),
        lambda server: setattr(server, "models", say({"data": [{"name": "m"}]})),
        lambda server: setattr(server, "models", Answer(b"<html>", content_type="text/html")),
    ],
    "model": [lambda server: setattr(server, "models", say({"data": []}))],
    "chat": [
        without("choices"),
        without("created"),
        without("model"),
        chat(choices=[]),
        chat(code=1007),
        chat(choices=[{"message": {"role": "user", "content": "x"}, "finish_reason": "stop"}]),
        chat(choices=[{"message": {"role": "assistant", "content": "x"}}]),
        lambda server: setattr(server, "chat", Answer(b"", status=200)),
        lambda server: setattr(server, "chat", Answer(b"{", status=200)),
        lambda server: setattr(server, "chat", Answer(b"[" * 100_000, status=200)),
        lambda server: setattr(server, "chat", Answer(b"{}", length=1000)),
        lambda server: setattr(server, "chat", say(completion(), 500)),
        lambda server: setattr(server, "chat", say(completion(), 302)),
        lambda server: setattr(server, "chat", say(completion(), content_type="text/plain")),
    ],
    "chat.usage": [without("usage"), chat(usage={"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 3})],
    "chat.stream": [
        raw(b"data: [DONE]\n\n", JSON),
        raw(b"data: {}\ndata: [DONE]\n\n"),
        raw(b"{}\n\ndata: [DONE]\n\n"),
        raw(b"data: [DONE]\n"),
        raw(b"data: {}\n\n", length=1000),
    ],
    "chat.stream.done": [
        streamed(list.pop),
        streamed(lambda events: events.append(chunk({}) | {"choices": []})),
        raw(b": nothing\n\n"),
    ],
    "chat.stream.chunks": [
        streamed(lambda events: events[1].update(id="other")),
        streamed(lambda events: events[1].update(object="chat.completion")),
        streamed(lambda events: events.insert(1, "nonsense")),
        streamed(lambda events: events.insert(3, {"error": {"message": "lost"}})),
    ],
    "chat.stream.deltas": [
        streamed(lambda events: events.pop(0)),
        streamed(lambda events: events.pop(3)),
        streamed(lambda events: events.insert(4, chunk({"content": "more"}))),
    ],
    "errors.model": [
        lambda server: setattr(server, "unknown", say(completion())),
        lambda server: setattr(server, "unknown", Answer(b"not found", 404, "text/plain")),
        lambda server: setattr(server, "unknown", say({"detail": "no"}, 404)),
    ],
    "errors.json": [lambda server: setattr(server, "malformed", Answer(b"", 500))],
}


class TestBrokenServers:
    @pytest.mark.parametrize(("line", "change"), [(line, change) for line, changes in BROKEN.items() for change in changes])
    async def test_the_line_at_fault_is_named(self, line, change):
        """One fault fails one line: the others are looked at all the same."""
        report = await found(change)
        assert not report.conforms
        failed = lines(report, Verdict.FAIL) - ({"model"} if line == "models" else set())
        assert failed == {line}, report

    @pytest.mark.parametrize(
        "body",
        [
            pictures(2),
            pictures() | {"data": [{"b64_json": "aGVsbG8=", "url": ""}]},
            pictures() | {"data": [{"b64_json": "?", "url": ""}]},
            pictures() | {"data": [{"b64_json": "", "url": ""}]},
            pictures() | {"code": 1007},
        ],
    )
    async def test_pictures_that_are_none(self, body):
        """As many as were asked for, and really pictures."""
        report = await found(lambda server: setattr(server, "images", say(body)), kind=1)
        assert lines(report, Verdict.FAIL) == {"images"}
        assert "images" not in report.capabilities

    async def test_a_refusal_by_code_alone_is_noted(self):
        """As the interface once had it: status 200 and a code."""
        report = await found(lambda server: setattr(server, "unknown", say({"code": 1007, "message": "no"})))
        assert report.conforms
        assert lines(report, Verdict.NOTE) == {"errors.model"}
        assert "errors" not in report.capabilities

    async def test_nobody_there(self):
        """Every line says so, and nothing is raised."""
        async with httpx.AsyncClient(trust_env=False) as client:
            report = await check(client, Place("http://127.0.0.1:9"), model="m")
        assert not report.conforms
        assert not report.capabilities
        assert all(one.said for one in report.findings)

    async def test_what_a_server_says_is_shown_harmlessly(self):
        """Cut short, on one line, without a terminal's control characters."""
        report = await found(lambda server: setattr(server, "chat", Answer(b"\x1b[31m\n" + b"x" * 5000, 500)))
        said = next(one.said for one in report.findings if one.line == "chat")
        assert said.isprintable()
        assert len(said) <= 200


class TestRoots:
    @pytest.mark.parametrize(
        "url",
        [
            "http://h:1",
            "http://h:1/",
            "http://h:1/v1",
            "http://h:1/v1/",
            "http://h:1/v1/chat/completions",
            "http://h:1/v1/images/generations",
            "http://h:1/v1/images/edits",
            "http://h:1/v1/models",
        ],
    )
    def test_any_of_a_servers_urls_leads_to_its_root(self, url):
        """As it may be registered."""
        assert root(url) == "http://h:1"

    def test_a_folder_above_is_kept(self):
        """Servers may live below a path."""
        assert root("https://h/llm/v1/chat/completions") == "https://h/llm"
