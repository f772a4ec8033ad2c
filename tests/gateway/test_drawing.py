"""Mirostat as REST callers ask for it, under llama-server's names."""

from __future__ import annotations

import json

import pytest

from aos.errors import InvalidField
from aos.v1.types_pb2 import Mirostat
from gateway.body import check
from gateway.drawing import Drawing
from gateway.model_errors import failure


def refused(fields: dict) -> tuple[str, str]:
    """The field that is refused, and why."""
    with pytest.raises(InvalidField) as caught:
        check(Drawing, fields).parameters()
    return caught.value.facts["field"], caught.value.message


class TestMirostat:
    def test_off(self):
        """Version 0 asks for nothing, and is the default."""
        for fields in ({}, {"mirostat": 0}):
            assert "mirostat" not in check(Drawing, fields).parameters()

    def test_on(self):
        """Version 2 is the order's mirostat; what is left open there has the order's defaults."""
        fields = {"mirostat": 2, "mirostat_tau": 3.5, "temperature": 0.7}

        found = check(Drawing, fields).parameters()

        assert found["mirostat"] == Mirostat(tau=3.5)
        assert found["temperature"] == 0.7

    @pytest.mark.parametrize(
        ("fields", "field", "says"),
        [
            ({"mirostat": 1}, "mirostat", "must be 0 or 2, not 1"),
            ({"mirostat": True}, "mirostat", "must be 0 or 2"),
            ({"mirostat_tau": 5.0}, "mirostat_tau", "is only for mirostat 2"),
            ({"mirostat": 0, "mirostat_eta": 0.1}, "mirostat_eta", "is only for mirostat 2"),
            ({"mirostat": 2, "mirostat_tau": 0}, "mirostat_tau", "must be above 0"),
        ],
    )
    def test_refused(self, fields, field, says):
        """What would have no effect, or is not offered, is refused by name."""
        name, message = refused(fields)

        assert name == field
        assert says in message

    def test_native_refusals_have_these_names(self):
        """What the order refuses is told under the name that the caller used."""
        body = json.loads(failure(InvalidField("order.sampling.mirostat.tau", "must be at most 20", value=21)).data)

        assert (body["error"]["param"], body["message"]) == ("mirostat_tau", "mirostat_tau: must be at most 20")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
async def test_both_dialects(edge, path):
    """Chats and completions take it and refuse another version."""
    asked = {"messages": [{"role": "user", "content": "Hi"}]} if "chat" in path else {"prompt": "Hi"}
    asked["model"] = "echo"
    async with edge.client() as client:
        reply = await client.post(path, json=asked | {"mirostat": 2, "mirostat_eta": 0.5, "temperature": 0.7})
        other = await client.post(path, json=asked | {"mirostat": 1})

    assert reply.status_code == 200
    (job,) = edge.dispatcher.jobs.values()
    assert job.order.sampling.mirostat == Mirostat(eta=0.5)
    assert (other.status_code, other.json()["error"]["param"]) == (400, "mirostat")
