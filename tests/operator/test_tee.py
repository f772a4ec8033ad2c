"""Where an operator gets its evidence: a command of its image, or a simulation; and what it never speaks for."""

from __future__ import annotations

import asyncio
import base64
import json
import shlex
import sys
from pathlib import Path

import pytest

from aos.errors import BadEvidence, InvalidField
from aos.operator.tee import AT_ONCE, COMMAND_SECONDS, OUTPUT_BYTES, CommandTee, SimulatedEvidence, attest, check_lease, make_tee
from aos.testing.clock import ManualClock
from aos.v1.dispatcher_pb2 import Lease
from aos.v1.types_pb2 import Embedding
from aos.verification.attestation.check import check
from aos.verification.attestation.evidence import DOCUMENT_BYTES, Evidence, Provider
from aos.verification.attestation.policy import Policy
from aos.verification.attestation.simulated import CERTIFICATE_SECONDS, image
from aos.verification.attestation.statement import answer, declare
from aos.verification.attestation.wire import check_signed, read_attestation
from aos.verification.keys import OperatorKey
from aos.verification.receipts import sign
from tests.receipts import a_receipt
from tests.verification.evidence import TDX, published

KEY = OperatorKey.create()
STATEMENT = declare(KEY.address, bytes(range(32)))
POLICY = Policy(images=(image(),), production=False)


def a_command(folder: Path, program: str, *, seconds: float = COMMAND_SECONDS) -> CommandTee:
    """A command that runs this Python program."""
    script = folder / "evidence.py"
    script.write_text(program)
    return CommandTee(Provider.INTEL_TDX, (sys.executable, str(script)), seconds=seconds)


def printing(folder: Path, said: object) -> CommandTee:
    return a_command(folder, f"print({json.dumps(said)!r})")


class TestCommands:
    async def test_it_is_asked_for_the_statement_and_believed_in_form_only(self, tmp_path):
        """It gets report_data and nonce in hex as its arguments; what it prints is handed on, byte for byte."""
        program = (
            "import base64, json, sys\n"
            "said = ' '.join(sys.argv[1:]).encode()\n"
            "print(json.dumps({'document': base64.b64encode(said).decode(), 'collateral': {'tcb_info': 'x'}}))\n"
        )
        evidence = await a_command(tmp_path, program).evidence(STATEMENT)
        said = f"{STATEMENT.report_data.hex()} {STATEMENT.nonce.hex()}".encode()
        assert evidence == Evidence(Provider.INTEL_TDX, said, b'{"tcb_info":"x"}')

    async def test_collateral_may_be_text(self, tmp_path):
        """A published quote with its collateral's very text comes through unchanged."""
        quote = published(TDX)
        said = {"document": base64.b64encode(quote.document).decode(), "collateral": quote.collateral.decode()}
        assert await printing(tmp_path, said).evidence(STATEMENT) == quote

    @pytest.mark.parametrize(
        "said", ["nonsense", 7, {}, {"document": 1}, {"document": "?"}, {"document": "", "collateral": [[]] * 70_000}], ids=str
    )
    async def test_what_is_no_evidence_is_refused(self, tmp_path, said):
        """With what it should have printed, or the limit."""
        with pytest.raises(BadEvidence):
            await printing(tmp_path, said).evidence(STATEMENT)

    async def test_a_document_that_no_reader_takes_is_not_sent(self, tmp_path):
        """The reader's limit is the sender's."""
        said = {"document": base64.b64encode(bytes(DOCUMENT_BYTES + 1)).decode()}
        with pytest.raises(BadEvidence) as refused:
            await printing(tmp_path, said).evidence(STATEMENT)
        assert refused.value.facts["limit"] == str(DOCUMENT_BYTES)

    @pytest.mark.parametrize(
        ("program", "problem"),
        [
            ("import sys; sys.exit('no such device')", "ended with 1"),
            ("import os; os.abort()", "ended with -6"),
            (f"print('x' * {OUTPUT_BYTES})", "printed more than"),
            ("import signal; signal.pause()", "took more than 0.5 s"),
            ("import sys; sys.stderr.write('x' * 1_000_000); print('[]')", "must print"),
        ],
        ids=["fails", "crashes", "floods", "hangs", "complains"],
    )
    async def test_a_command_that_goes_wrong_is_said_to(self, tmp_path, program, problem):
        """It fails, crashes, floods, hangs or complains at length: each time an error, in time, and no process is left."""
        seconds = 0.5 if "pause" in program else COMMAND_SECONDS
        with pytest.raises(BadEvidence) as refused:
            await a_command(tmp_path, program, seconds=seconds).evidence(STATEMENT)
        assert problem in refused.value.message
        assert refused.value.facts["field"] == "tee-command"

    async def test_its_last_words_are_passed_on(self, tmp_path):
        """A person learns what the command complained about."""
        with pytest.raises(BadEvidence) as refused:
            await a_command(tmp_path, "import sys; sys.exit('no such device')").evidence(STATEMENT)
        assert refused.value.facts["value"] == "no such device"

    async def test_one_that_is_not_there(self):
        """The operating system's reason is the error's."""
        with pytest.raises(BadEvidence, match="cannot be run: No such file"):
            await CommandTee(Provider.AWS_NITRO, ("/nowhere/evidence",)).evidence(STATEMENT)

    async def test_few_run_at_once(self, tmp_path):
        """However many answers end together, no more commands run than the hardware's service is asked at once."""
        program = (
            "import base64, json, os, pathlib\n"
            f"now, begun = pathlib.Path({str(tmp_path / 'now')!r}), pathlib.Path({str(tmp_path / 'begun')!r})\n"
            "for folder in (now, begun):\n"
            "    (folder / str(os.getpid())).touch()\n"
            # nobody ends before as many have begun as may run at once
            f"while len(list(begun.iterdir())) < {AT_ONCE}:\n"
            "    os.sched_yield()\n"
            "seen = len(list(now.iterdir()))\n"
            "(now / str(os.getpid())).unlink()\n"
            "print(json.dumps({'document': base64.b64encode(str(seen).encode()).decode()}))\n"
        )
        (tmp_path / "now").mkdir()
        (tmp_path / "begun").mkdir()
        tee = a_command(tmp_path, program)
        found = await asyncio.gather(*(tee.evidence(STATEMENT) for _ in range(3 * AT_ONCE)))
        assert max(int(one.document) for one in found) == AT_ONCE


