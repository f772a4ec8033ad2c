import datetime

from aos.v1 import errors_pb2 as _errors_pb2
from aos.v1 import operator_pb2 as _operator_pb2
from aos.v1 import receipt_pb2 as _receipt_pb2
from aos.v1 import registry_pb2 as _registry_pb2
from aos.v1 import types_pb2 as _types_pb2
from google.api import annotations_pb2 as _annotations_pb2
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
JOB_STATE_UNSPECIFIED: JobState
JOB_STATE_QUEUED: JobState
JOB_STATE_ASSIGNED: JobState
JOB_STATE_RUNNING: JobState
JOB_STATE_COMPLETED: JobState
JOB_STATE_FAILED: JobState
JOB_STATE_CANCELLED: JobState
JOB_STATE_EXPIRED: JobState

class Project(_message.Message):
    __slots__ = ("name", "created")
    NAME_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    name: str
    created: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CreatedProject(_message.Message):
    __slots__ = ("project", "token")
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    project: Project
    token: str
    def __init__(self, project: _Optional[_Union[Project, _Mapping]] = ..., token: _Optional[str] = ...) -> None: ...

class CreateProjectRequest(_message.Message):
    __slots__ = ("project_id",)
    PROJECT_ID_FIELD_NUMBER: _ClassVar[int]
    project_id: str
    def __init__(self, project_id: _Optional[str] = ...) -> None: ...

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
    __slots__ = ("state", "text", "finish_reason", "stop", "usage", "error", "receipt", "tool_calls", "content", "embeddings")
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
    def __init__(self, state: _Optional[_Union[JobState, str]] = ..., text: _Optional[str] = ..., finish_reason: _Optional[_Union[_types_pb2.FinishReason, str]] = ..., stop: _Optional[str] = ..., usage: _Optional[_Union[_types_pb2.Usage, _Mapping]] = ..., error: _Optional[_Union[JobError, _Mapping]] = ..., receipt: _Optional[_Union[_receipt_pb2.Receipt, _Mapping]] = ..., tool_calls: _Optional[_Iterable[_Union[_types_pb2.ToolCall, _Mapping]]] = ..., content: _Optional[str] = ..., embeddings: _Optional[_Iterable[_Union[_types_pb2.Embedding, _Mapping]]] = ...) -> None: ...

class Job(_message.Message):
    __slots__ = ("name", "project", "request_id", "order", "user", "annotation", "state", "operator", "attempts", "clock", "created", "ended", "outcome", "priority")
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
    def __init__(self, name: _Optional[str] = ..., project: _Optional[str] = ..., request_id: _Optional[str] = ..., order: _Optional[_Union[_types_pb2.Order, _Mapping]] = ..., user: _Optional[str] = ..., annotation: _Optional[str] = ..., state: _Optional[_Union[JobState, str]] = ..., operator: _Optional[str] = ..., attempts: _Optional[int] = ..., clock: _Optional[_Union[_types_pb2.VectorClock, _Mapping]] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., ended: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., outcome: _Optional[_Union[Outcome, _Mapping]] = ..., priority: _Optional[int] = ...) -> None: ...

class CreateJobRequest(_message.Message):
    __slots__ = ("request_id", "order", "user", "annotation", "priority")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    ANNOTATION_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    order: _types_pb2.Order
    user: str
    annotation: str
    priority: int
    def __init__(self, request_id: _Optional[str] = ..., order: _Optional[_Union[_types_pb2.Order, _Mapping]] = ..., user: _Optional[str] = ..., annotation: _Optional[str] = ..., priority: _Optional[int] = ...) -> None: ...

class GetJobRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListJobsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListJobsResponse(_message.Message):
    __slots__ = ("jobs", "next_page_token")
    JOBS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    jobs: _containers.RepeatedCompositeFieldContainer[Job]
    next_page_token: str
    def __init__(self, jobs: _Optional[_Iterable[_Union[Job, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

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
    __slots__ = ("receipt", "order", "output", "output_tokens", "price", "embeddings")
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    ORDER_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    receipt: _receipt_pb2.Receipt
    order: _types_pb2.Order
    output: str
    output_tokens: _containers.RepeatedScalarFieldContainer[int]
    price: _types_pb2.Price
    embeddings: _containers.RepeatedCompositeFieldContainer[_types_pb2.Embedding]
    def __init__(self, receipt: _Optional[_Union[_receipt_pb2.Receipt, _Mapping]] = ..., order: _Optional[_Union[_types_pb2.Order, _Mapping]] = ..., output: _Optional[str] = ..., output_tokens: _Optional[_Iterable[int]] = ..., price: _Optional[_Union[_types_pb2.Price, _Mapping]] = ..., embeddings: _Optional[_Iterable[_Union[_types_pb2.Embedding, _Mapping]]] = ...) -> None: ...

class OperatorMessage(_message.Message):
    __slots__ = ("hello", "heartbeat", "started", "chunk", "finished", "failed")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    heartbeat: Heartbeat
    started: LeaseStarted
    chunk: LeaseChunk
    finished: LeaseFinished
    failed: LeaseFailed
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., started: _Optional[_Union[LeaseStarted, _Mapping]] = ..., chunk: _Optional[_Union[LeaseChunk, _Mapping]] = ..., finished: _Optional[_Union[LeaseFinished, _Mapping]] = ..., failed: _Optional[_Union[LeaseFailed, _Mapping]] = ...) -> None: ...

class DispatcherMessage(_message.Message):
    __slots__ = ("challenge", "welcome", "lease", "cancel")
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    LEASE_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    challenge: Challenge
    welcome: Welcome
    lease: Lease
    cancel: CancelLease
    def __init__(self, challenge: _Optional[_Union[Challenge, _Mapping]] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., lease: _Optional[_Union[Lease, _Mapping]] = ..., cancel: _Optional[_Union[CancelLease, _Mapping]] = ...) -> None: ...

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

class Welcome(_message.Message):
    __slots__ = ("heartbeat_seconds",)
    HEARTBEAT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    heartbeat_seconds: float
    def __init__(self, heartbeat_seconds: _Optional[float] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("clock",)
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    clock: _types_pb2.VectorClock
    def __init__(self, clock: _Optional[_Union[_types_pb2.VectorClock, _Mapping]] = ...) -> None: ...

class Lease(_message.Message):
    __slots__ = ("id", "job", "order", "accepted_tokens", "clock", "accepted_text_bytes", "tenant", "priority", "seconds", "traceparent", "accepted_embeddings")
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
    def __init__(self, id: _Optional[str] = ..., job: _Optional[bytes] = ..., order: _Optional[_Union[_types_pb2.Order, _Mapping]] = ..., accepted_tokens: _Optional[_Iterable[int]] = ..., clock: _Optional[_Union[_types_pb2.VectorClock, _Mapping]] = ..., accepted_text_bytes: _Optional[int] = ..., tenant: _Optional[str] = ..., priority: _Optional[int] = ..., seconds: _Optional[float] = ..., traceparent: _Optional[str] = ..., accepted_embeddings: _Optional[_Iterable[_Union[_types_pb2.Embedding, _Mapping]]] = ...) -> None: ...

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

class LeaseFinished(_message.Message):
    __slots__ = ("lease", "finish")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    FINISH_FIELD_NUMBER: _ClassVar[int]
    lease: str
    finish: _operator_pb2.Finish
    def __init__(self, lease: _Optional[str] = ..., finish: _Optional[_Union[_operator_pb2.Finish, _Mapping]] = ...) -> None: ...

class LeaseFailed(_message.Message):
    __slots__ = ("lease", "error", "retryable")
    LEASE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    lease: str
    error: JobError
    retryable: bool
    def __init__(self, lease: _Optional[str] = ..., error: _Optional[_Union[JobError, _Mapping]] = ..., retryable: _Optional[bool] = ...) -> None: ...
