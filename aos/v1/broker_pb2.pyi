import datetime

from aos.v1 import receipt_pb2 as _receipt_pb2
from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HoldState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    HOLD_STATE_UNSPECIFIED: _ClassVar[HoldState]
    HOLD_STATE_HELD: _ClassVar[HoldState]
    HOLD_STATE_COMMITTED: _ClassVar[HoldState]
    HOLD_STATE_RELEASED: _ClassVar[HoldState]

class ReceiptStanding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RECEIPT_STANDING_UNSPECIFIED: _ClassVar[ReceiptStanding]
    RECEIPT_STANDING_OPEN: _ClassVar[ReceiptStanding]
    RECEIPT_STANDING_FROZEN: _ClassVar[ReceiptStanding]
    RECEIPT_STANDING_OVERTURNED: _ClassVar[ReceiptStanding]
    RECEIPT_STANDING_PAID: _ClassVar[ReceiptStanding]
HOLD_STATE_UNSPECIFIED: HoldState
HOLD_STATE_HELD: HoldState
HOLD_STATE_COMMITTED: HoldState
HOLD_STATE_RELEASED: HoldState
RECEIPT_STANDING_UNSPECIFIED: ReceiptStanding
RECEIPT_STANDING_OPEN: ReceiptStanding
RECEIPT_STANDING_FROZEN: ReceiptStanding
RECEIPT_STANDING_OVERTURNED: ReceiptStanding
RECEIPT_STANDING_PAID: ReceiptStanding

class Account(_message.Message):
    __slots__ = ("name", "available", "held")
    NAME_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    name: str
    available: str
    held: str
    def __init__(self, name: _Optional[str] = ..., available: _Optional[str] = ..., held: _Optional[str] = ...) -> None: ...

class GetAccountRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DepositRequest(_message.Message):
    __slots__ = ("account", "amount", "request_id", "must_exist")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    MUST_EXIST_FIELD_NUMBER: _ClassVar[int]
    account: str
    amount: str
    request_id: str
    must_exist: bool
    def __init__(self, account: _Optional[str] = ..., amount: _Optional[str] = ..., request_id: _Optional[str] = ..., must_exist: _Optional[bool] = ...) -> None: ...

class Hold(_message.Message):
    __slots__ = ("name", "account", "amount", "state", "paid", "pot")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PAID_FIELD_NUMBER: _ClassVar[int]
    POT_FIELD_NUMBER: _ClassVar[int]
    name: str
    account: str
    amount: str
    state: HoldState
    paid: str
    pot: str
    def __init__(self, name: _Optional[str] = ..., account: _Optional[str] = ..., amount: _Optional[str] = ..., state: _Optional[_Union[HoldState, str]] = ..., paid: _Optional[str] = ..., pot: _Optional[str] = ...) -> None: ...

class ReserveRequest(_message.Message):
    __slots__ = ("hold", "account", "amount", "service", "provider")
    HOLD_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    hold: str
    account: str
    amount: str
    service: str
    provider: str
    def __init__(self, hold: _Optional[str] = ..., account: _Optional[str] = ..., amount: _Optional[str] = ..., service: _Optional[str] = ..., provider: _Optional[str] = ...) -> None: ...

class SettleRequest(_message.Message):
    __slots__ = ("hold", "receipt")
    HOLD_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    hold: str
    receipt: _receipt_pb2.Receipt
    def __init__(self, hold: _Optional[str] = ..., receipt: _Optional[_Union[_receipt_pb2.Receipt, _Mapping]] = ...) -> None: ...

class Entry(_message.Message):
    __slots__ = ("sequence", "transfer", "time", "account", "pot", "amount", "reason", "cause")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    TRANSFER_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    POT_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    transfer: str
    time: _timestamp_pb2.Timestamp
    account: str
    pot: str
    amount: str
    reason: str
    cause: str
    def __init__(self, sequence: _Optional[int] = ..., transfer: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., account: _Optional[str] = ..., pot: _Optional[str] = ..., amount: _Optional[str] = ..., reason: _Optional[str] = ..., cause: _Optional[str] = ...) -> None: ...

