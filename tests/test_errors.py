from __future__ import annotations

import contextlib
import inspect
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from google.rpc import code_pb2

from aos import errors
from aos.errors import REASONS, AosError
from aos.rpc.auth import Caller, FixedTokens
from aos.rpc.channel import channel
from aos.rpc.server import Service, serving
from aos.rpc.status import from_rpc_error, to_status
from aos.v1 import dispatcher_pb2, dispatcher_pb2_grpc, errors_pb2

EXAMPLES: dict[type[AosError], AosError] = {
    type(error): error
    for error in (
        errors.InvalidField("order.model", "must have 1 to 128 characters", value="ü" * 200, limit=128),
        errors.Unauthenticated(),
        errors.PermissionDenied("the admin token"),
        errors.ProjectNotFound("projects/p"),
        errors.ProjectExists("projects/p"),
        errors.JobNotFound("jobs/1"),
        errors.BlobNotFound("blobs/1"),
        errors.ControllerNotFound("jsctrl-latest"),
        errors.ControllerInUse("controllers/07", "the tag 'mine' stands for it"),
        errors.StorageFull("projects/p", "controllers", 100),
        errors.ReceiptNotFound("jobs/1", "RUNNING"),
        errors.RequestIdReused("r1", "jobs/1"),
        errors.ModelNotFound("m", "a, b"),
        errors.ModelUnavailable("m", "lease expired 12 s ago"),
        errors.ContextOverflow("m", 2000, 1024),
        errors.ModelUnsuitable("m", "chat template"),
        errors.QueueFull("jobs", 100),
        errors.QuotaExceeded("projects/p", "tokens per day", 1000, retry_after=60),
        errors.InsufficientBalance("projects/p", 10**30, 10**31),
        errors.AccountNotFound("accounts/p"),
        errors.HoldNotFound("holds/1"),
        errors.HoldSettled("holds/1", "released"),
        errors.LedgerNotFound("accounts/p"),
        errors.LedgerExists("accounts/p"),
        errors.LedgerNotEmpty("accounts/p", 10**30),
        errors.LedgerLimit("accounts/p", "inference sub-accounts", 50),
        errors.SignerNotAcknowledged("accounts/p", "0x1", "0x2"),
        errors.SignerChangedRecently("0x1", "0x2", retry_after=60),
        errors.ReceiptUsed("ab", "paid"),
        errors.ReceiptNotPaid("ab"),
        errors.SettlementNotFound("settlements/1"),
        errors.ChainRefused("ledger: exists already"),
        errors.TransactionPending("batch/1", 60),
        errors.NoChain(),
        errors.BadSettlement("receipts/1", "it leads to another root"),
        errors.BadHeader("Nonce", "is missing"),
        errors.RequestReplayed("0x1", 7),
        errors.RequestExpired(100, 200, 86_400),
        errors.OtherChain(1, 31_337),
        errors.OtherProvider("0x1", "m"),
        errors.BodyChanged("0x1", "0x2"),
        errors.RequestSignature("0x1", "another key made it"),
        errors.WalletNotAuthorized("accounts/p", "0x1"),
        errors.SignatureHighS(),
        errors.FeeTooLow(10, 20),
        errors.OperatorNotFound("operators/0x1"),
        errors.LeaseExpired("0x1"),
        errors.BadSignature("0x1", "it is malformed"),
        errors.BadReceipt("jobs/1", "price", "is too high"),
        errors.BadProof(bytes(32), "the key is a point of small order"),
        errors.BadEvidence("intel_tdx", "tcb_status", "is OutOfDate; taken: UpToDate", value="OutOfDate", limit="UpToDate"),
        errors.OperatorLost("jobs/1", 5),
        errors.EngineFailed("m"),
        errors.AnswerBroken("m", "its stream ends in mid-answer"),
        errors.ShuttingDown(),
        errors.Deadline("jobs/1", 600),
        errors.ServiceUnavailable("broker"),
        errors.JobCancelled("jobs/1"),
    )
}
"""One of each."""


class Raising(dispatcher_pb2_grpc.DispatcherServicer):
    """Raises what it is given; a stream raises after its first message."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    async def GetJob(self, request, context):
        raise self._error

    async def WatchJob(self, request, context):
        yield dispatcher_pb2.JobEvent(sequence=1)
        raise self._error


async def anyone(token: str) -> Caller | None:
    return None


@asynccontextmanager
async def raising(error: Exception) -> AsyncGenerator[dispatcher_pb2_grpc.DispatcherAsyncStub]:
    """A real server whose methods raise the error, and a stub that calls it."""
    descriptor = dispatcher_pb2.DESCRIPTOR.services_by_name["Dispatcher"]
    service = Service(descriptor, dispatcher_pb2_grpc.add_DispatcherServicer_to_server, Raising(error))
    tokens = FixedTokens(admin="admin", service="", otherwise=anyone)
    async with (
        serving(service, authenticate=tokens, grace=0) as (port,),
        channel(f"127.0.0.1:{port}", "admin") as opened,
    ):
        yield dispatcher_pb2_grpc.DispatcherStub(opened)


def parts(error: AosError) -> dict[str, object]:
    return {
        "class": type(error),
        "code": error.code,
        "message": error.message,
        "text": str(error),
        "facts": error.facts,
        "violations": error.violations,
        "retry_after": error.retry_after,
    }


async def get(stub: dispatcher_pb2_grpc.DispatcherAsyncStub) -> None:
    await stub.GetJob(dispatcher_pb2.GetJobRequest())


async def watch(stub: dispatcher_pb2_grpc.DispatcherAsyncStub) -> None:
    async for _ in stub.WatchJob(dispatcher_pb2.WatchJobRequest()):
        pass


class TestReasons:
    def test_classes_and_enum_are_the_same_set(self):
        """Every reason of the API has its class, and every class its reason."""
        named = {name.removeprefix("ERROR_REASON_") for name in errors_pb2.ErrorReason.keys()} - {"UNSPECIFIED"}  # noqa: SIM118  # an enum wrapper
        classes = [
            one for _, one in inspect.getmembers(errors, inspect.isclass) if issubclass(one, AosError) and one is not AosError
        ]

        assert {one.reason for one in classes} == named == set(REASONS)
        assert len(classes) == len(named)

    @pytest.mark.parametrize("kind", REASONS.values())
    def test_every_code_is_a_google_code(self, kind):
        """A class's code is one of google.rpc.Code's, and never OK."""
        assert code_pb2.Code.Value(kind.code) > 0

    def test_every_class_has_its_example_here(self):
        """A new error joins the round trip below, or this fails."""
        assert set(EXAMPLES) == set(REASONS.values())

    @pytest.mark.parametrize("error", EXAMPLES.values(), ids=lambda error: error.reason)
    def test_facts_are_those_that_the_api_promises(self, error):
        """The metadata keys are the ones named in the reason's comment in errors.proto."""
        promised = PROMISED[error.reason]
        assert set(error.facts) == promised


