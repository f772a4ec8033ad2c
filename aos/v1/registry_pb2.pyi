import datetime

from aos.v1 import attestation_pb2 as _attestation_pb2
from aos.v1 import types_pb2 as _types_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

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
    __slots__ = ("model", "digest", "context_length", "chat", "price", "slots", "exact", "embeddings")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_LENGTH_FIELD_NUMBER: _ClassVar[int]
    CHAT_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    EXACT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    model: str
    digest: str
    context_length: int
    chat: bool
    price: _types_pb2.Price
    slots: int
    exact: bool
    embeddings: bool
    def __init__(self, model: _Optional[str] = ..., digest: _Optional[str] = ..., context_length: _Optional[int] = ..., chat: _Optional[bool] = ..., price: _Optional[_Union[_types_pb2.Price, _Mapping]] = ..., slots: _Optional[int] = ..., exact: _Optional[bool] = ..., embeddings: _Optional[bool] = ...) -> None: ...

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
    __slots__ = ("name", "digest", "context_length", "chat", "price", "operators", "routable", "reason", "created", "exact", "embeddings", "job_types")
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
    def __init__(self, name: _Optional[str] = ..., digest: _Optional[str] = ..., context_length: _Optional[int] = ..., chat: _Optional[bool] = ..., price: _Optional[_Union[_types_pb2.Price, _Mapping]] = ..., operators: _Optional[_Iterable[str]] = ..., routable: _Optional[bool] = ..., reason: _Optional[str] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., exact: _Optional[bool] = ..., embeddings: _Optional[bool] = ..., job_types: _Optional[_Iterable[str]] = ...) -> None: ...

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