class ListEntriesRequest(_message.Message):
    __slots__ = ("account", "page_size", "page_token")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    account: str
    page_size: int
    page_token: str
    def __init__(self, account: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListEntriesResponse(_message.Message):
    __slots__ = ("entries", "next_page_token")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[Entry]
    next_page_token: str
    def __init__(self, entries: _Optional[_Iterable[_Union[Entry, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetTotalsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Totals(_message.Message):
    __slots__ = ("accounts", "available", "held", "deposited", "in_sub_accounts", "paid_out")
    ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    DEPOSITED_FIELD_NUMBER: _ClassVar[int]
    IN_SUB_ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    PAID_OUT_FIELD_NUMBER: _ClassVar[int]
    accounts: int
    available: str
    held: str
    deposited: str
    in_sub_accounts: str
    paid_out: str
    def __init__(self, accounts: _Optional[int] = ..., available: _Optional[str] = ..., held: _Optional[str] = ..., deposited: _Optional[str] = ..., in_sub_accounts: _Optional[str] = ..., paid_out: _Optional[str] = ...) -> None: ...

class Ledger(_message.Message):
    __slots__ = ("account", "available_balance", "total_balance", "held_balance", "inference_signer", "additional_info", "sub_accounts", "created")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_BALANCE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BALANCE_FIELD_NUMBER: _ClassVar[int]
    HELD_BALANCE_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_SIGNER_FIELD_NUMBER: _ClassVar[int]
    ADDITIONAL_INFO_FIELD_NUMBER: _ClassVar[int]
    SUB_ACCOUNTS_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    account: str
    available_balance: str
    total_balance: str
    held_balance: str
    inference_signer: _containers.RepeatedScalarFieldContainer[str]
    additional_info: str
    sub_accounts: _containers.RepeatedCompositeFieldContainer[SubAccount]
    created: _timestamp_pb2.Timestamp
    def __init__(self, account: _Optional[str] = ..., available_balance: _Optional[str] = ..., total_balance: _Optional[str] = ..., held_balance: _Optional[str] = ..., inference_signer: _Optional[_Iterable[str]] = ..., additional_info: _Optional[str] = ..., sub_accounts: _Optional[_Iterable[_Union[SubAccount, _Mapping]]] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class SubAccount(_message.Message):
    __slots__ = ("account", "service", "provider", "balance", "pending_refund", "claimable", "signer", "refunds")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    BALANCE_FIELD_NUMBER: _ClassVar[int]
    PENDING_REFUND_FIELD_NUMBER: _ClassVar[int]
    CLAIMABLE_FIELD_NUMBER: _ClassVar[int]
    SIGNER_FIELD_NUMBER: _ClassVar[int]
    REFUNDS_FIELD_NUMBER: _ClassVar[int]
    account: str
    service: str
    provider: str
    balance: str
    pending_refund: str
    claimable: str
    signer: str
    refunds: _containers.RepeatedCompositeFieldContainer[PendingRefund]
    def __init__(self, account: _Optional[str] = ..., service: _Optional[str] = ..., provider: _Optional[str] = ..., balance: _Optional[str] = ..., pending_refund: _Optional[str] = ..., claimable: _Optional[str] = ..., signer: _Optional[str] = ..., refunds: _Optional[_Iterable[_Union[PendingRefund, _Mapping]]] = ...) -> None: ...

class PendingRefund(_message.Message):
    __slots__ = ("index", "amount", "created", "release")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    index: int
    amount: str
    created: _timestamp_pb2.Timestamp
    release: _timestamp_pb2.Timestamp
    def __init__(self, index: _Optional[int] = ..., amount: _Optional[str] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., release: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class AddLedgerRequest(_message.Message):
    __slots__ = ("account", "amount", "additional_info", "inference_signer", "request_id")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    ADDITIONAL_INFO_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_SIGNER_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    account: str
    amount: str
    additional_info: str
    inference_signer: _containers.RepeatedScalarFieldContainer[str]
    request_id: str
    def __init__(self, account: _Optional[str] = ..., amount: _Optional[str] = ..., additional_info: _Optional[str] = ..., inference_signer: _Optional[_Iterable[str]] = ..., request_id: _Optional[str] = ...) -> None: ...

class GetLedgerRequest(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: str
    def __init__(self, account: _Optional[str] = ...) -> None: ...

class ListLedgersRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListLedgersResponse(_message.Message):
    __slots__ = ("ledgers", "next_page_token")
    LEDGERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ledgers: _containers.RepeatedCompositeFieldContainer[Ledger]
    next_page_token: str
    def __init__(self, ledgers: _Optional[_Iterable[_Union[Ledger, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class RefundRequest(_message.Message):
    __slots__ = ("account", "amount", "request_id")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    account: str
    amount: str
    request_id: str
    def __init__(self, account: _Optional[str] = ..., amount: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class TransferFundRequest(_message.Message):
    __slots__ = ("account", "provider", "service", "amount", "request_id")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    account: str
    provider: str
    service: str
    amount: str
    request_id: str
    def __init__(self, account: _Optional[str] = ..., provider: _Optional[str] = ..., service: _Optional[str] = ..., amount: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class RetrieveFundRequest(_message.Message):
    __slots__ = ("account", "providers", "service", "request_id")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    account: str
    providers: _containers.RepeatedScalarFieldContainer[str]
    service: str
    request_id: str
    def __init__(self, account: _Optional[str] = ..., providers: _Optional[_Iterable[str]] = ..., service: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class RetrieveFundResponse(_message.Message):
    __slots__ = ("results", "ledger")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[RetrieveResult]
    ledger: Ledger
    def __init__(self, results: _Optional[_Iterable[_Union[RetrieveResult, _Mapping]]] = ..., ledger: _Optional[_Union[Ledger, _Mapping]] = ...) -> None: ...

class RetrieveResult(_message.Message):
    __slots__ = ("provider", "released", "requested", "refused")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    RELEASED_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    provider: str
    released: str
    requested: str
    refused: str
    def __init__(self, provider: _Optional[str] = ..., released: _Optional[str] = ..., requested: _Optional[str] = ..., refused: _Optional[str] = ...) -> None: ...

class DeleteLedgerRequest(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: str
    def __init__(self, account: _Optional[str] = ...) -> None: ...

class DeleteLedgerResponse(_message.Message):
    __slots__ = ("paid_out",)
    PAID_OUT_FIELD_NUMBER: _ClassVar[int]
    paid_out: str
    def __init__(self, paid_out: _Optional[str] = ...) -> None: ...

class GetSubAccountRequest(_message.Message):
    __slots__ = ("account", "service", "provider")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    account: str
    service: str
    provider: str
    def __init__(self, account: _Optional[str] = ..., service: _Optional[str] = ..., provider: _Optional[str] = ...) -> None: ...

class AcknowledgeSignerRequest(_message.Message):
    __slots__ = ("account", "provider", "service", "signer")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    SIGNER_FIELD_NUMBER: _ClassVar[int]
    account: str
    provider: str
    service: str
    signer: str
    def __init__(self, account: _Optional[str] = ..., provider: _Optional[str] = ..., service: _Optional[str] = ..., signer: _Optional[str] = ...) -> None: ...

class SettleFeeRequest(_message.Message):
    __slots__ = ("account", "provider", "service", "receipt")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    SERVICE_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    account: str
    provider: str
    service: str
    receipt: _receipt_pb2.Receipt
    def __init__(self, account: _Optional[str] = ..., provider: _Optional[str] = ..., service: _Optional[str] = ..., receipt: _Optional[_Union[_receipt_pb2.Receipt, _Mapping]] = ...) -> None: ...

class PaidReceipt(_message.Message):
    __slots__ = ("name", "account", "pot", "operator", "price", "time", "standing", "settlement", "root", "proof", "leaf", "leaves", "chain")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    POT_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    STANDING_FIELD_NUMBER: _ClassVar[int]
    SETTLEMENT_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    CHAIN_FIELD_NUMBER: _ClassVar[int]
    name: str
    account: str
    pot: str
    operator: str
    price: str
    time: _timestamp_pb2.Timestamp
    standing: ReceiptStanding
    settlement: str
    root: bytes
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    leaf: int
    leaves: int
    chain: ChainProof
    def __init__(self, name: _Optional[str] = ..., account: _Optional[str] = ..., pot: _Optional[str] = ..., operator: _Optional[str] = ..., price: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., standing: _Optional[_Union[ReceiptStanding, str]] = ..., settlement: _Optional[str] = ..., root: _Optional[bytes] = ..., proof: _Optional[_Iterable[bytes]] = ..., leaf: _Optional[int] = ..., leaves: _Optional[int] = ..., chain: _Optional[_Union[ChainProof, _Mapping]] = ...) -> None: ...

class ChainProof(_message.Message):
    __slots__ = ("chain_id", "contract", "transaction", "block", "batch", "nonce", "line", "user", "provider", "root", "total", "leaves", "leaf", "proof", "dispute", "closes_at")
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    CONTRACT_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    LINE_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    LEAVES_FIELD_NUMBER: _ClassVar[int]
    LEAF_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    DISPUTE_FIELD_NUMBER: _ClassVar[int]
    CLOSES_AT_FIELD_NUMBER: _ClassVar[int]
    chain_id: int
    contract: str
    transaction: str
    block: int
    batch: bytes
    nonce: str
    line: int
    user: str
    provider: str
    root: bytes
    total: str
    leaves: int
    leaf: int
    proof: _containers.RepeatedScalarFieldContainer[bytes]
    dispute: str
    closes_at: int
    def __init__(self, chain_id: _Optional[int] = ..., contract: _Optional[str] = ..., transaction: _Optional[str] = ..., block: _Optional[int] = ..., batch: _Optional[bytes] = ..., nonce: _Optional[str] = ..., line: _Optional[int] = ..., user: _Optional[str] = ..., provider: _Optional[str] = ..., root: _Optional[bytes] = ..., total: _Optional[str] = ..., leaves: _Optional[int] = ..., leaf: _Optional[int] = ..., proof: _Optional[_Iterable[bytes]] = ..., dispute: _Optional[str] = ..., closes_at: _Optional[int] = ...) -> None: ...

class SealSettlementRequest(_message.Message):
    __slots__ = ("receipts",)
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    receipts: int
    def __init__(self, receipts: _Optional[int] = ...) -> None: ...

class Settlement(_message.Message):
    __slots__ = ("name", "root", "receipts", "amount", "time")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    name: str
    root: bytes
    receipts: int
    amount: str
    time: _timestamp_pb2.Timestamp
    def __init__(self, name: _Optional[str] = ..., root: _Optional[bytes] = ..., receipts: _Optional[int] = ..., amount: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class ListSettlementsRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListSettlementsResponse(_message.Message):
    __slots__ = ("settlements", "next_page_token")
    SETTLEMENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    settlements: _containers.RepeatedCompositeFieldContainer[Settlement]
    next_page_token: str
    def __init__(self, settlements: _Optional[_Iterable[_Union[Settlement, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetPaidReceiptRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class FreezeReceiptRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ResolveReceiptRequest(_message.Message):
    __slots__ = ("name", "upheld")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UPHELD_FIELD_NUMBER: _ClassVar[int]
    name: str
    upheld: bool
    def __init__(self, name: _Optional[str] = ..., upheld: _Optional[bool] = ...) -> None: ...

class GetStatementRequest(_message.Message):
    __slots__ = ("account", "month", "start", "end")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    MONTH_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    account: str
    month: str
    start: _timestamp_pb2.Timestamp
    end: _timestamp_pb2.Timestamp
    def __init__(self, account: _Optional[str] = ..., month: _Optional[str] = ..., start: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class Statement(_message.Message):
    __slots__ = ("account", "start", "end", "pots", "movements", "chain_payments")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    POTS_FIELD_NUMBER: _ClassVar[int]
    MOVEMENTS_FIELD_NUMBER: _ClassVar[int]
    CHAIN_PAYMENTS_FIELD_NUMBER: _ClassVar[int]
    account: str
    start: _timestamp_pb2.Timestamp
    end: _timestamp_pb2.Timestamp
    pots: _containers.RepeatedCompositeFieldContainer[PotStatement]
    movements: _containers.RepeatedCompositeFieldContainer[Movement]
    chain_payments: _containers.RepeatedCompositeFieldContainer[ChainPayment]
    def __init__(self, account: _Optional[str] = ..., start: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., end: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., pots: _Optional[_Iterable[_Union[PotStatement, _Mapping]]] = ..., movements: _Optional[_Iterable[_Union[Movement, _Mapping]]] = ..., chain_payments: _Optional[_Iterable[_Union[ChainPayment, _Mapping]]] = ...) -> None: ...

class ChainPayment(_message.Message):
    __slots__ = ("transaction", "block", "account", "user", "provider", "root", "receipts", "amount")
    TRANSACTION_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    ROOT_FIELD_NUMBER: _ClassVar[int]
    RECEIPTS_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    transaction: str
    block: int
    account: str
    user: str
    provider: str
    root: bytes
    receipts: int
    amount: str
    def __init__(self, transaction: _Optional[str] = ..., block: _Optional[int] = ..., account: _Optional[str] = ..., user: _Optional[str] = ..., provider: _Optional[str] = ..., root: _Optional[bytes] = ..., receipts: _Optional[int] = ..., amount: _Optional[str] = ...) -> None: ...

class GetChainRequest(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: str
    def __init__(self, account: _Optional[str] = ...) -> None: ...

class BindPayerRequest(_message.Message):
    __slots__ = ("account", "wallet", "expiry", "signature")
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    WALLET_FIELD_NUMBER: _ClassVar[int]
    EXPIRY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    account: str
    wallet: str
    expiry: int
    signature: bytes
    def __init__(self, account: _Optional[str] = ..., wallet: _Optional[str] = ..., expiry: _Optional[int] = ..., signature: _Optional[bytes] = ...) -> None: ...

class UnbindPayerRequest(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: str
    def __init__(self, account: _Optional[str] = ...) -> None: ...

class ChainState(_message.Message):
    __slots__ = ("chain_id", "ledger", "inference", "fine_tuning", "wallet", "available", "total", "receipts_waiting", "receipts_sent", "receipts_settled", "amount_settled", "bound")
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_FIELD_NUMBER: _ClassVar[int]
    FINE_TUNING_FIELD_NUMBER: _ClassVar[int]
    WALLET_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    RECEIPTS_WAITING_FIELD_NUMBER: _ClassVar[int]
    RECEIPTS_SENT_FIELD_NUMBER: _ClassVar[int]
    RECEIPTS_SETTLED_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_SETTLED_FIELD_NUMBER: _ClassVar[int]
    BOUND_FIELD_NUMBER: _ClassVar[int]
    chain_id: int
    ledger: str
    inference: str
    fine_tuning: str
    wallet: str
    available: str
    total: str
    receipts_waiting: int
    receipts_sent: int
    receipts_settled: int
    amount_settled: str
    bound: bool
    def __init__(self, chain_id: _Optional[int] = ..., ledger: _Optional[str] = ..., inference: _Optional[str] = ..., fine_tuning: _Optional[str] = ..., wallet: _Optional[str] = ..., available: _Optional[str] = ..., total: _Optional[str] = ..., receipts_waiting: _Optional[int] = ..., receipts_sent: _Optional[int] = ..., receipts_settled: _Optional[int] = ..., amount_settled: _Optional[str] = ..., bound: _Optional[bool] = ...) -> None: ...

class PotStatement(_message.Message):
    __slots__ = ("pot", "opening", "closing")
    POT_FIELD_NUMBER: _ClassVar[int]
    OPENING_FIELD_NUMBER: _ClassVar[int]
    CLOSING_FIELD_NUMBER: _ClassVar[int]
    pot: str
    opening: str
    closing: str
    def __init__(self, pot: _Optional[str] = ..., opening: _Optional[str] = ..., closing: _Optional[str] = ...) -> None: ...

class Movement(_message.Message):
    __slots__ = ("reason", "pot", "lines", "credited", "debited")
    REASON_FIELD_NUMBER: _ClassVar[int]
    POT_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    CREDITED_FIELD_NUMBER: _ClassVar[int]
    DEBITED_FIELD_NUMBER: _ClassVar[int]
    reason: str
    pot: str
    lines: int
    credited: str
    debited: str
    def __init__(self, reason: _Optional[str] = ..., pot: _Optional[str] = ..., lines: _Optional[int] = ..., credited: _Optional[str] = ..., debited: _Optional[str] = ...) -> None: ...

class ListStatementsRequest(_message.Message):
    __slots__ = ("account",)
    ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    account: str
    def __init__(self, account: _Optional[str] = ...) -> None: ...

class ListStatementsResponse(_message.Message):
    __slots__ = ("statements",)
    STATEMENTS_FIELD_NUMBER: _ClassVar[int]
    statements: _containers.RepeatedCompositeFieldContainer[Statement]
    def __init__(self, statements: _Optional[_Iterable[_Union[Statement, _Mapping]]] = ...) -> None: ...

class CheckInvariantsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Invariants(_message.Message):
    __slots__ = ("hold", "invariants", "lines")
    HOLD_FIELD_NUMBER: _ClassVar[int]
    INVARIANTS_FIELD_NUMBER: _ClassVar[int]
    LINES_FIELD_NUMBER: _ClassVar[int]
    hold: bool
    invariants: _containers.RepeatedCompositeFieldContainer[Invariant]
    lines: int
    def __init__(self, hold: _Optional[bool] = ..., invariants: _Optional[_Iterable[_Union[Invariant, _Mapping]]] = ..., lines: _Optional[int] = ...) -> None: ...

class Invariant(_message.Message):
    __slots__ = ("name", "holds", "broken_by")
    NAME_FIELD_NUMBER: _ClassVar[int]
    HOLDS_FIELD_NUMBER: _ClassVar[int]
    BROKEN_BY_FIELD_NUMBER: _ClassVar[int]
    name: str
    holds: bool
    broken_by: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, name: _Optional[str] = ..., holds: _Optional[bool] = ..., broken_by: _Optional[_Iterable[str]] = ...) -> None: ...