def _promised() -> dict[str, set[str]]:
    """Read `Metadata: ...` from the comments of errors.proto."""
    found: dict[str, set[str]] = {}
    comment = ""
    for line in (Path(__file__).parent.parent / "protos/aos/v1/errors.proto").read_text().splitlines():
        text = line.strip()
        if text.startswith("//"):
            comment += f" {text[2:].strip()}"
            continue
        match = re.match(r"ERROR_REASON_(\w+) = ", text)
        if match and match[1] != "UNSPECIFIED":
            listed = comment.partition("Metadata:")[2]
            found[match[1]] = set(re.findall(r"`(\w+)`", listed))
        comment = ""
    return found


PROMISED = _promised()


class TestRoundTrip:
    @pytest.mark.parametrize("call", [get, watch])
    @pytest.mark.parametrize("error", EXAMPLES.values(), ids=lambda error: error.reason)
    async def test_a_client_gets_the_error_that_was_raised(self, error, call):
        """Class, code, message, facts, violations and delay cross the wire whole, from calls and from streams."""
        async with raising(error) as stub:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(stub)

        assert caught.value.code().name == error.code
        received = from_rpc_error(caught.value)
        assert received is not None
        assert parts(received) == parts(error)

    @pytest.mark.parametrize("size", [2_000, 100_000])
    @pytest.mark.parametrize("character", ["x", "ü"])
    async def test_an_error_never_outgrows_the_wire(self, size, character):
        """However long the value that an error repeats, the error itself arrives; long values are cut."""
        async with raising(errors.JobNotFound(character * size)) as stub:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await get(stub)

        received = from_rpc_error(caught.value)
        assert isinstance(received, errors.JobNotFound)
        assert received.facts["job"].startswith(character * 200)
        assert len(received.facts["job"]) < size

    async def test_a_bug_shows_nothing_of_itself(self, caplog):
        """Any other exception is INTERNAL for the caller; its words go to the log alone."""
        async with raising(RuntimeError("the password is x")) as stub:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await get(stub)

        assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INTERNAL, "Internal error.")
        assert from_rpc_error(caught.value) is None
        assert "the password is x" in caplog.text

    async def test_a_server_that_is_gone(self):
        """No answer at all is SERVICE_UNAVAILABLE, with a time to try again."""
        async with raising(RuntimeError()) as stub:
            pass
        async with channel("127.0.0.1:1") as opened:
            stub = dispatcher_pb2_grpc.DispatcherStub(opened)
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await get(stub)

        received = from_rpc_error(caught.value)
        assert isinstance(received, errors.ServiceUnavailable)
        assert received.retry_after

    async def test_other_peoples_statuses_are_left_alone(self):
        """A status without our domain is nobody's AosError."""
        async with serving(authenticate=anyone, grace=0) as (port,), channel(f"127.0.0.1:{port}") as opened:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await get(dispatcher_pb2_grpc.DispatcherStub(opened))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert from_rpc_error(caught.value) is None

    async def test_a_refusal_from_behind_is_passed_on(self):
        """What a service behind a service refuses reaches the caller as it was said."""
        error = EXAMPLES[errors.InsufficientBalance]

        class Front(Raising):
            async def GetJob(self, request, context):
                async with raising(error) as stub:
                    return await stub.GetJob(request)

        descriptor = dispatcher_pb2.DESCRIPTOR.services_by_name["Dispatcher"]
        service = Service(descriptor, dispatcher_pb2_grpc.add_DispatcherServicer_to_server, Front(error))
        async with contextlib.AsyncExitStack() as stack:
            tokens = FixedTokens(admin="admin", service="", otherwise=anyone)
            (port,) = await stack.enter_async_context(serving(service, authenticate=tokens, grace=0))
            opened = await stack.enter_async_context(channel(f"127.0.0.1:{port}", "admin"))
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await get(dispatcher_pb2_grpc.DispatcherStub(opened))
        received = from_rpc_error(caught.value)
        assert received is not None
        assert parts(received) == parts(error)

    def test_a_status_can_be_read_by_any_client(self):
        """The first detail is a google.rpc.ErrorInfo of our domain."""
        status = to_status(EXAMPLES[errors.QueueFull])
        assert [one.type_url.rpartition("/")[2] for one in status.details] == ["google.rpc.ErrorInfo", "google.rpc.RetryInfo"]