class TestSimulation:
    async def test_it_is_good_in_development_for_as_long_as_it_runs(self):
        """Its certificate is made anew in time: evidence holds a day later, and bears the warning."""
        clock = ManualClock()
        tee = SimulatedEvidence(clock)
        for hours in (0, CERTIFICATE_SECONDS // 3600, 24):
            clock.advance(hours=hours)
            evidence = await tee.evidence(STATEMENT)
            assert check(evidence, STATEMENT, policy=POLICY, now=int(clock.now().timestamp())).image == "simulated"
            assert b"AOS simulated TEE: proves nothing" in evidence.document

    @pytest.mark.parametrize(("provider", "kind"), [("", type(None)), ("simulated", SimulatedEvidence), ("aws_nitro", CommandTee)])
    def test_settings_say_which(self, provider, kind):
        """None, the simulation, or the command of a real one."""
        assert isinstance(make_tee(provider, shlex.split("evidence --fast"), ManualClock()), kind)


class TestAnswers:
    async def test_evidence_is_signed_for_the_receipt(self):
        """It binds the receipt's answer, and the operator's signature ties it to the receipt."""
        receipt, clock = sign(a_receipt(), KEY), ManualClock()
        message = await attest(SimulatedEvidence(clock), receipt, KEY)
        check_signed(message, receipt)
        now = int(clock.now().timestamp())
        assert check(read_attestation(message), answer(receipt), policy=POLICY, now=now).key == KEY.address

    async def test_an_operator_without_a_tee_says_so(self):
        """A lease that asks it for evidence fails; it makes none up."""
        with pytest.raises(BadEvidence, match="it runs in no enclave"):
            await attest(None, sign(a_receipt(), KEY), KEY)

    @pytest.mark.parametrize("begun", [{"accepted_tokens": [1]}, {"accepted_embeddings": [Embedding(values=[1.0])]}])
    def test_it_speaks_for_nothing_that_was_computed_elsewhere(self, begun):
        """A `tee` lease begins with nothing accepted; other leases may go on behind another operator's tokens."""
        with pytest.raises(InvalidField, match="the answer must begin here"):
            check_lease(Lease(job_type="tee", **begun))
        check_lease(Lease(job_type="tee"))
        check_lease(Lease(**begun))
