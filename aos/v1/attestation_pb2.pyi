from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TeeProvider(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TEE_PROVIDER_UNSPECIFIED: _ClassVar[TeeProvider]
    TEE_PROVIDER_INTEL_TDX: _ClassVar[TeeProvider]
    TEE_PROVIDER_INTEL_SGX: _ClassVar[TeeProvider]
    TEE_PROVIDER_AWS_NITRO: _ClassVar[TeeProvider]
    TEE_PROVIDER_SIMULATED: _ClassVar[TeeProvider]
TEE_PROVIDER_UNSPECIFIED: TeeProvider
TEE_PROVIDER_INTEL_TDX: TeeProvider
TEE_PROVIDER_INTEL_SGX: TeeProvider
TEE_PROVIDER_AWS_NITRO: TeeProvider
TEE_PROVIDER_SIMULATED: TeeProvider

class Attestation(_message.Message):
    __slots__ = ("provider", "document", "collateral", "signature")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    COLLATERAL_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    provider: TeeProvider
    document: bytes
    collateral: bytes
    signature: bytes
    def __init__(self, provider: _Optional[_Union[TeeProvider, str]] = ..., document: _Optional[bytes] = ..., collateral: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Attested(_message.Message):
    __slots__ = ("provider", "image", "measurements", "key", "binding", "tcb_status", "verified")
    class MeasurementsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    MEASUREMENTS_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    BINDING_FIELD_NUMBER: _ClassVar[int]
    TCB_STATUS_FIELD_NUMBER: _ClassVar[int]
    VERIFIED_FIELD_NUMBER: _ClassVar[int]
    provider: TeeProvider
    image: str
    measurements: _containers.ScalarMap[str, str]
    key: str
    binding: bytes
    tcb_status: str
    verified: int
    def __init__(self, provider: _Optional[_Union[TeeProvider, str]] = ..., image: _Optional[str] = ..., measurements: _Optional[_Mapping[str, str]] = ..., key: _Optional[str] = ..., binding: _Optional[bytes] = ..., tcb_status: _Optional[str] = ..., verified: _Optional[int] = ...) -> None: ...
