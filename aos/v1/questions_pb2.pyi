from aos.v1 import dispatcher_pb2 as _dispatcher_pb2
from aos.v1 import errors_pb2 as _errors_pb2
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class QuestionState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    QUESTION_STATE_UNSPECIFIED: _ClassVar[QuestionState]
    QUESTION_STATE_PENDING: _ClassVar[QuestionState]
    QUESTION_STATE_DONE: _ClassVar[QuestionState]
    QUESTION_STATE_FAILED: _ClassVar[QuestionState]

class CallbackState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CALLBACK_STATE_UNSPECIFIED: _ClassVar[CallbackState]
    CALLBACK_STATE_NONE: _ClassVar[CallbackState]
    CALLBACK_STATE_DUE: _ClassVar[CallbackState]
    CALLBACK_STATE_DELIVERED: _ClassVar[CallbackState]
    CALLBACK_STATE_GIVEN_UP: _ClassVar[CallbackState]
QUESTION_STATE_UNSPECIFIED: QuestionState
QUESTION_STATE_PENDING: QuestionState
QUESTION_STATE_DONE: QuestionState
QUESTION_STATE_FAILED: QuestionState
CALLBACK_STATE_UNSPECIFIED: CallbackState
CALLBACK_STATE_NONE: CallbackState
CALLBACK_STATE_DUE: CallbackState
CALLBACK_STATE_DELIVERED: CallbackState
CALLBACK_STATE_GIVEN_UP: CallbackState

class CreateQuestionRequest(_message.Message):
    __slots__ = ("id", "model", "prompt", "callback")
    ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CALLBACK_FIELD_NUMBER: _ClassVar[int]
    id: str
    model: str
    prompt: str
    callback: str
    def __init__(self, id: _Optional[str] = ..., model: _Optional[str] = ..., prompt: _Optional[str] = ..., callback: _Optional[str] = ...) -> None: ...

class GetQuestionRequest(_message.Message):
    __slots__ = ("id",)
    ID_FIELD_NUMBER: _ClassVar[int]
    id: str
    def __init__(self, id: _Optional[str] = ...) -> None: ...

class GetQuestionQueueRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class QuestionQueue(_message.Message):
    __slots__ = ("operator", "unanswered", "at_once", "limit")
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    UNANSWERED_FIELD_NUMBER: _ClassVar[int]
    AT_ONCE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    operator: str
    unanswered: int
    at_once: int
    limit: int
    def __init__(self, operator: _Optional[str] = ..., unanswered: _Optional[int] = ..., at_once: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class Question(_message.Message):
    __slots__ = ("id", "operator", "model", "prompt", "callback", "state", "bundle", "reason", "problem", "callback_state", "callback_attempts", "callback_problem")
    ID_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    CALLBACK_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PROBLEM_FIELD_NUMBER: _ClassVar[int]
    CALLBACK_STATE_FIELD_NUMBER: _ClassVar[int]
    CALLBACK_ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    CALLBACK_PROBLEM_FIELD_NUMBER: _ClassVar[int]
    id: str
    operator: str
    model: str
    prompt: str
    callback: str
    state: QuestionState
    bundle: _dispatcher_pb2.ReceiptBundle
    reason: _errors_pb2.ErrorReason
    problem: str
    callback_state: CallbackState
    callback_attempts: int
    callback_problem: str
    def __init__(self, id: _Optional[str] = ..., operator: _Optional[str] = ..., model: _Optional[str] = ..., prompt: _Optional[str] = ..., callback: _Optional[str] = ..., state: _Optional[_Union[QuestionState, str]] = ..., bundle: _Optional[_Union[_dispatcher_pb2.ReceiptBundle, _Mapping]] = ..., reason: _Optional[_Union[_errors_pb2.ErrorReason, str]] = ..., problem: _Optional[str] = ..., callback_state: _Optional[_Union[CallbackState, str]] = ..., callback_attempts: _Optional[int] = ..., callback_problem: _Optional[str] = ...) -> None: ...
