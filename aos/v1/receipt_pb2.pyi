from aos.v1 import types_pb2 as _types_pb2
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Receipt(_message.Message):
    __slots__ = ("job", "request_digest", "model_digest", "profile", "parameters", "seed", "prompt_digest", "output_digest", "output_tokens_digest", "usage", "finish_reason", "price", "clock", "issued_at", "operator", "signature", "state_root", "controller_digest", "argument_digest")
    JOB_FIELD_NUMBER: _ClassVar[int]
    REQUEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    MODEL_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    PROMPT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_TOKENS_DIGEST_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    FINISH_REASON_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    STATE_ROOT_FIELD_NUMBER: _ClassVar[int]
    CONTROLLER_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ARGUMENT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    job: bytes
    request_digest: bytes
    model_digest: bytes
    profile: str
    parameters: str
    seed: int
    prompt_digest: bytes
    output_digest: bytes
    output_tokens_digest: bytes
    usage: _types_pb2.Usage
    finish_reason: _types_pb2.FinishReason
    price: str
    clock: _types_pb2.VectorClock
    issued_at: int
    operator: bytes
    signature: bytes
    state_root: bytes
    controller_digest: bytes
    argument_digest: bytes
    def __init__(self, job: _Optional[bytes] = ..., request_digest: _Optional[bytes] = ..., model_digest: _Optional[bytes] = ..., profile: _Optional[str] = ..., parameters: _Optional[str] = ..., seed: _Optional[int] = ..., prompt_digest: _Optional[bytes] = ..., output_digest: _Optional[bytes] = ..., output_tokens_digest: _Optional[bytes] = ..., usage: _Optional[_Union[_types_pb2.Usage, _Mapping]] = ..., finish_reason: _Optional[_Union[_types_pb2.FinishReason, str]] = ..., price: _Optional[str] = ..., clock: _Optional[_Union[_types_pb2.VectorClock, _Mapping]] = ..., issued_at: _Optional[int] = ..., operator: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., state_root: _Optional[bytes] = ..., controller_digest: _Optional[bytes] = ..., argument_digest: _Optional[bytes] = ...) -> None: ...
