"""Every failure that a caller can act on: one class a row of ``ErrorReason`` in protos/aos/v1/errors.proto."""

from __future__ import annotations

from typing import Final

from aos.failure import AosError as AosError
from aos.failure import Violation as Violation
from aos.money_errors import AccountNotFound as AccountNotFound
from aos.money_errors import BadSettlement as BadSettlement
from aos.money_errors import ChainRefused as ChainRefused
from aos.money_errors import HoldNotFound as HoldNotFound
from aos.money_errors import HoldSettled as HoldSettled
from aos.money_errors import InsufficientBalance as InsufficientBalance
from aos.money_errors import LedgerExists as LedgerExists
from aos.money_errors import LedgerLimit as LedgerLimit
from aos.money_errors import LedgerNotEmpty as LedgerNotEmpty
from aos.money_errors import LedgerNotFound as LedgerNotFound
from aos.money_errors import NoChain as NoChain
from aos.money_errors import ReceiptNotPaid as ReceiptNotPaid
from aos.money_errors import ReceiptUsed as ReceiptUsed
from aos.money_errors import SettlementNotFound as SettlementNotFound
from aos.money_errors import SignerChangedRecently as SignerChangedRecently
from aos.money_errors import SignerNotAcknowledged as SignerNotAcknowledged
from aos.money_errors import TransactionPending as TransactionPending
from aos.request_errors import BadHeader as BadHeader
from aos.request_errors import BodyChanged as BodyChanged
from aos.request_errors import FeeTooLow as FeeTooLow
from aos.request_errors import OtherChain as OtherChain
from aos.request_errors import OtherProvider as OtherProvider
from aos.request_errors import RequestExpired as RequestExpired
from aos.request_errors import RequestReplayed as RequestReplayed
from aos.request_errors import RequestSignature as RequestSignature
from aos.request_errors import SignatureHighS as SignatureHighS
from aos.request_errors import WalletNotAuthorized as WalletNotAuthorized

SHOWN: Final = 100
"""Most characters of a bad value that an error repeats."""


class InvalidField(AosError):
    """A field is missing, malformed or out of range."""

    reason, code = "INVALID_FIELD", "INVALID_ARGUMENT"

    def __init__(self, field: str, problem: str, *, value: object = "", limit: object = "") -> None:
        shown = str(value)
        shown = shown if len(shown) <= SHOWN else f"{shown[: SHOWN - 3]}..."
        super().__init__(f"{field}: {problem}", field=field, value=shown, limit=limit)
        self.violations = (Violation(field, problem),)


class Unauthenticated(AosError):
    """No token, or one that nobody holds."""

    reason, code = "UNAUTHENTICATED", "UNAUTHENTICATED"

    def __init__(self, message: str = "Send a valid token as 'authorization: Bearer <token>'.") -> None:
        super().__init__(message)


class PermissionDenied(AosError):
    """The caller is known and may not do this."""

    reason, code = "PERMISSION_DENIED", "PERMISSION_DENIED"

    def __init__(self, needs: str) -> None:
        super().__init__(f"This needs {needs}.", needs=needs)


class ProjectNotFound(AosError):
    """No such project."""

    reason, code = "PROJECT_NOT_FOUND", "NOT_FOUND"

    def __init__(self, project: str) -> None:
        super().__init__(f"There is no project {project!r}.", project=project)


class ProjectExists(AosError):
    """A project of that id exists already."""

    reason, code = "PROJECT_EXISTS", "ALREADY_EXISTS"

    def __init__(self, project: str) -> None:
        super().__init__(f"There is a project {project!r} already.", project=project)


class JobNotFound(AosError):
    """No such job, or one of another project."""

    reason, code = "JOB_NOT_FOUND", "NOT_FOUND"

    def __init__(self, job: str) -> None:
        super().__init__(f"There is no job {job!r} of this project.", job=job)


class ReceiptNotFound(AosError):
    """The job has no receipt."""

    reason, code = "RECEIPT_NOT_FOUND", "NOT_FOUND"

    def __init__(self, job: str, state: str) -> None:
        super().__init__(f"{job!r} is {state} and has no receipt; only completed jobs have one.", job=job, state=state)


