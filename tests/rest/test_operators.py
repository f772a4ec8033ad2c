"""The jobs dialect's operators: `/api/operator/register` and `/info`."""

from __future__ import annotations

import json
import time

import pytest

from aos.v1.registry_pb2 import GetOperatorRequest, Offer
from aos.v1.types_pb2 import Price
from aos.verification.envelope import personal
from aos.verification.keys import OperatorKey, digest_offers, prove
from tests.rest.test_jobs import TIME

pytestmark = pytest.mark.asyncio(loop_scope="module")

OFFER = {
    "model": "elsewhere",
    "digest": "ab" * 32,
    "context_length": 2048,
    "chat": True,
    "price": {"prompt_token": "1", "completion_token": "2"},
    "slots": 4,
}
ROW = ["id", "name", "address", "start", "end", "operator_type", "status", "created_at", "models", "vrf_key"]


def body(key: OperatorKey, *, action: str = "register", at: int = 0, signer: OperatorKey | None = None, **changes) -> str:
    """A registration as its text, because the signature is over the text."""
    given = [OFFER] if action == "register" else []
    offers = [Offer(**{**one, "price": Price(**one["price"])}) for one in given]
    proof = prove(key, action, offers, issued_at=at or int(time.time()))
    params = {
        "operator": key.address,
        "hash": digest_offers(offers).hex(),
        "signature": proof.signature.hex(),
        "issued_at": proof.issued_at,
        "offers": given,
    } | changes
    text = json.dumps(params)
    signature = (signer or key).sign(personal(text.encode())).hex()
    return f'{{"address": "{key.address}", "signature": "0x{signature}", "params": {text}}}'


async def register(bare, text: str):
    return await bare.post("/api/operator/register", content=text)


class TestRegister:
    async def test_a_signed_registration_is_the_registrys(self, aos_rest, bare):
        """The operator is listed natively with its offers, and shown with every documented key."""
        key = OperatorKey.create()
        reply = await register(bare, body(key))
        assert reply.status_code == 200, reply.text
        row = reply.json()["result"]
        assert list(row) == ROW
        assert row["id"] == row["address"] == key.address.lower()
        assert (row["operator_type"], row["status"], row["models"]) == ("opml", "ready", ["elsewhere"])
        assert TIME.fullmatch(row["created_at"])
        native = await aos_rest.registry.GetOperator(GetOperatorRequest(name=f"operators/{key.address}"))
        assert [offer.slots for offer in native.offers] == [4]

    async def test_without_offers_it_is_kept_alive(self, bare):
        """A renewal of what is there; of what is not, it is refused."""
        key = OperatorKey.create()
        assert (await register(bare, body(key, action="renew"))).status_code == 409
        await register(bare, body(key))
        assert (await register(bare, body(key, action="renew"))).json()["result"]["models"] == ["elsewhere"]

    async def test_a_strangers_signature_is_refused(self, bare):
        """Both signatures must be the operator's own, over just what was sent."""
        key, other = OperatorKey.create(), OperatorKey.create()
        whole = body(key)
        for text in (
            body(key, signer=other),
            whole.replace('"slots": 4', '"slots":  4'),
            whole.replace('"signature": "0x', '"signature": "0xff'),
            body(key, signature="11" * 65),
        ):
            reply = await register(bare, text)
            assert (reply.status_code, reply.json()["result"]) == (401, None), reply.text
        asked = {"operator": key.address}
        assert (await bare.post("/api/operator/info", json=asked)).status_code == 401

    async def test_an_old_signature_is_refused(self, bare):
        """What was signed more than a minute ago may be a replay."""
        reply = await register(bare, body(OperatorKey.create(), at=int(time.time()) - 600))
        assert reply.status_code == 401
        assert "issued" in reply.json()["message"]

    @pytest.mark.parametrize(
        ("changes", "field"),
        [
            ({"hash": "00" * 32}, "params.hash"),
            ({"hash": "short"}, "params.hash"),
            ({"signature": "zz"}, "params.signature"),
            ({"operator": "0x" + "11" * 20}, "address"),
            ({"vrf_key": "zz"}, "params.vrf_key"),
            ({"offers": [{}]}, "params.offers[0].model"),
            ({"issued_at": "now"}, "params.issued_at"),
            ({"extra": 1}, "params.extra"),
        ],
    )
    async def test_a_wrong_field_is_named(self, bare, changes, field):
        """400, and the message begins with the field."""
        reply = await register(bare, body(OperatorKey.create(), **changes))
        assert reply.status_code == 400
        assert reply.json()["message"].startswith(f"{field}: "), reply.text


class TestInfo:
    async def test_an_operator_of_the_network(self, aos_rest, bare):
        """With or without its prefix, in any case."""
        address = aos_rest.operators[0]
        for name in (address, address.upper().replace("0X", "0x"), f"operators/{address}"):
            reply = await bare.post("/api/operator/info", json={"operator": name, "verify": aos_rest.token})
            row = reply.json()["result"]
            assert (row["id"], row["status"], row["models"]) == (address.lower(), "ready", ["scripted"])

    async def test_an_unknown_one_is_404(self, aos_rest, bare):
        """Not null with 200."""
        asked = {"operator": "0x" + "12" * 20, "verify": aos_rest.token}
        assert (await bare.post("/api/operator/info", json=asked)).status_code == 404
        wrong = await bare.post("/api/operator/info", json=asked | {"operator": "me"})
        assert wrong.json()["message"] == "operator: must be 0x and 40 hex digits"
