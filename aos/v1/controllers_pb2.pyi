import datetime

from aos.v1 import dispatcher_pb2 as _dispatcher_pb2
from aos.v1 import types_pb2 as _types_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CreateControllerRequest(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class Controller(_message.Message):
    __slots__ = ("name", "wasm_size", "compiled_size", "milliseconds", "created", "tags", "abi")
    NAME_FIELD_NUMBER: _ClassVar[int]
    WASM_SIZE_FIELD_NUMBER: _ClassVar[int]
    COMPILED_SIZE_FIELD_NUMBER: _ClassVar[int]
    MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    CREATED_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    ABI_FIELD_NUMBER: _ClassVar[int]
    name: str
    wasm_size: int
    compiled_size: int
    milliseconds: int
    created: _timestamp_pb2.Timestamp
    tags: _containers.RepeatedScalarFieldContainer[str]
    abi: str
    def __init__(self, name: _Optional[str] = ..., wasm_size: _Optional[int] = ..., compiled_size: _Optional[int] = ..., milliseconds: _Optional[int] = ..., created: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., tags: _Optional[_Iterable[str]] = ..., abi: _Optional[str] = ...) -> None: ...

class GetControllerRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ListControllersRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListControllersResponse(_message.Message):
    __slots__ = ("tags", "next_page_token")
    TAGS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    tags: _containers.RepeatedCompositeFieldContainer[ControllerTag]
    next_page_token: str
    def __init__(self, tags: _Optional[_Iterable[_Union[ControllerTag, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class ControllerTag(_message.Message):
    __slots__ = ("tag", "controller", "updated", "updated_by", "wasm_size", "compiled_size")
    TAG_FIELD_NUMBER: _ClassVar[int]
    CONTROLLER_FIELD_NUMBER: _ClassVar[int]
    UPDATED_FIELD_NUMBER: _ClassVar[int]
    UPDATED_BY_FIELD_NUMBER: _ClassVar[int]
    WASM_SIZE_FIELD_NUMBER: _ClassVar[int]
    COMPILED_SIZE_FIELD_NUMBER: _ClassVar[int]
    tag: str
    controller: str
    updated: _timestamp_pb2.Timestamp
    updated_by: str
    wasm_size: int
    compiled_size: int
    def __init__(self, tag: _Optional[str] = ..., controller: _Optional[str] = ..., updated: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_by: _Optional[str] = ..., wasm_size: _Optional[int] = ..., compiled_size: _Optional[int] = ...) -> None: ...

class TagControllerRequest(_message.Message):
    __slots__ = ("controller", "tags")
    CONTROLLER_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    controller: str
    tags: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, controller: _Optional[str] = ..., tags: _Optional[_Iterable[str]] = ...) -> None: ...

class TagControllerResponse(_message.Message):
    __slots__ = ("tags",)
    TAGS_FIELD_NUMBER: _ClassVar[int]
    tags: _containers.RepeatedCompositeFieldContainer[ControllerTag]
    def __init__(self, tags: _Optional[_Iterable[_Union[ControllerTag, _Mapping]]] = ...) -> None: ...

class DeleteControllerRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class DeleteControllerResponse(_message.Message):
    __slots__ = ("deleted",)
    DELETED_FIELD_NUMBER: _ClassVar[int]
    deleted: bool
    def __init__(self, deleted: _Optional[bool] = ...) -> None: ...

class ReadControllerRequest(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class ControllerPart(_message.Message):
    __slots__ = ("data",)
    DATA_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    def __init__(self, data: _Optional[bytes] = ...) -> None: ...

class RunControllerRequest(_message.Message):
    __slots__ = ("controller", "argument", "model", "prompt", "sampling", "request_id", "user")
    CONTROLLER_FIELD_NUMBER: _ClassVar[int]
    ARGUMENT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    PROMPT_FIELD_NUMBER: _ClassVar[int]
    SAMPLING_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    USER_FIELD_NUMBER: _ClassVar[int]
    controller: str
    argument: str
    model: str
    prompt: str
    sampling: _types_pb2.Sampling
    request_id: str
    user: str
    def __init__(self, controller: _Optional[str] = ..., argument: _Optional[str] = ..., model: _Optional[str] = ..., prompt: _Optional[str] = ..., sampling: _Optional[_Union[_types_pb2.Sampling, _Mapping]] = ..., request_id: _Optional[str] = ..., user: _Optional[str] = ...) -> None: ...

class RunControllerResponse(_message.Message):
    __slots__ = ("job", "job_event")
    JOB_FIELD_NUMBER: _ClassVar[int]
    JOB_EVENT_FIELD_NUMBER: _ClassVar[int]
    job: _dispatcher_pb2.Job
    job_event: _dispatcher_pb2.JobEvent
    def __init__(self, job: _Optional[_Union[_dispatcher_pb2.Job, _Mapping]] = ..., job_event: _Optional[_Union[_dispatcher_pb2.JobEvent, _Mapping]] = ...) -> None: ...