class RequestIdReused(AosError):
    """A request_id came back with other contents."""

    reason, code = "REQUEST_ID_REUSED", "ALREADY_EXISTS"

    def __init__(self, request_id: str, job: str) -> None:
        super().__init__(
            f"request_id {request_id!r} already made {job!r}; send a new one for new contents.", requestId=request_id, job=job
        )


class ModelNotFound(AosError):
    """No operator has ever offered that model."""

    reason, code = "MODEL_NOT_FOUND", "NOT_FOUND"

    def __init__(self, model: str, offered: str) -> None:
        super().__init__(f"There is no model {model!r}; there are: {offered or 'none'}.", model=model, offered=offered)


class ModelUnavailable(AosError):
    """The model is known and no operator can run it now."""

    reason, code = "MODEL_UNAVAILABLE", "UNAVAILABLE"
    retry_after = 5.0

    def __init__(self, model: str, why: str) -> None:
        super().__init__(f"No operator can run {model!r} now: {why}.", model=model, why=why)


class ContextOverflow(AosError):
    """Prompt and answer together do not fit into the model's context."""

    reason, code = "CONTEXT_OVERFLOW", "INVALID_ARGUMENT"

    def __init__(self, model: str, prompt_tokens: int, limit: int, *, field: str = "") -> None:
        """``field``: which of several texts it is, none of which has an answer."""
        what = f"{field} has {prompt_tokens} tokens; {model!r} holds {limit}." if field else (
            f"The prompt has {prompt_tokens} tokens; {model!r} holds {limit} tokens of prompt and answer together."
        )  # fmt: skip
        super().__init__(what, model=model, promptTokens=prompt_tokens, limit=limit, field=field)


class ModelUnsuitable(AosError):
    """The model cannot do what the order asks."""

    reason, code = "MODEL_UNSUITABLE", "INVALID_ARGUMENT"

    def __init__(self, model: str, needs: str) -> None:
        super().__init__(f"{model!r} cannot do this: it has no {needs}.", model=model, needs=needs)


class QueueFull(AosError):
    """A queue is full."""

    reason, code = "QUEUE_FULL", "RESOURCE_EXHAUSTED"
    retry_after = 1.0

    def __init__(self, queue: str, limit: int, *, retry_after: float = retry_after) -> None:
        super().__init__(f"The queue {queue!r} is full ({limit}); try again in a moment.", queue=queue, limit=limit)
        self.retry_after = retry_after


class QuotaExceeded(AosError):
    """The project has used up what it may use in a time."""

    reason, code = "QUOTA_EXCEEDED", "RESOURCE_EXHAUSTED"

    def __init__(self, project: str, quota: str, limit: int, *, retry_after: float) -> None:
        super().__init__(
            f"{project!r} has used up its {quota} ({limit}); try again in {retry_after:.0f} s.",
            project=project, quota=quota, limit=limit,
        )  # fmt: skip
        self.retry_after = retry_after


class OperatorNotFound(AosError):
    """No such operator."""

    reason, code = "OPERATOR_NOT_FOUND", "NOT_FOUND"

    def __init__(self, operator: str) -> None:
        super().__init__(f"There is no operator {operator!r}.", operator=operator)


class LeaseExpired(AosError):
    """The operator's registration has lapsed."""

    reason, code = "LEASE_EXPIRED", "FAILED_PRECONDITION"

    def __init__(self, operator: str) -> None:
        super().__init__(f"The registration of {operator!r} has lapsed; register again.", operator=operator)


class BadSignature(AosError):
    """A signature does not recover to the address that it claims, or is out of date."""

    reason, code = "BAD_SIGNATURE", "UNAUTHENTICATED"

    def __init__(self, claimed: str, why: str) -> None:
        super().__init__(f"The signature said to be of {claimed!r} is not good: {why}.", claimed=claimed, why=why)


class BadReceipt(AosError):
    """A receipt contradicts the job that it is for."""

    reason, code = "BAD_RECEIPT", "INVALID_ARGUMENT"

    def __init__(self, job: str, field: str, problem: str) -> None:
        super().__init__(f"The receipt for {job!r} is not good: {field}: {problem}.", job=job, field=field)


class BadProof(AosError):
    """A VRF proof or key is not what it is said to be."""

    reason, code = "BAD_PROOF", "INVALID_ARGUMENT"

    def __init__(self, key: bytes, why: str) -> None:
        shown = key.hex() if len(key) <= SHOWN // 2 else f"{len(key)} bytes"
        super().__init__(f"The VRF proof said to be of the key {shown!r} is not good: {why}.", key=shown, why=why)


