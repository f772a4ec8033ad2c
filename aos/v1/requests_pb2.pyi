from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class AuthorizeWalletRequest(_message.Message):
    __slots__ = ("account", "wallet")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    WALLET_FIELD_NUMBER: _ClassVar[int]
    account: str
    wallet: str
    def __init__(self, account: _Optional[str] = ..., wallet: _Optional[str] = ...) -> None: ...

class RevokeWalletRequest(_message.Message):
    __slots__ = ("account", "wallet")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    WALLET_FIELD_NUMBER: _ClassVar[int]
    account: str
    wallet: str
    def __init__(self, account: _Optional[str] = ..., wallet: _Optional[str] = ...) -> None: ...

class ListWalletsRequest(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: str
    def __init__(self, account: _Optional[str] = ...) -> None: ...

class Wallets(_message.Message):
    __slots__ = ("account", "wallets")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    WALLETS_FIELD_NUMBER: _ClassVar[int]
    account: str
    wallets: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, account: _Optional[str] = ..., wallets: _Optional[_Iterable[str]] = ...) -> None: ...

class GetRequestDomainRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RequestDomain(_message.Message):
    __slots__ = ("name", "version", "chain_id", "verifying_contract")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    VERIFYING_CONTRACT_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    chain_id: int
    verifying_contract: str
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., chain_id: _Optional[int] = ..., verifying_contract: _Optional[str] = ...) -> None: ...

class SignedRequest(_message.Message):
    __slots__ = ("account", "user", "provider", "service", "body_hash", "max_fee", "nonce", "expiry", "chain_id", "signature")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    BODY_HASH_FIELD_NUMBER: _ClassVar[int]
    MAX_FEE_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    EXPIRY_FIELD_NUMBER: _ClassVar[int]
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    account: str
    user: str
    provider: str
    service: str
    body_hash: bytes
    max_fee: str
    nonce: int
    expiry: int
    chain_id: int
    signature: bytes
    def __init__(self, account: _Optional[str] = ..., user: _Optional[str] = ..., provider: _Optional[str] = ..., service: _Optional[str] = ..., body_hash: _Optional[bytes] = ..., max_fee: _Optional[str] = ..., nonce: _Optional[int] = ..., expiry: _Optional[int] = ..., chain_id: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class AdmittedRequest(_message.Message):
    __slots__ = ("project",)
    PROJECT_FIELD_NUMBER: _ClassVar[int]
    project: str
    def __init__(self, project: _Optional[str] = ...) -> None: ...

class NoteJobRequest(_message.Message):
    __slots__ = ("user", "nonce", "job")
    USER_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    JOB_FIELD_NUMBER: _ClassVar[int]
    user: str
    nonce: int
    job: str
    def __init__(self, user: _Optional[str] = ..., nonce: _Optional[int] = ..., job: _Optional[str] = ...) -> None: ...

class NoteJobResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SignedAnswer(_message.Message):
    __slots__ = ("keys", "text", "signature", "signing_address")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    SIGNING_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedScalarFieldContainer[str]
    text: str
    signature: bytes
    signing_address: str
    def __init__(self, keys: _Optional[_Iterable[str]] = ..., text: _Optional[str] = ..., signature: _Optional[bytes] = ..., signing_address: _Optional[str] = ...) -> None: ...

class KeepAnswerResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetAnswerRequest(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: str
    def __init__(self, key: _Optional[str] = ...) -> None: ...
