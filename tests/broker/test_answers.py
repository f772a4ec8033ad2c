"""Signatures over answers, which any gateway has the broker keep and finds there."""

from __future__ import annotations

import pytest

from aos.broker.requests import check_answer
from aos.client import told
from aos.errors import InvalidField, PermissionDenied
from aos.rpc.channel import channel
from aos.store.broker_answers import SqlAnswerStore
from aos.store.opening import opened
from aos.v1.requests_pb2 import GetAnswerRequest, SignedAnswer
from aos.v1.requests_pb2_grpc import RequestsStub

ADDRESS = "0x" + 40 * "a"


def an_answer(*keys: str, text: str = "aa:bb", **other) -> SignedAnswer:
    return SignedAnswer(**{"keys": keys, "text": text, "signature": b"\x01" * 65, "signing_address": ADDRESS} | other)


class TestStore:
    async def test_by_each_key(self, database_address):
        """A signature is found by either of its keys, also after the database was closed; by no other."""
        answer = an_answer("key", "cmpl-1")
        async with opened(database_address) as database:
            await database.migrate("answers")
            await SqlAnswerStore(database).keep(answer, expiry=100, now=1)
        async with opened(database_address) as database:
            store = SqlAnswerStore(database)
            assert [await store.find(key, now=99) for key in ("key", "cmpl-1", "cmpl-2")] == [answer, answer, None]

    async def test_for_its_time(self, database_address):
        """It is not shown after its time, and leaves the database as others come; again it is kept anew."""
        async with opened(database_address) as database:
            await database.migrate("answers")
            store = SqlAnswerStore(database)
            for number in range(10):
                await store.keep(an_answer(f"{number}"), expiry=100, now=1)
            await store.keep(an_answer("0", text="cc:dd"), expiry=200, now=50)
            assert await store.find("1", now=100) is None
            await store.keep(an_answer("new"), expiry=300, now=100)
            found = await database.transact(lambda tx: tx.execute("SELECT key FROM broker_answers ORDER BY key").fetchall())
            assert [tuple(row) for row in found] == [("0",), ("new",)]
            assert await store.find("0", now=100) == an_answer("0", text="cc:dd")


class TestService:
    async def test_projects_keep_none(self, aos):
        """Only the network's services keep signatures: a project could show what no gateway signed."""
        async with channel(aos.address, aos.token) as opened:
            requests = RequestsStub(opened)
            for call in (requests.KeepAnswer(an_answer("key")), requests.GetAnswer(GetAnswerRequest(key="key"))):
                with pytest.raises(PermissionDenied), told():
                    await call

    @pytest.mark.parametrize(
        "answer",
        [
            an_answer(),
            an_answer("a", "b", "c"),
            an_answer("with space"),
            an_answer("k" * 129),
            an_answer("k", text="x" * 257),
            an_answer("k", text=""),
            an_answer("k", signature=b"1"),
            an_answer("k", signing_address="0x1"),
        ],
    )
    def test_what_none_is(self, answer):
        """Nothing is kept that is larger, or other, than a signature over an answer."""
        with pytest.raises(InvalidField):
            check_answer(answer)
