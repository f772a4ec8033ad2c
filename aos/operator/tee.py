"""Where an operator in an enclave gets its evidence: from a command of its image, or, for development, from a simulation."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Final, Protocol

from aos.clock import Clock
from aos.errors import BadEvidence, InvalidField
from aos.v1.attestation_pb2 import Attestation
from aos.v1.dispatcher_pb2 import Lease
from aos.v1.receipt_pb2 import Receipt
from aos.verification.attestation.evidence import COLLATERAL_BYTES, DOCUMENT_BYTES, Evidence, Provider
from aos.verification.attestation.simulated import CERTIFICATE_SECONDS, SimulatedTee, measured
from aos.verification.attestation.statement import Statement, answer
from aos.verification.attestation.wire import sign_answer
from aos.verification.keys import OperatorKey

TEE: Final = "tee"
"""The kind of job whose answer must come with evidence."""
COMMAND_SECONDS: Final = 30.0
"""How long the command may take with one statement."""
AT_ONCE: Final = 4
"""Most commands that run at once; more wait for their turn."""
OUTPUT_BYTES: Final = 2 * (DOCUMENT_BYTES + COLLATERAL_BYTES)
"""Most that the command may print: base64 and JSON's escapes take more than the bytes themselves."""
WORDS_BYTES: Final = 500
"""Most bytes of its complaints that are passed on."""
_CHUNK: Final = 64 << 10


class Tee(Protocol):
    """Has statements signed by the hardware that the operator runs in."""

    async def evidence(self, statement: Statement) -> Evidence:
        """Return evidence for the statement. Raises BadEvidence if there is none to be had."""
        ...


class CommandTee:
    """Asks a command, called as `COMMAND REPORT_DATA NONCE`, both in hex, for JSON with `document` (base64) and `collateral`."""

    def __init__(self, provider: Provider, command: Sequence[str], *, seconds: float = COMMAND_SECONDS) -> None:
        self._provider, self._command, self._seconds = provider, tuple(command), seconds
        self._turns = asyncio.Semaphore(AT_ONCE)

    async def evidence(self, statement: Statement) -> Evidence:
        async with self._turns:
            output = await self._asked(statement)
        try:
            said: Any = json.loads(output)
            document, collateral = base64.b64decode(said["document"], validate=True), said.get("collateral", "")
            text = collateral if isinstance(collateral, str) else json.dumps(collateral, separators=(",", ":"))
            evidence = Evidence(self._provider, document, text.encode())
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise self._failed('must print {"document": base64, "collateral": object or text}', output[:WORDS_BYTES]) from error
        evidence.check_size()
        return evidence

    async def _asked(self, statement: Statement) -> bytes:
        try:
            process = await asyncio.create_subprocess_exec(
                *self._command,
                statement.report_data.hex(),
                statement.nonce.hex(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
        except OSError as error:
            raise self._failed(f"cannot be run: {error.strerror}", self._command[0].encode()) from error
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async with asyncio.timeout(self._seconds):
                output, words = await asyncio.gather(_read(process.stdout, OUTPUT_BYTES), _read(process.stderr, WORDS_BYTES))
                code = await process.wait()
        except TimeoutError:
            raise self._failed(f"took more than {self._seconds:g} s", limit=self._seconds) from None
        finally:
            if process.returncode is None:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if code:
            raise self._failed(f"ended with {code}", words)
        if len(output) > OUTPUT_BYTES:
            raise self._failed(f"printed more than {OUTPUT_BYTES} bytes", limit=OUTPUT_BYTES)
        return output

    def _failed(self, problem: str, words: bytes = b"", *, limit: object = "") -> BadEvidence:
        said = " ".join(words.decode(errors="replace").split())
        return BadEvidence(self._provider, "tee-command", f"{problem}: {said}" if said else problem, value=said, limit=limit)


class SimulatedEvidence:
    """Evidence that proves nothing, for development. Production settings refuse it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._tee: SimulatedTee | None = None
        self._born = 0

    async def evidence(self, statement: Statement) -> Evidence:
        # in a thread: signing in COSE takes milliseconds
        return await asyncio.to_thread(self._attest, statement, int(self._clock.now().timestamp()))

    def _attest(self, statement: Statement, now: int) -> Evidence:
        if self._tee is None or now - self._born > CERTIFICATE_SECONDS // 2:
            self._tee, self._born = SimulatedTee(measured(), now=now), now
        return self._tee.attest(statement, now=now)


def check_lease(lease: Lease) -> None:
    """Raise InvalidField for a `tee` lease that goes on behind what was computed elsewhere: that, no enclave can speak for."""
    if lease.job_type == TEE and (lease.accepted_tokens or lease.accepted_embeddings):
        raise InvalidField("lease.job_type", "the answer must begin here: evidence is for what this enclave computed", value=TEE)


def make_tee(provider: str, command: Sequence[str], clock: Clock) -> Tee | None:
    """Return what the operator's settings say: empty, none. They have been checked."""
    if not provider:
        return None
    return SimulatedEvidence(clock) if provider == Provider.SIMULATED else CommandTee(Provider(provider), command)


async def attest(tee: Tee | None, receipt: Receipt, key: OperatorKey) -> Attestation:
    """Return signed evidence that the enclave gave this answer. Raises BadEvidence."""
    if tee is None:
        raise BadEvidence("this operator", "provider", "there is none: it runs in no enclave")
    evidence = await tee.evidence(answer(receipt))
    # in a thread: secp256k1 in Python takes milliseconds
    return await asyncio.to_thread(sign_answer, evidence, receipt, key)


async def _read(stream: asyncio.StreamReader, most: int) -> bytes:
    """Return what the stream gives, to its end, but no more than a byte over ``most`` of it."""
    kept = bytearray()
    while chunk := await stream.read(_CHUNK):
        kept += chunk[: most + 1 - len(kept)]
    return bytes(kept)
