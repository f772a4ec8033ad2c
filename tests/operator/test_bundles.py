"""What an operator says at once, in few messages."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from aos.operator.bundles import BUNDLE_BYTES, bundles
from aos.v1.dispatcher_pb2 import Heartbeat, LeaseChunk, LeaseStarted, OperatorMessage
from aos.v1.operator_pb2 import Chunk

LARGE = "x" * (BUNDLE_BYTES // 2)


def a_chunk(lease: str, text: str = "a") -> OperatorMessage:
    return OperatorMessage(chunk=LeaseChunk(lease=lease, chunk=Chunk(text=text)))


def flat(messages: list[OperatorMessage]) -> list[OperatorMessage]:
    """Return what the messages say, each by itself."""
    single = [one for message in messages for one in message.several.messages or [message]]
    return [
        part for one in single for part in [OperatorMessage(chunk=chunk) for chunk in one.chunks.chunks] or [one]
    ]  # fmt: skip


MESSAGES = st.lists(
    st.one_of(
        st.sampled_from("abc").map(a_chunk),
        st.just(a_chunk("l", LARGE)),
        st.just(a_chunk("l", 3 * LARGE)),
        st.sampled_from("abc").map(lambda lease: OperatorMessage(started=LeaseStarted(lease=lease))),
        st.just(OperatorMessage(heartbeat=Heartbeat())),
    ),
    max_size=20,
)


class TestBundles:
    @given(MESSAGES, st.booleans())
    def test_nothing_changes(self, said, several):
        """Whatever is put into one message, all is said, in the same order."""
        assert flat(list(bundles(said, several=several))) == said

    @given(MESSAGES, st.booleans())
    def test_size(self, said, several):
        """A message that takes others in stays within about its limit; a larger one goes alone."""
        for message in bundles(said, several=several):
            assert message.ByteSize() < BUNDLE_BYTES + 1024 or len(flat([message])) == 1

    def test_all_in_one(self):
        """Short messages go in one, if the dispatcher takes that; if not, chunks that follow each other do."""
        said = [
            OperatorMessage(started=LeaseStarted(lease="a")),
            a_chunk("a"),
            a_chunk("b"),
            OperatorMessage(heartbeat=Heartbeat()),
        ]

        assert [one.WhichOneof("message") for one in bundles(said, several=True)] == ["several"]
        assert [one.WhichOneof("message") for one in bundles(said, several=False)] == ["started", "chunks", "heartbeat"]

    def test_one_alone(self):
        """A single message is sent as it is."""
        said = [OperatorMessage(heartbeat=Heartbeat())]
        assert list(bundles(said, several=True)) == said