class BadEvidence(AosError):
    """Evidence of trusted execution is not what it is said to be, or not good enough."""

    reason, code = "BAD_EVIDENCE", "INVALID_ARGUMENT"

    def __init__(self, provider: str, field: str, problem: str, *, value: object = "", limit: object = "") -> None:
        shown = str(value)
        shown = shown if len(shown) <= SHOWN else f"{shown[: SHOWN - 3]}..."
        super().__init__(
            f"The evidence of {provider} is not taken: {field}: {problem}.",
            provider=provider, field=field, value=shown, limit=limit,
        )  # fmt: skip


class BlobNotFound(AosError):
    """No such file of this project, or none any more."""

    reason, code = "BLOB_NOT_FOUND", "NOT_FOUND"

    def __init__(self, blob: str) -> None:
        super().__init__(f"There is no file {blob!r} of this project, or none any more.", blob=blob)


class ControllerNotFound(AosError):
    """No such controller, or no such tag."""

    reason, code = "CONTROLLER_NOT_FOUND", "NOT_FOUND"

    def __init__(self, controller: str) -> None:
        super().__init__(f"There is no controller {controller!r}.", controller=controller)


class ControllerInUse(AosError):
    """A controller cannot be deleted while something names it."""

    reason, code = "CONTROLLER_IN_USE", "FAILED_PRECONDITION"

    def __init__(self, controller: str, holder: str) -> None:
        super().__init__(f"{controller!r} cannot be deleted: {holder}.", controller=controller, holder=holder)


class StorageFull(AosError):
    """The project keeps as much as it may."""

    reason, code = "STORAGE_FULL", "RESOURCE_EXHAUSTED"

    def __init__(self, project: str, quota: str, limit: int) -> None:
        super().__init__(f"{project!r} keeps as many {quota} as it may ({limit}).", project=project, quota=quota, limit=limit)


class OperatorLost(AosError):
    """Operators were lost or failed as often as is tolerated."""

    reason, code = "OPERATOR_LOST", "UNAVAILABLE"

    def __init__(self, job: str, attempts: int) -> None:
        super().__init__(f"{job!r} was tried {attempts} times and each operator was lost.", job=job, attempts=attempts)


class EngineFailed(AosError):
    """The operator's engine failed on this request."""

    reason, code = "ENGINE_FAILED", "INTERNAL"

    def __init__(self, model: str, problem: str = "the engine could not go on") -> None:
        super().__init__(f"Running {model!r} failed: {problem}.", model=model)


class AnswerBroken(AosError):
    """An answer broke off after a part of it was sent, and nobody can go on with it."""

    reason, code = "ANSWER_BROKEN", "ABORTED"

    def __init__(self, model: str, why: str) -> None:
        super().__init__(
            f"The answer of {model!r} broke off, and nobody can go on with it: {why}. Ask again.", model=model, why=why
        )


class ShuttingDown(AosError):
    """The operator is going away."""

    reason, code = "SHUTTING_DOWN", "UNAVAILABLE"
    retry_after = 1.0

    def __init__(self) -> None:
        super().__init__("This operator is shutting down.")


class Deadline(AosError):
    """The job ran out of time."""

    reason, code = "DEADLINE", "DEADLINE_EXCEEDED"

    def __init__(self, job: str, limit: float) -> None:
        super().__init__(f"{job!r} was not done within {limit:g} s.", job=job, limit=f"{limit:g}")


class ServiceUnavailable(AosError):
    """A service that this one needs does not answer."""

    reason, code = "SERVICE_UNAVAILABLE", "UNAVAILABLE"
    retry_after = 1.0

    def __init__(self, service: str) -> None:
        super().__init__(f"The {service} does not answer.", service=service)


class JobCancelled(AosError):
    """The job was cancelled before it had an answer."""

    reason, code = "JOB_CANCELLED", "CANCELLED"

    def __init__(self, job: str) -> None:
        super().__init__(f"{job!r} was cancelled.", job=job)


REASONS: dict[str, type[AosError]] = {cls.reason: cls for cls in AosError.__subclasses__()}
"""Every class by its reason."""
