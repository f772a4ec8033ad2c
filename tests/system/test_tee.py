"""`aos up` with an operator in a simulated TEE, and an operator whose evidence a command prints: real processes, the real model."""

from __future__ import annotations

import asyncio
import base64
import json
import shlex
import sys

from aos.v1 import dispatcher_pb2 as pb
from aos.v1.types_pb2 import Order
from tests.verification.evidence import NITRO, published

SECONDS = 60


async def ended(network, name: str) -> pb.Outcome:
    async with asyncio.timeout(SECONDS):
        async for event in network.dispatcher.WatchJob(pb.WatchJobRequest(name=name)):
            if event.HasField("outcome"):
                return event.outcome
    raise AssertionError("the stream ended without an outcome")


class TestUp:
    async def test_a_tee_job_is_answered_in_development(self, up):
        """Declared, placed, generated, attested, verified: with evidence that says of itself that it proves nothing."""
        async with up("--dev", "--tee", "simulated") as network:
            order = Order(model=network.ready["model"], prompt="What is AI?")
            job = await network.dispatcher.CreateJob(pb.CreateJobRequest(order=order, job_type="tee"))
            outcome = await ended(network, job.name)

        assert outcome.attested.image == "simulated"
        assert outcome.attested.key.lower() == f"0x{outcome.receipt.operator.hex()}"
        assert len(outcome.text) > 20


class TestOperator:
    async def test_one_whose_evidence_is_not_taken_is_told_why(self, up, tmp_path):
        """Its command prints a genuine Nitro document; this network trusts no such program, and the log says so."""
        script = tmp_path / "evidence.py"
        document = base64.b64encode(published(NITRO).document).decode()
        script.write_text(f"print({json.dumps({'document': document})!r})")
        async with up() as network:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "aos", "operator", "--connect", network.ready["grpc"], "--key", str(tmp_path / "key")),
                *("--tee", "aws_nitro", "--tee-command", shlex.join([sys.executable, str(script)])),
                stdin=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
            try:
                assert process.stderr is not None
                async with asyncio.timeout(SECONDS):
                    async for line in process.stderr:
                        if b"is not taken" in line:
                            break
            finally:
                process.terminate()
                await process.communicate()

        assert b"The evidence of aws_nitro is not taken: provider: no image of it is allowed" in line
