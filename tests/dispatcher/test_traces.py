"""Traces on their way: from the operator's finish, looked at, to whoever asks for the receipt."""

from __future__ import annotations

import pytest

from aos.v1 import dispatcher_pb2 as pb
from aos.v1.operator_pb2 import Finish, Trace
from aos.v1.types_pb2 import FINISH_REASON_STOP
from aos.verification.states import state_root
from tests.dispatcher.conftest import running
from tests.receipts import PROMPT, a_trace

TOKENS = [1, 2, 7]


class TestTrace:
    async def test_kept(self, aos):
        """The receipt's bundle has the trace that the operator sent, and the `state_root` of both is the same."""
        operator, job = await aos.operator(), await aos.submit()
        lease = await operator.lease()
        operator.say(lease, "Yes.", TOKENS)
        operator.finish(lease, "Yes.", TOKENS)
        await aos.until(job, "COMPLETED")

        bundle = await aos.project.GetReceipt(pb.GetReceiptRequest(name=job.name))

        assert bundle.trace == a_trace(TOKENS)
        assert bundle.receipt.state_root == state_root(bundle.receipt, bundle.trace)

    @pytest.mark.parametrize(
        ("trace", "field"),
        [
            (Trace(), "trace"),
            (a_trace(TOKENS[:2]), "trace"),
            (a_trace([1, 2, 8]), "trace"),
            (Trace(prompt_tokens=PROMPT, steps=a_trace(TOKENS).steps + b"x"), "trace"),
            (Trace(prompt_tokens=[1, 2, 4], steps=a_trace(TOKENS).steps), "trace"),
            (Trace(prompt_tokens=PROMPT, steps=a_trace(TOKENS).steps[:-1] + b"\1"), "trace"),
        ],
        ids=["none", "too few steps", "another token", "half a step", "another prompt", "written otherwise"],
    )
    async def test_other_trace(self, tmp_path, trace, field):
        """A trace that is not of the answer is refused before the result counts."""
        assert (await self.refused(tmp_path, trace)).outcome.error.metadata["field"] == field

    async def test_other_root(self, tmp_path):
        """A `state_root` that is not the trace's is refused before the result counts."""
        refused = await self.refused(tmp_path, a_trace(TOKENS), state_root=b"\1" * 32)

        assert refused.outcome.error.metadata["field"] == "state_root"

    async def refused(self, folder, trace, **changes):
        async with running(folder, max_attempts=1) as aos:
            operator, job = await aos.operator(), await aos.submit()
            lease = await operator.lease()
            operator.say(lease, "Yes.", TOKENS)
            finish = Finish(reason=FINISH_REASON_STOP, receipt=operator.receipt(lease, "Yes.", TOKENS, **changes), trace=trace)
            operator.send(finished=pb.LeaseFinished(lease=lease.id, finish=finish))
            return await aos.ends(job)
