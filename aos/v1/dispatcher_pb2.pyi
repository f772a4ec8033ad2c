import datetime

from aos.v1 import attestation_pb2 as _attestation_pb2
from aos.v1 import errors_pb2 as _errors_pb2
from aos.v1 import operator_pb2 as _operator_pb2
from aos.v1 import receipt_pb2 as _receipt_pb2
from aos.v1 import registry_pb2 as _registry_pb2
from aos.v1 import types_pb2 as _types_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class JobState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    JOB_STATE_UNSPECIFIED: _ClassVar[JobState]
    JOB_STATE_QUEUED: _ClassVar[JobState]
    JOB_STATE_ASSIGNED: _ClassVar[JobState]
    JOB_STATE_RUNNING: _ClassVar[JobState]
    JOB_STATE_COMPLETED: _ClassVar[JobState]
    JOB_STATE_FAILED: _ClassVar[JobState]
    JOB_STATE_CANCELLED: _ClassVar[JobState]
    JOB_STATE_EXPIRED: _ClassVar[JobState]

class RiskTag(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RISK_TAG_UNSPECIFIED: _ClassVar[RiskTag]
    RISK_TAG_SUSPICION: _ClassVar[RiskTag]
    RISK_TAG_MALICIOUS: _ClassVar[RiskTag]

class RiskPosition(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RISK_POSITION_UNSPECIFIED: _ClassVar[RiskPosition]
    RISK_POSITION_BEFORE: _ClassVar[RiskPosition]
    RISK_POSITION_AFTER: _ClassVar[RiskPosition]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_UNCHECKED: _ClassVar[Verdict]
    VERDICT_CHECKED: _ClassVar[Verdict]
    VERDICT_CHALLENGED: _ClassVar[Verdict]

class VrfSuite(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VRF_SUITE_UNSPECIFIED: _ClassVar[VrfSuite]
    VRF_SUITE_DRAFT04: _ClassVar[VrfSuite]

class HealthState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HEALTH_STATE_UNSPECIFIED: _ClassVar[HealthState]
    HEALTH_STATE_HEALTHY: _ClassVar[HealthState]
    HEALTH_STATE_SUSPECT: _ClassVar[HealthState]
    HEALTH_STATE_OPEN: _ClassVar[HealthState]

class ClockOrder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CLOCK_ORDER_UNSPECIFIED: _ClassVar[ClockOrder]
    CLOCK_ORDER_BEFORE: _ClassVar[ClockOrder]
    CLOCK_ORDER_AFTER: _ClassVar[ClockOrder]
    CLOCK_ORDER_EQUAL: _ClassVar[ClockOrder]
    CLOCK_ORDER_CONCURRENT: _ClassVar[ClockOrder]
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_QUEUED: JobState
JOB_STATE_ASSIGNED: JobState
JOB_STATE_RUNNING: JobState
JOB_STATE_COMPLETED: JobState
JOB_STATE_FAILED: JobState
JOB_STATE_CANCELLED: JobState
JOB_STATE_EXPIRED: JobState
RISK_TAG_UNSPECIFIED: RiskTag
RISK_TAG_SUSPICION: RiskTag
RISK_TAG_MALICIOUS: RiskTag
RISK_POSITION_UNSPECIFIED: RiskPosition
RISK_POSITION_BEFORE: RiskPosition
RISK_POSITION_AFTER: RiskPosition
VERDICT_UNSPECIFIED: Verdict
VERDICT_UNCHECKED: Verdict
VERDICT_CHECKED: Verdict
VERDICT_CHALLENGED: Verdict
VRF_SUITE_UNSPECIFIED: VrfSuite
VRF_SUITE_DRAFT04: VrfSuite
HEALTH_STATE_UNSPECIFIED: HealthState
HEALTH_STATE_HEALTHY: HealthState
HEALTH_STATE_SUSPECT: HealthState
HEALTH_STATE_OPEN: HealthState
CLOCK_ORDER_UNSPECIFIED: ClockOrder
CLOCK_ORDER_BEFORE: ClockOrder
CLOCK_ORDER_AFTER: ClockOrder
CLOCK_ORDER_EQUAL: ClockOrder
CLOCK_ORDER_CONCURRENT: ClockOrder

class Project(_message.Message):
    __slots__ = ("name", "created", "display_name", "own_limits", "limits")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    OWN_LIMITS_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    name: str
    created: _timestamp_pb2.Timestamp
    display_name: str
    own_limits: ProjectLimits
    limits: ProjectLimits
    def __init__(self, name: _Optional[str] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., display_name: _Optional[str] = ..., own_limits: _Optional[_Union[ProjectLimits, _Mapping]] = ..., limits: _Optional[_Union[ProjectLimits, _Mapping]] = ...) -> None: ...

class ProjectLimits(_message.Message):
    __slots__ = ("requests_per_minute", "tokens_per_day", "unfinished_jobs", "kept_jobs", "weight")
    REQUESTS_PER_MINUTE_FIELD_NUMBER: _ClassVar[int]
    TOKENS_PER_DAY_FIELD_NUMBER: _ClassVar[int]
    UNFINISHED_JOBS_FIELD_NUMBER: _ClassVar[int]
    KEPT_JOBS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    requests_per_minute: int
    tokens_per_day: int
    unfinished_jobs: int
    kept_jobs: int
    weight: int
    def __init__(self, requests_per_minute: _Optional[int] = ..., tokens_per_day: _Optional[int] = ..., unfinished_jobs: _Optional[int] = ..., kept_jobs: _Optional[int] = ..., weight: _Optional[int] = ...) -> None: ...

class SetProjectLimitsRequest(_message.Message):
    __slots__ = ("name", "limits")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LIMITS_FIELD_NUMBER: _ClassVar[int]
    name: str
    limits: ProjectLimits
    def __init__(self, name: _Optional[str] = ..., limits: _Optional[_Union[ProjectLimits, _Mapping]] = ...) -> None: ...

class CreatedProject(_message.Message):
    __slots__ = ("project", "token")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    project: Project
    token: str
    def __init__(self, project: _Optional[_Union[Project, _Mapping]] = ..., token: _Optional[str] = ...) -> None: ...

class CreateProjectRequest(_message.Message):
    __slots__ = ("project_id", "display_name")
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_NAME_FIELD_NUMBER: _ClassVar[int]
    project_id: str
    display_name: str
    def __init__(self, project_id: _Optional[str] = ..., display_name: _Optional[str] = ...) -> None: ...

class GetProjectRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListProjectsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListProjectsResponse(_message.Message):
    __slots__ = ("projects", "next_page_token")
    PROJECTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    projects: _containers.RepeatedCompositeFieldContainer[Project]
    next_page_token: str
    def __init__(self, projects: _Optional[_Iterable[_Union[Project, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RotateProjectTokenRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class Vrf(_message.Message):
    __slots__ = ("selected", "prompt_hash", "random_value", "verify_pubkey", "proof", "suite")
    SELECTED_FIELD_NUMBER: _ClassVar[int]
    PROMPT_HASH_FIELD_NUMBER: _ClassVar[int]
    RANDOM_VALUE_FIELD_NUMBER: _ClassVar[int]
    VERIFY_PUBKEY_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    SUITE_FIELD_NUMBER: _ClassVar[int]
    selected: bool
    prompt_hash: bytes
    random_value: bytes
    verify_pubkey: bytes
    proof: bytes
    suite: VrfSuite
    def __init__(self, selected: _Optional[bool] = ..., prompt_hash: _Optional[bytes] = ..., random_value: _Optional[bytes] = ..., verify_pubkey: _Optional[bytes] = ..., proof: _Optional[bytes] = ..., suite: _Optional[_Union[VrfSuite, str]] = ...) -> None: ...

class StateRoots(_message.Message):
    __slots__ = ("prompt", "output", "steps")
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    prompt: bytes
    output: bytes
    steps: bytes
    def __init__(self, prompt: _Optional[bytes] = ..., output: _Optional[bytes] = ..., steps: _Optional[bytes] = ...) -> None: ...

class JobResult(_message.Message):
    __slots__ = ("name", "operator", "review", "tag", "position", "result", "vrf", "clock", "signature", "receipt", "reason", "created", "roots")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    REVIEW_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    VRF_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    ROOTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    operator: str
    review: bool
    tag: RiskTag
    position: RiskPosition
    result: str
    vrf: Vrf
    clock: _types_pb2.VectorClock
    signature: str
    receipt: _receipt_pb2.Receipt
    reason: str
    created: _timestamp_pb2.Timestamp
    roots: StateRoots
    def __init__(self, name: _Optional[str] = ..., operator: _Optional[str] = ..., review: _Optional[bool] = ..., tag: _Optional[_Union[RiskTag, str]] = ..., position: _Optional[_Union[RiskPosition, str]] = ..., result: _Optional[str] = ..., vrf: _Optional[_Union[Vrf, _Mapping]] = ..., clock: _Optional[_Union[_types_pb2.VectorClock, _Mapping]] = ..., signature: _Optional[str] = ..., receipt: _Optional[_Union[_receipt_pb2.Receipt, _Mapping]] = ..., reason: _Optional[str] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., roots: _Optional[_Union[StateRoots, _Mapping]] = ...) -> None: ...

class Evidence(_message.Message):
    __slots__ = ("name", "operator", "job", "what", "record", "message", "receipt", "against", "fields", "proves", "created", "attestation", "receipt_roots", "against_roots")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    WHAT_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    AGAINST_FIELD_NUMBER: _ClassVar[int]
    FIELDS_FIELD_NUMBER: _ClassVar[int]
    PROVES_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    ATTESTATION_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_ROOTS_FIELD_NUMBER: _ClassVar[int]
    AGAINST_ROOTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    operator: str
    job: str
    what: str
    record: str
    message: JobResult
    receipt: _receipt_pb2.Receipt
    against: _receipt_pb2.Receipt
    fields: _containers.RepeatedScalarFieldContainer[str]
    proves: bool
    created: _timestamp_pb2.Timestamp
    attestation: _attestation_pb2.Attestation
    receipt_roots: StateRoots
    against_roots: StateRoots
    def __init__(self, name: _Optional[str] = ..., operator: _Optional[str] = ..., job: _Optional[str] = ..., what: _Optional[str] = ..., record: _Optional[str] = ..., message: _Optional[_Union[JobResult, _Mapping]] = ..., receipt: _Optional[_Union[_receipt_pb2.Receipt, _Mapping]] = ..., against: _Optional[_Union[_receipt_pb2.Receipt, _Mapping]] = ..., fields: _Optional[_Iterable[str]] = ..., proves: _Optional[bool] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., attestation: _Optional[_Union[_attestation_pb2.Attestation, _Mapping]] = ..., receipt_roots: _Optional[_Union[StateRoots, _Mapping]] = ..., against_roots: _Optional[_Union[StateRoots, _Mapping]] = ...) -> None: ...

class User(_message.Message):
    __slots__ = ("project", "user", "tag", "jobs_left", "clean_reviews", "clean_reviews_needed")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    JOBS_LEFT_FIELD_NUMBER: _ClassVar[int]
    CLEAN_REVIEWS_FIELD_NUMBER: _ClassVar[int]
    CLEAN_REVIEWS_NEEDED_FIELD_NUMBER: _ClassVar[int]
    project: str
    user: str
    tag: RiskTag
    jobs_left: int
    clean_reviews: int
    clean_reviews_needed: int
    def __init__(self, project: _Optional[str] = ..., user: _Optional[str] = ..., tag: _Optional[_Union[RiskTag, str]] = ..., jobs_left: _Optional[int] = ..., clean_reviews: _Optional[int] = ..., clean_reviews_needed: _Optional[int] = ...) -> None: ...

class JobError(_message.Message):
    __slots__ = ("reason", "message", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    reason: _errors_pb2.ErrorReason
    message: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, reason: _Optional[_Union[_errors_pb2.ErrorReason, str]] = ..., message: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("state", "text", "finish_reason", "stop", "usage", "error", "receipt", "tool_calls", "content", "embeddings", "attested", "pictures")
    STATE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALLS_FIELD_NUMBER: _ClassVar[int]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    ATTESTED_FIELD_NUMBER: _ClassVar[int]
    PICTURES_FIELD_NUMBER: _ClassVar[int]
    state: JobState
    text: str
    finish_reason: _types_pb2.FinishReason
    stop: str
    usage: _types_pb2.Usage
    error: JobError
    receipt: _receipt_pb2.Receipt
    tool_calls: _containers.RepeatedCompositeFieldContainer[_types_pb2.ToolCall]
    content: str
    embeddings: _containers.RepeatedCompositeFieldContainer[_types_pb2.Embedding]
    attested: _attestation_pb2.Attested
    pictures: _containers.RepeatedCompositeFieldContainer[_types_pb2.Picture]
    def __init__(self, state: _Optional[_Union[JobState, str]] = ..., text: _Optional[str] = ..., finish_reason: _Optional[_Union[_types_pb2.FinishReason, str]] = ..., stop: _Optional[str] = ..., usage: _Optional[_Union[_types_pb2.Usage, _Mapping]] = ..., error: _Optional[_Union[JobError, _Mapping]] = ..., receipt: _Optional[_Union[_receipt_pb2.Receipt, _Mapping]] = ..., tool_calls: _Optional[_Iterable[_Union[_types_pb2.ToolCall, _Mapping]]] = ..., content: _Optional[str] = ..., embeddings: _Optional[_Iterable[_Union[_types_pb2.Embedding, _Mapping]]] = ..., attested: _Optional[_Union[_attestation_pb2.Attested, _Mapping]] = ..., pictures: _Optional[_Iterable[_Union[_types_pb2.Picture, _Mapping]]] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("name", "project", "request_id", "order", "user", "annotation", "state", "operator", "attempts", "clock", "created", "ended", "outcome", "priority", "tag", "position", "redundancy", "verdict", "verdict_reason", "deadline", "job_type", "provider")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ANNOTATION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    REDUNDANCY_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    VERDICT_REASON_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_FIELD_NUMBER: _ClassVar[int]
    JOB_TYPE_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    name: str
    project: str
    request_id: str
    order: _types_pb2.Order
    user: str
    annotation: str
    state: JobState
    operator: str
    attempts: int
    clock: _types_pb2.VectorClock
    created: _timestamp_pb2.Timestamp
    ended: _timestamp_pb2.Timestamp
    outcome: Outcome
    priority: int
    tag: RiskTag
    position: RiskPosition
    redundancy: int
    verdict: Verdict
    verdict_reason: str
    deadline: _timestamp_pb2.Timestamp
    job_type: str
    provider: str
    def __init__(self, name: _Optional[str] = ..., project: _Optional[str] = ..., request_id: _Optional[str] = ..., order: _Optional[_Union[_types_pb2.Order, _Mapping]] = ..., user: _Optional[str] = ..., annotation: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ..., operator: _Optional[str] = ..., attempts: _Optional[int] = ..., clock: _Optional[_Union[_types_pb2.VectorClock, _Mapping]] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., outcome: _Optional[_Union[Outcome, _Mapping]] = ..., priority: _Optional[int] = ..., tag: _Optional[_Union[RiskTag, str]] = ..., position: _Optional[_Union[RiskPosition, str]] = ..., redundancy: _Optional[int] = ..., verdict: _Optional[_Union[Verdict, str]] = ..., verdict_reason: _Optional[str] = ..., deadline: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., job_type: _Optional[str] = ..., provider: _Optional[str] = ...) -> None: ...

class CreateJobRequest(_message.Message):
    __slots__ = ("request_id", "order", "user", "annotation", "priority", "tag", "redundancy", "timeout", "job_type", "payment")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ANNOTATION_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    REDUNDANCY_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    JOB_TYPE_FIELD_NUMBER: _ClassVar[int]
    PAYMENT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    order: _types_pb2.Order
    user: str
    annotation: str
    priority: int
    tag: RiskTag
    redundancy: int
    timeout: _duration_pb2.Duration
    job_type: str
    payment: ProviderPayment
    def __init__(self, request_id: _Optional[str] = ..., order: _Optional[_Union[_types_pb2.Order, _Mapping]] = ..., user: _Optional[str] = ..., annotation: _Optional[str] = ..., priority: _Optional[int] = ..., tag: _Optional[_Union[RiskTag, str]] = ..., redundancy: _Optional[int] = ..., timeout: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., job_type: _Optional[str] = ..., payment: _Optional[_Union[ProviderPayment, _Mapping]] = ...) -> None: ...

class ProviderPayment(_message.Message):
    __slots__ = ("provider", "max_fee")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    MAX_FEE_FIELD_NUMBER: _ClassVar[int]
    provider: str
    max_fee: str
    def __init__(self, provider: _Optional[str] = ..., max_fee: _Optional[str] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "user", "states", "model", "created_from", "created_before", "project")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    STATES_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    CREATED_FROM_FIELD_NUMBER: _ClassVar[int]
    CREATED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    user: str
    states: _containers.RepeatedScalarFieldContainer[JobState]
    model: str
    created_from: _timestamp_pb2.Timestamp
    created_before: _timestamp_pb2.Timestamp
    project: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., user: _Optional[str] = ..., states: _Optional[_Iterable[_Union[JobState, str]]] = ..., model: _Optional[str] = ..., created_from: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., created_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., project: _Optional[str] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ExplainJobRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class JobExplanation(_message.Message):
    __slots__ = ("name", "state", "summary", "ahead", "waiting", "operators", "chosen", "not_shown", "choice", "dispatcher")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SUMMARY_FIELD_NUMBER: _ClassVar[int]
    AHEAD_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    OPERATORS_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    NOT_SHOWN_FIELD_NUMBER: _ClassVar[int]
    CHOICE_FIELD_NUMBER: _ClassVar[int]
    DISPATCHER_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: JobState
    summary: str
    ahead: int
    waiting: int
    operators: _containers.RepeatedCompositeFieldContainer[ConsideredOperator]
    chosen: str
    not_shown: int
    choice: str
    dispatcher: str
    def __init__(self, name: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ..., summary: _Optional[str] = ..., ahead: _Optional[int] = ..., waiting: _Optional[int] = ..., operators: _Optional[_Iterable[_Union[ConsideredOperator, _Mapping]]] = ..., chosen: _Optional[str] = ..., not_shown: _Optional[int] = ..., choice: _Optional[str] = ..., dispatcher: _Optional[str] = ...) -> None: ...

class ConsideredOperator(_message.Message):
    __slots__ = ("operator", "free", "reason", "running", "slots", "failed_before", "health", "next_probe")
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    FREE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    FAILED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    NEXT_PROBE_FIELD_NUMBER: _ClassVar[int]
    operator: str
    free: bool
    reason: str
    running: int
    slots: int
    failed_before: bool
    health: HealthState
    next_probe: _timestamp_pb2.Timestamp
    def __init__(self, operator: _Optional[str] = ..., free: _Optional[bool] = ..., reason: _Optional[str] = ..., running: _Optional[int] = ..., slots: _Optional[int] = ..., failed_before: _Optional[bool] = ..., health: _Optional[_Union[HealthState, str]] = ..., next_probe: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListHealthRequest(_message.Message):
    __slots__ = ("model", "page_size", "page_token")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    model: str
    page_size: int
    page_token: str
    def __init__(self, model: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListHealthResponse(_message.Message):
    __slots__ = ("health", "next_page_token", "dispatcher")
    HEALTH_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    DISPATCHER_FIELD_NUMBER: _ClassVar[int]
    health: _containers.RepeatedCompositeFieldContainer[OperatorHealth]
    next_page_token: str
    dispatcher: str
    def __init__(self, health: _Optional[_Iterable[_Union[OperatorHealth, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., dispatcher: _Optional[str] = ...) -> None: ...

class OperatorHealth(_message.Message):
    __slots__ = ("operator", "model", "model_digest", "state", "reason", "attached", "failures", "since", "next_probe", "seconds_per_token", "running", "slots")
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ATTACHED_FIELD_NUMBER: _ClassVar[int]
    FAILURES_FIELD_NUMBER: _ClassVar[int]
    SINCE_FIELD_NUMBER: _ClassVar[int]
    NEXT_PROBE_FIELD_NUMBER: _ClassVar[int]
    SECONDS_PER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    operator: str
    model: str
    model_digest: str
    state: HealthState
    reason: str
    attached: bool
    failures: int
    since: _timestamp_pb2.Timestamp
    next_probe: _timestamp_pb2.Timestamp
    seconds_per_token: float
    running: int
    slots: int
    def __init__(self, operator: _Optional[str] = ..., model: _Optional[str] = ..., model_digest: _Optional[str] = ..., state: _Optional[_Union[HealthState, str]] = ..., reason: _Optional[str] = ..., attached: _Optional[bool] = ..., failures: _Optional[int] = ..., since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., next_probe: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., seconds_per_token: _Optional[float] = ..., running: _Optional[int] = ..., slots: _Optional[int] = ...) -> None: ...

class PurgeJobsRequest(_message.Message):
    __slots__ = ("ended_before", "project", "max_jobs")
    ENDED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    MAX_JOBS_FIELD_NUMBER: _ClassVar[int]
    ended_before: _timestamp_pb2.Timestamp
    project: str
    max_jobs: int
    def __init__(self, ended_before: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., project: _Optional[str] = ..., max_jobs: _Optional[int] = ...) -> None: ...

class PurgeJobsResponse(_message.Message):
    __slots__ = ("purged", "more")
    PURGED_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    purged: int
    more: bool
    def __init__(self, purged: _Optional[int] = ..., more: _Optional[bool] = ...) -> None: ...

class CancelJobRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class WatchJobRequest(_message.Message):
    __slots__ = ("name", "after_sequence")
    NAME_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    after_sequence: int
    def __init__(self, name: _Optional[str] = ..., after_sequence: _Optional[int] = ...) -> None: ...

class JobEvent(_message.Message):
    __slots__ = ("sequence", "state", "chunk", "outcome")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    state: JobState
    chunk: _operator_pb2.Chunk
    outcome: Outcome
    def __init__(self, sequence: _Optional[int] = ..., state: _Optional[_Union[JobState, str]] = ..., chunk: _Optional[_Union[_operator_pb2.Chunk, _Mapping]] = ..., outcome: _Optional[_Union[Outcome, _Mapping]] = ...) -> None: ...

class GetReceiptRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ReceiptBundle(_message.Message):
    __slots__ = ("receipt", "order", "output", "output_tokens", "price", "embeddings", "pictures", "trace", "attestation", "attested")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    PICTURES_FIELD_NUMBER: _ClassVar[int]
    TRACE_FIELD_NUMBER: _ClassVar[int]
    ATTESTATION_FIELD_NUMBER: _ClassVar[int]
    ATTESTED_FIELD_NUMBER: _ClassVar[int]
    receipt: _receipt_pb2.Receipt
    order: _types_pb2.Order
    output: str
    output_tokens: _containers.RepeatedScalarFieldContainer[int]
    price: _types_pb2.Price
    embeddings: _containers.RepeatedCompositeFieldContainer[_types_pb2.Embedding]
    pictures: _containers.RepeatedCompositeFieldContainer[_types_pb2.Picture]
    trace: _operator_pb2.Trace
    attestation: _attestation_pb2.Attestation
    attested: _attestation_pb2.Attested
    def __init__(self, receipt: _Optional[_Union[_receipt_pb2.Receipt, _Mapping]] = ..., order: _Optional[_Union[_types_pb2.Order, _Mapping]] = ..., output: _Optional[str] = ..., output_tokens: _Optional[_Iterable[int]] = ..., price: _Optional[_Union[_types_pb2.Price, _Mapping]] = ..., embeddings: _Optional[_Iterable[_Union[_types_pb2.Embedding, _Mapping]]] = ..., pictures: _Optional[_Iterable[_Union[_types_pb2.Picture, _Mapping]]] = ..., trace: _Optional[_Union[_operator_pb2.Trace, _Mapping]] = ..., attestation: _Optional[_Union[_attestation_pb2.Attestation, _Mapping]] = ..., attested: _Optional[_Union[_attestation_pb2.Attested, _Mapping]] = ...) -> None: ...

class ListResultsRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListResultsResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[JobResult]
    def __init__(self, results: _Optional[_Iterable[_Union[JobResult, _Mapping]]] = ...) -> None: ...

class ListEvidenceRequest(_message.Message):
    __slots__ = ("job", "page_size", "page_token")
    JOB_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    job: str
    page_size: int
    page_token: str
    def __init__(self, job: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListEvidenceResponse(_message.Message):
    __slots__ = ("evidence", "next_page_token")
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    evidence: _containers.RepeatedCompositeFieldContainer[Evidence]
    next_page_token: str
    def __init__(self, evidence: _Optional[_Iterable[_Union[Evidence, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class CompareJobsRequest(_message.Message):
    __slots__ = ("name", "other")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OTHER_FIELD_NUMBER: _ClassVar[int]
    name: str
    other: str
    def __init__(self, name: _Optional[str] = ..., other: _Optional[str] = ...) -> None: ...

class CompareJobsResponse(_message.Message):
    __slots__ = ("order", "clock", "other_clock")
    ORDER_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    OTHER_CLOCK_FIELD_NUMBER: _ClassVar[int]
    order: ClockOrder
    clock: _types_pb2.VectorClock
    other_clock: _types_pb2.VectorClock
    def __init__(self, order: _Optional[_Union[ClockOrder, str]] = ..., clock: _Optional[_Union[_types_pb2.VectorClock, _Mapping]] = ..., other_clock: _Optional[_Union[_types_pb2.VectorClock, _Mapping]] = ...) -> None: ...

class GetUserRequest(_message.Message):
    __slots__ = ("project", "user")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    project: str
    user: str
    def __init__(self, project: _Optional[str] = ..., user: _Optional[str] = ...) -> None: ...

class OperatorMessage(_message.Message):
    __slots__ = ("hello", "heartbeat", "started", "chunk", "finished", "failed", "claimed", "chunks", "several", "offers")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    CLAIMED_FIELD_NUMBER: _ClassVar[int]
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    SEVERAL_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    heartbeat: Heartbeat
    started: LeaseStarted
    chunk: LeaseChunk
    finished: LeaseFinished
    failed: LeaseFailed
    claimed: DrawClaimed
    chunks: LeaseChunks
    several: OperatorMessages
    offers: OffersChanged
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., started: _Optional[_Union[LeaseStarted, _Mapping]] = ..., chunk: _Optional[_Union[LeaseChunk, _Mapping]] = ..., finished: _Optional[_Union[LeaseFinished, _Mapping]] = ..., failed: _Optional[_Union[LeaseFailed, _Mapping]] = ..., claimed: _Optional[_Union[DrawClaimed, _Mapping]] = ..., chunks: _Optional[_Union[LeaseChunks, _Mapping]] = ..., several: _Optional[_Union[OperatorMessages, _Mapping]] = ..., offers: _Optional[_Union[OffersChanged, _Mapping]] = ...) -> None: ...

class OperatorMessages(_message.Message):
    __slots__ = ("messages",)
    MESSAGES_FIELD_NUMBER: _ClassVar[int]
    messages: _containers.RepeatedCompositeFieldContainer[OperatorMessage]
    def __init__(self, messages: _Optional[_Iterable[_Union[OperatorMessage, _Mapping]]] = ...) -> None: ...

class OffersChanged(_message.Message):
    __slots__ = ("offers",)
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    offers: _containers.RepeatedCompositeFieldContainer[_registry_pb2.Offer]
    def __init__(self, offers: _Optional[_Iterable[_Union[_registry_pb2.Offer, _Mapping]]] = ...) -> None: ...

class DispatcherMessage(_message.Message):
    __slots__ = ("challenge", "welcome", "lease", "cancel", "asked")
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    ASKED_FIELD_NUMBER: _ClassVar[int]
    challenge: Challenge
    welcome: Welcome
    lease: Lease
    cancel: CancelLease
    asked: DrawAsked
    def __init__(self, challenge: _Optional[_Union[Challenge, _Mapping]] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., lease: _Optional[_Union[Lease, _Mapping]] = ..., cancel: _Optional[_Union[CancelLease, _Mapping]] = ..., asked: _Optional[_Union[DrawAsked, _Mapping]] = ...) -> None: ...

class Challenge(_message.Message):
    __slots__ = ("nonce", "dispatcher")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    DISPATCHER_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    dispatcher: str
    def __init__(self, nonce: _Optional[bytes] = ..., dispatcher: _Optional[str] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("operator", "signature", "offers")
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    operator: str
    signature: bytes
    offers: _containers.RepeatedCompositeFieldContainer[_registry_pb2.Offer]
    def __init__(self, operator: _Optional[str] = ..., signature: _Optional[bytes] = ..., offers: _Optional[_Iterable[_Union[_registry_pb2.Offer, _Mapping]]] = ...) -> None: ...

class Draw(_message.Message):
    __slots__ = ("job", "prompt_hash", "epoch", "width", "suite")
    JOB_FIELD_NUMBER: _ClassVar[int]
    PROMPT_HASH_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    SUITE_FIELD_NUMBER: _ClassVar[int]
    job: bytes
    prompt_hash: bytes
    epoch: int
    width: int
    suite: VrfSuite
    def __init__(self, job: _Optional[bytes] = ..., prompt_hash: _Optional[bytes] = ..., epoch: _Optional[int] = ..., width: _Optional[int] = ..., suite: _Optional[_Union[VrfSuite, str]] = ...) -> None: ...

class DrawAsked(_message.Message):
    __slots__ = ("draw", "request_digest", "tag")
    DRAW_FIELD_NUMBER: _ClassVar[int]
    REQUEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    draw: Draw
    request_digest: bytes
    tag: RiskTag
    def __init__(self, draw: _Optional[_Union[Draw, _Mapping]] = ..., request_digest: _Optional[bytes] = ..., tag: _Optional[_Union[RiskTag, str]] = ...) -> None: ...

class DrawClaimed(_message.Message):
    __slots__ = ("job", "vrf", "clock", "signature")
    JOB_FIELD_NUMBER: _ClassVar[int]
    VRF_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    job: bytes
    vrf: Vrf
    clock: _types_pb2.VectorClock
    signature: str
    def __init__(self, job: _Optional[bytes] = ..., vrf: _Optional[_Union[Vrf, _Mapping]] = ..., clock: _Optional[_Union[_types_pb2.VectorClock, _Mapping]] = ..., signature: _Optional[str] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("heartbeat_seconds", "takes_several", "token")
    HEARTBEAT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    TAKES_SEVERAL_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    heartbeat_seconds: float
    takes_several: bool
    token: str
    def __init__(self, heartbeat_seconds: _Optional[float] = ..., takes_several: _Optional[bool] = ..., token: _Optional[str] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("clock",)
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    clock: _types_pb2.VectorClock
    def __init__(self, clock: _Optional[_Union[_types_pb2.VectorClock, _Mapping]] = ...) -> None: ...

class Lease(_message.Message):
    __slots__ = ("id", "job", "order", "accepted_tokens", "clock", "accepted_text_bytes", "tenant", "priority", "seconds", "traceparent", "accepted_embeddings", "accepted_pictures", "draw", "tag", "job_type")
    ID_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_TOKENS_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_TEXT_BYTES_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_PICTURES_FIELD_NUMBER: _ClassVar[int]
    DRAW_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    JOB_TYPE_FIELD_NUMBER: _ClassVar[int]
    id: str
    job: bytes
    order: _types_pb2.Order
    accepted_tokens: _containers.RepeatedScalarFieldContainer[int]
    clock: _types_pb2.VectorClock
    accepted_text_bytes: int
    tenant: str
    priority: int
    seconds: float
    traceparent: str
    accepted_embeddings: _containers.RepeatedCompositeFieldContainer[_types_pb2.Embedding]
    accepted_pictures: _containers.RepeatedCompositeFieldContainer[_types_pb2.Picture]
    draw: Draw
    tag: RiskTag
    job_type: str
    def __init__(self, id: _Optional[str] = ..., job: _Optional[bytes] = ..., order: _Optional[_Union[_types_pb2.Order, _Mapping]] = ..., accepted_tokens: _Optional[_Iterable[int]] = ..., clock: _Optional[_Union[_types_pb2.VectorClock, _Mapping]] = ..., accepted_text_bytes: _Optional[int] = ..., tenant: _Optional[str] = ..., priority: _Optional[int] = ..., seconds: _Optional[float] = ..., traceparent: _Optional[str] = ..., accepted_embeddings: _Optional[_Iterable[_Union[_types_pb2.Embedding, _Mapping]]] = ..., accepted_pictures: _Optional[_Iterable[_Union[_types_pb2.Picture, _Mapping]]] = ..., draw: _Optional[_Union[Draw, _Mapping]] = ..., tag: _Optional[_Union[RiskTag, str]] = ..., job_type: _Optional[str] = ...) -> None: ...

class CancelLease(_message.Message):
    __slots__ = ("lease",)
    LEASE_FIELD_NUMBER: _ClassVar[int]
    lease: str
    def __init__(self, lease: _Optional[str] = ...) -> None: ...

class LeaseStarted(_message.Message):
    __slots__ = ("lease", "clock")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    lease: str
    clock: _types_pb2.VectorClock
    def __init__(self, lease: _Optional[str] = ..., clock: _Optional[_Union[_types_pb2.VectorClock, _Mapping]] = ...) -> None: ...

class LeaseChunk(_message.Message):
    __slots__ = ("lease", "chunk")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    lease: str
    chunk: _operator_pb2.Chunk
    def __init__(self, lease: _Optional[str] = ..., chunk: _Optional[_Union[_operator_pb2.Chunk, _Mapping]] = ...) -> None: ...

class LeaseChunks(_message.Message):
    __slots__ = ("chunks",)
    CHUNKS_FIELD_NUMBER: _ClassVar[int]
    chunks: _containers.RepeatedCompositeFieldContainer[LeaseChunk]
    def __init__(self, chunks: _Optional[_Iterable[_Union[LeaseChunk, _Mapping]]] = ...) -> None: ...

class LeaseFinished(_message.Message):
    __slots__ = ("lease", "finish", "vrf", "signature", "attestation")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    VRF_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    ATTESTATION_FIELD_NUMBER: _ClassVar[int]
    lease: str
    finish: _operator_pb2.Finish
    vrf: Vrf
    signature: str
    attestation: _attestation_pb2.Attestation
    def __init__(self, lease: _Optional[str] = ..., finish: _Optional[_Union[_operator_pb2.Finish, _Mapping]] = ..., vrf: _Optional[_Union[Vrf, _Mapping]] = ..., signature: _Optional[str] = ..., attestation: _Optional[_Union[_attestation_pb2.Attestation, _Mapping]] = ...) -> None: ...

class LeaseFailed(_message.Message):
    __slots__ = ("lease", "error", "retryable")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    lease: str
    error: JobError
    retryable: bool
    def __init__(self, lease: _Optional[str] = ..., error: _Optional[_Union[JobError, _Mapping]] = ..., retryable: _Optional[bool] = ...) -> None: ...
