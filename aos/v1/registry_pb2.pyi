import datetime

from aos.v1 import attestation_pb2 as _attestation_pb2
from aos.v1 import types_pb2 as _types_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ModelKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MODEL_KIND_UNSPECIFIED: _ClassVar[ModelKind]
    MODEL_KIND_TEXT: _ClassVar[ModelKind]
    MODEL_KIND_IMAGE: _ClassVar[ModelKind]
    MODEL_KIND_IMAGE_EDIT: _ClassVar[ModelKind]

class ReplicaState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REPLICA_STATE_UNSPECIFIED: _ClassVar[ReplicaState]
    REPLICA_STATE_REGISTERED: _ClassVar[ReplicaState]
    REPLICA_STATE_HEALTHY: _ClassVar[ReplicaState]
    REPLICA_STATE_UNHEALTHY: _ClassVar[ReplicaState]
    REPLICA_STATE_REFUSED: _ClassVar[ReplicaState]
    REPLICA_STATE_DRAINING: _ClassVar[ReplicaState]
    REPLICA_STATE_LAPSED: _ClassVar[ReplicaState]
    REPLICA_STATE_GONE: _ClassVar[ReplicaState]

class ReplicaChange(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REPLICA_CHANGE_UNSPECIFIED: _ClassVar[ReplicaChange]
    REPLICA_CHANGE_ADDED: _ClassVar[ReplicaChange]
    REPLICA_CHANGE_KEPT: _ClassVar[ReplicaChange]
    REPLICA_CHANGE_REMOVED: _ClassVar[ReplicaChange]

class AiProjectState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    AI_PROJECT_STATE_UNSPECIFIED: _ClassVar[AiProjectState]
    AI_PROJECT_STATE_REGISTERED: _ClassVar[AiProjectState]
    AI_PROJECT_STATE_DRAINING: _ClassVar[AiProjectState]
    AI_PROJECT_STATE_GONE: _ClassVar[AiProjectState]
MODEL_KIND_UNSPECIFIED: ModelKind
MODEL_KIND_TEXT: ModelKind
MODEL_KIND_IMAGE: ModelKind
MODEL_KIND_IMAGE_EDIT: ModelKind
REPLICA_STATE_UNSPECIFIED: ReplicaState
REPLICA_STATE_REGISTERED: ReplicaState
REPLICA_STATE_HEALTHY: ReplicaState
REPLICA_STATE_UNHEALTHY: ReplicaState
REPLICA_STATE_REFUSED: ReplicaState
REPLICA_STATE_DRAINING: ReplicaState
REPLICA_STATE_LAPSED: ReplicaState
REPLICA_STATE_GONE: ReplicaState
REPLICA_CHANGE_UNSPECIFIED: ReplicaChange
REPLICA_CHANGE_ADDED: ReplicaChange
REPLICA_CHANGE_KEPT: ReplicaChange
REPLICA_CHANGE_REMOVED: ReplicaChange
AI_PROJECT_STATE_UNSPECIFIED: AiProjectState
AI_PROJECT_STATE_REGISTERED: AiProjectState
AI_PROJECT_STATE_DRAINING: AiProjectState
AI_PROJECT_STATE_GONE: AiProjectState

class OperatorProof(_message.Message):
    __slots__ = ("operator", "issued_at", "signature")
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    operator: str
    issued_at: int
    signature: bytes
    def __init__(self, operator: _Optional[str] = ..., issued_at: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Offer(_message.Message):
    __slots__ = ("model", "digest", "context_length", "chat", "price", "slots", "exact", "embeddings", "images", "image_edits", "replicas", "controllers")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_EDITS_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    CONTROLLERS_FIELD_NUMBER: _ClassVar[int]
    model: str
    digest: str
    context_length: int
    chat: bool
    price: _types_pb2.Price
    slots: int
    exact: bool
    embeddings: bool
    images: bool
    image_edits: bool
    replicas: _containers.RepeatedScalarFieldContainer[str]
    controllers: bool
    def __init__(self, model: _Optional[str] = ..., digest: _Optional[str] = ..., context_length: _Optional[int] = ..., chat: _Optional[bool] = ..., price: _Optional[_Union[_types_pb2.Price, _Mapping]] = ..., slots: _Optional[int] = ..., exact: _Optional[bool] = ..., embeddings: _Optional[bool] = ..., images: _Optional[bool] = ..., image_edits: _Optional[bool] = ..., replicas: _Optional[_Iterable[str]] = ..., controllers: _Optional[bool] = ...) -> None: ...

class OperatorInfo(_message.Message):
    __slots__ = ("name", "offers", "registered", "expires", "routable", "reason", "vrf_key", "vrf_key_since", "attested")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_FIELD_NUMBER: _ClassVar[int]
    ROUTABLE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    VRF_KEY_FIELD_NUMBER: _ClassVar[int]
    VRF_KEY_SINCE_FIELD_NUMBER: _ClassVar[int]
    ATTESTED_FIELD_NUMBER: _ClassVar[int]
    name: str
    offers: _containers.RepeatedCompositeFieldContainer[Offer]
    registered: _timestamp_pb2.Timestamp
    expires: _timestamp_pb2.Timestamp
    routable: bool
    reason: str
    vrf_key: bytes
    vrf_key_since: _timestamp_pb2.Timestamp
    attested: _attestation_pb2.Attested
    def __init__(self, name: _Optional[str] = ..., offers: _Optional[_Iterable[_Union[Offer, _Mapping]]] = ..., registered: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., routable: _Optional[bool] = ..., reason: _Optional[str] = ..., vrf_key: _Optional[bytes] = ..., vrf_key_since: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., attested: _Optional[_Union[_attestation_pb2.Attested, _Mapping]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "digest", "context_length", "chat", "price", "operators", "routable", "reason", "created", "exact", "embeddings", "job_types", "images", "image_edits", "controllers")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    OPERATORS_FIELD_NUMBER: _ClassVar[int]
    ROUTABLE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    JOB_TYPES_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    IMAGE_EDITS_FIELD_NUMBER: _ClassVar[int]
    CONTROLLERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    digest: str
    context_length: int
    chat: bool
    price: _types_pb2.Price
    operators: _containers.RepeatedScalarFieldContainer[str]
    routable: bool
    reason: str
    created: _timestamp_pb2.Timestamp
    exact: bool
    embeddings: bool
    job_types: _containers.RepeatedScalarFieldContainer[str]
    images: bool
    image_edits: bool
    controllers: bool
    def __init__(self, name: _Optional[str] = ..., digest: _Optional[str] = ..., context_length: _Optional[int] = ..., chat: _Optional[bool] = ..., price: _Optional[_Union[_types_pb2.Price, _Mapping]] = ..., operators: _Optional[_Iterable[str]] = ..., routable: _Optional[bool] = ..., reason: _Optional[str] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., exact: _Optional[bool] = ..., embeddings: _Optional[bool] = ..., job_types: _Optional[_Iterable[str]] = ..., images: _Optional[bool] = ..., image_edits: _Optional[bool] = ..., controllers: _Optional[bool] = ...) -> None: ...

class ChallengeOperatorRequest(_message.Message):
    __slots__ = ("operator",)
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    operator: str
    def __init__(self, operator: _Optional[str] = ...) -> None: ...

class OperatorChallenge(_message.Message):
    __slots__ = ("nonce", "expires")
    NONCE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    expires: _timestamp_pb2.Timestamp
    def __init__(self, nonce: _Optional[bytes] = ..., expires: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class RegisterOperatorRequest(_message.Message):
    __slots__ = ("proof", "offers", "vrf_key", "attestation", "tee_nonce")
    PROOF_FIELD_NUMBER: _ClassVar[int]
    OFFERS_FIELD_NUMBER: _ClassVar[int]
    VRF_KEY_FIELD_NUMBER: _ClassVar[int]
    ATTESTATION_FIELD_NUMBER: _ClassVar[int]
    TEE_NONCE_FIELD_NUMBER: _ClassVar[int]
    proof: OperatorProof
    offers: _containers.RepeatedCompositeFieldContainer[Offer]
    vrf_key: bytes
    attestation: _attestation_pb2.Attestation
    tee_nonce: bytes
    def __init__(self, proof: _Optional[_Union[OperatorProof, _Mapping]] = ..., offers: _Optional[_Iterable[_Union[Offer, _Mapping]]] = ..., vrf_key: _Optional[bytes] = ..., attestation: _Optional[_Union[_attestation_pb2.Attestation, _Mapping]] = ..., tee_nonce: _Optional[bytes] = ...) -> None: ...

class RenewOperatorRequest(_message.Message):
    __slots__ = ("proof",)
    PROOF_FIELD_NUMBER: _ClassVar[int]
    proof: OperatorProof
    def __init__(self, proof: _Optional[_Union[OperatorProof, _Mapping]] = ...) -> None: ...

class UnregisterOperatorRequest(_message.Message):
    __slots__ = ("proof",)
    PROOF_FIELD_NUMBER: _ClassVar[int]
    proof: OperatorProof
    def __init__(self, proof: _Optional[_Union[OperatorProof, _Mapping]] = ...) -> None: ...

class GetOperatorRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListOperatorsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListOperatorsResponse(_message.Message):
    __slots__ = ("operators", "next_page_token")
    OPERATORS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    operators: _containers.RepeatedCompositeFieldContainer[OperatorInfo]
    next_page_token: str
    def __init__(self, operators: _Optional[_Iterable[_Union[OperatorInfo, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetModelRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListModelsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListModelsResponse(_message.Message):
    __slots__ = ("models", "next_page_token")
    MODELS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    next_page_token: str
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchCatalogRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Catalog(_message.Message):
    __slots__ = ("version", "models", "operators", "more")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    OPERATORS_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    version: int
    models: _containers.RepeatedCompositeFieldContainer[Model]
    operators: _containers.RepeatedCompositeFieldContainer[OperatorInfo]
    more: bool
    def __init__(self, version: _Optional[int] = ..., models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ..., operators: _Optional[_Iterable[_Union[OperatorInfo, _Mapping]]] = ..., more: _Optional[bool] = ...) -> None: ...

class ReplicaSpec(_message.Message):
    __slots__ = ("model", "api", "kind", "cid")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    API_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CID_FIELD_NUMBER: _ClassVar[int]
    model: str
    api: str
    kind: ModelKind
    cid: str
    def __init__(self, model: _Optional[str] = ..., api: _Optional[str] = ..., kind: _Optional[_Union[ModelKind, str]] = ..., cid: _Optional[str] = ...) -> None: ...

class Replica(_message.Message):
    __slots__ = ("id", "model", "api", "kind", "cid", "state", "reason", "next_probe", "capabilities", "operator", "project", "address", "checked", "running", "created", "expires", "change", "owner")
    ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    API_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    CID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NEXT_PROBE_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    CHECKED_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    id: str
    model: str
    api: str
    kind: ModelKind
    cid: str
    state: ReplicaState
    reason: str
    next_probe: _timestamp_pb2.Timestamp
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    operator: str
    project: str
    address: str
    checked: _timestamp_pb2.Timestamp
    running: int
    created: _timestamp_pb2.Timestamp
    expires: _timestamp_pb2.Timestamp
    change: ReplicaChange
    owner: str
    def __init__(self, id: _Optional[str] = ..., model: _Optional[str] = ..., api: _Optional[str] = ..., kind: _Optional[_Union[ModelKind, str]] = ..., cid: _Optional[str] = ..., state: _Optional[_Union[ReplicaState, str]] = ..., reason: _Optional[str] = ..., next_probe: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., capabilities: _Optional[_Iterable[str]] = ..., operator: _Optional[str] = ..., project: _Optional[str] = ..., address: _Optional[str] = ..., checked: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., running: _Optional[int] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., change: _Optional[_Union[ReplicaChange, str]] = ..., owner: _Optional[str] = ...) -> None: ...

class AiProject(_message.Message):
    __slots__ = ("name", "replicas", "created", "expires", "version", "state", "reason", "lease_id", "owner")
    NAME_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    LEASE_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    name: str
    replicas: _containers.RepeatedCompositeFieldContainer[Replica]
    created: _timestamp_pb2.Timestamp
    expires: _timestamp_pb2.Timestamp
    version: int
    state: AiProjectState
    reason: str
    lease_id: str
    owner: str
    def __init__(self, name: _Optional[str] = ..., replicas: _Optional[_Iterable[_Union[Replica, _Mapping]]] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., expires: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., version: _Optional[int] = ..., state: _Optional[_Union[AiProjectState, str]] = ..., reason: _Optional[str] = ..., lease_id: _Optional[str] = ..., owner: _Optional[str] = ...) -> None: ...

class RegisterProjectRequest(_message.Message):
    __slots__ = ("proof", "project", "replicas", "operator")
    PROOF_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    proof: OperatorProof
    project: str
    replicas: _containers.RepeatedCompositeFieldContainer[ReplicaSpec]
    operator: str
    def __init__(self, proof: _Optional[_Union[OperatorProof, _Mapping]] = ..., project: _Optional[str] = ..., replicas: _Optional[_Iterable[_Union[ReplicaSpec, _Mapping]]] = ..., operator: _Optional[str] = ...) -> None: ...

class UnregisterProjectRequest(_message.Message):
    __slots__ = ("proof", "project", "force")
    PROOF_FIELD_NUMBER: _ClassVar[int]
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    proof: OperatorProof
    project: str
    force: bool
    def __init__(self, proof: _Optional[_Union[OperatorProof, _Mapping]] = ..., project: _Optional[str] = ..., force: _Optional[bool] = ...) -> None: ...

class GetAiProjectRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListAiProjectsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "model")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    model: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., model: _Optional[str] = ...) -> None: ...

class ListAiProjectsResponse(_message.Message):
    __slots__ = ("projects", "next_page_token")
    PROJECTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    projects: _containers.RepeatedCompositeFieldContainer[AiProject]
    next_page_token: str
    def __init__(self, projects: _Optional[_Iterable[_Union[AiProject, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class WatchProjectsRequest(_message.Message):
    __slots__ = ("operator", "unaddressed", "proof")
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    UNADDRESSED_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    operator: str
    unaddressed: bool
    proof: OperatorProof
    def __init__(self, operator: _Optional[str] = ..., unaddressed: _Optional[bool] = ..., proof: _Optional[_Union[OperatorProof, _Mapping]] = ...) -> None: ...

class ProjectSet(_message.Message):
    __slots__ = ("version", "replicas")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    version: int
    replicas: _containers.RepeatedCompositeFieldContainer[Replica]
    def __init__(self, version: _Optional[int] = ..., replicas: _Optional[_Iterable[_Union[Replica, _Mapping]]] = ...) -> None: ...

class ReplicaReport(_message.Message):
    __slots__ = ("id", "state", "reason", "capabilities", "next_probe", "checked", "running")
    ID_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PROBE_FIELD_NUMBER: _ClassVar[int]
    CHECKED_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    id: str
    state: ReplicaState
    reason: str
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    next_probe: _timestamp_pb2.Timestamp
    checked: _timestamp_pb2.Timestamp
    running: int
    def __init__(self, id: _Optional[str] = ..., state: _Optional[_Union[ReplicaState, str]] = ..., reason: _Optional[str] = ..., capabilities: _Optional[_Iterable[str]] = ..., next_probe: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., checked: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., running: _Optional[int] = ...) -> None: ...

class ReportReplicasRequest(_message.Message):
    __slots__ = ("proof", "reports")
    PROOF_FIELD_NUMBER: _ClassVar[int]
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    proof: OperatorProof
    reports: _containers.RepeatedCompositeFieldContainer[ReplicaReport]
    def __init__(self, proof: _Optional[_Union[OperatorProof, _Mapping]] = ..., reports: _Optional[_Iterable[_Union[ReplicaReport, _Mapping]]] = ...) -> None: ...

class ReportReplicasResponse(_message.Message):
    __slots__ = ("expires", "gone")
    EXPIRES_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    expires: _timestamp_pb2.Timestamp
    gone: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, expires: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., gone: _Optional[_Iterable[str]] = ...) -> None: ...

class ListAuditRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListAuditResponse(_message.Message):
    __slots__ = ("entries", "next_page_token")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[AuditEntry]
    next_page_token: str
    def __init__(self, entries: _Optional[_Iterable[_Union[AuditEntry, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class AuditEntry(_message.Message):
    __slots__ = ("sequence", "time", "actor", "action", "subject", "detail")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    time: _timestamp_pb2.Timestamp
    actor: str
    action: str
    subject: str
    detail: str
    def __init__(self, sequence: _Optional[int] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., actor: _Optional[str] = ..., action: _Optional[str] = ..., subject: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...
