"""The OPML worker's REST dialect, served by an operator; docs/reference/rest-opml.md has the fields."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, Final

import grpc
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.json_format import MessageToDict
from pydantic import BaseModel, ConfigDict

from aos.client import CALL_SECONDS
from aos.errors import AosError, InvalidField, JobNotFound, ModelNotFound, QueueFull, RequestIdReused
from aos.rpc.status import answered
from aos.v1 import questions_pb2_grpc
from aos.v1.dispatcher_pb2 import ReceiptBundle
from aos.v1.questions_pb2 import (
    CallbackState,
    CreateQuestionRequest,
    GetQuestionQueueRequest,
    GetQuestionRequest,
    Question,
    QuestionQueue,
    QuestionState,
)
from gateway.body import Malformed, TooLarge, check
from gateway.http import HTTP, Context, Reply, dump, known, passed_on, read, retry_after, send
from gateway.v1 import opml_pb2_grpc
from gateway.v1.opml_pb2 import GetAnswerRequest

UNKNOWN: Final = -500
"""`code` of a failure that has none of its own."""
READ: Final = -501
"""`code` of a body that cannot be read."""
PARSE: Final = -502
"""`code` of a body that is no JSON object."""
FIELD: Final = -503
"""`code` of a field that cannot be accepted."""
FULL: Final = -1
"""`code` of a full queue."""
EXCEED: Final = "jobs exceed"
"""`msg` of a full queue."""

STATES: Final = {
    QuestionState.QUESTION_STATE_PENDING: "pending",
    QuestionState.QUESTION_STATE_DONE: "done",
    QuestionState.QUESTION_STATE_FAILED: "failed",
}
CALLBACK_STATES: Final = {
    CallbackState.CALLBACK_STATE_NONE: "none",
    CallbackState.CALLBACK_STATE_DUE: "due",
    CallbackState.CALLBACK_STATE_DELIVERED: "delivered",
    CallbackState.CALLBACK_STATE_GIVEN_UP: "given_up",
}
NAMES: Final = {"question.": "", "id:": "req_id:"}
"""How native fields' names begin, and the dialect's."""


class Asked(BaseModel):
    """The body of a question."""

    model_config = ConfigDict(strict=True, extra="forbid")

    model: str
    prompt: str
    callback: str = ""
    req_id: str = ""


class OpmlServicer(opml_pb2_grpc.OpmlServicer):
    """Calls the operator's Questions through ``face`` with the caller's own token, never one of its own."""

    def __init__(self, face: grpc.aio.Channel) -> None:
        self._questions = questions_pb2_grpc.QuestionsStub(face)

    async def GetStatus(self, request: HttpBody, context: Context) -> HttpBody:
        del request
        return await _reply(context, self._status(context))

    async def AskQuestion(self, request: HttpBody, context: Context) -> HttpBody:
        return await _reply(context, self._ask(request, context))

    async def GetAnswer(self, request: GetAnswerRequest, context: Context) -> HttpBody:
        return await _reply(context, self._answer(request, context))

    async def GetHealth(self, request: HttpBody, context: Context) -> HttpBody:
        del request
        return await send(context, Reply(b"ok", content_type="text/plain"))

    async def _status(self, context: Context) -> Reply:
        call = self._questions.GetQuestionQueue(GetQuestionQueueRequest(), metadata=passed_on(context), timeout=CALL_SECONDS)
        return status_of(await answered(call))

    async def _ask(self, request: HttpBody, context: Context) -> Reply:
        asked = check(Asked, (await read(request)).fields)
        wanted = CreateQuestionRequest(id=asked.req_id, model=asked.model, prompt=asked.prompt, callback=asked.callback)
        call = self._questions.CreateQuestion(wanted, metadata=passed_on(context), timeout=CALL_SECONDS)
        question = await answered(call)
        return success({"node_id": question.operator, "req_id": question.id})

    async def _answer(self, request: GetAnswerRequest, context: Context) -> Reply:
        wanted = GetQuestionRequest(id=request.req_id)
        call = self._questions.GetQuestion(wanted, metadata=passed_on(context), timeout=CALL_SECONDS)
        question = await answered(call)
        # beside the loop: prompt and trace can have megabytes
        return await asyncio.to_thread(lambda: success(answer_of(question)))


async def _reply(context: Context, result: Awaitable[Reply]) -> HttpBody:
    try:
        reply = await result
    except Exception as error:
        reply = failure(known(error))
    return await send(context, reply)


def success(data: object, msg: str = "") -> Reply:
    """Return the reply that has ``data``."""
    return Reply(dump({"code": 0, "msg": msg, "data": data}).encode())


def status_of(queue: QuestionQueue) -> Reply:
    """Return the reply to a question for the status: busy is an operator with which the next question would have to wait."""
    busy = int(queue.unanswered >= queue.at_once)
    return success({"status": busy, "node_id": queue.operator}, str(busy))


def answer_of(question: Question) -> dict[str, Any]:
    """Return what is said of a question: all keys always, empty where there is nothing to say."""
    bundle = question.bundle
    done = question.HasField("bundle")
    return {
        "node_id": question.operator,
        "req_id": question.id,
        "status": STATES.get(question.state, ""),
        "model": question.model,
        "prompt": question.prompt,
        "answer": bundle.output,
        "state_root": f"0x{bundle.receipt.state_root.hex()}" if done else "",
        "reason": question.problem,
        "receipt": _receipt(bundle) if done else None,
        "callback": {
            "url": question.callback,
            "status": CALLBACK_STATES.get(question.callback_state, ""),
            "attempts": question.callback_attempts,
            "reason": question.callback_problem,
        },
    }


def _receipt(bundle: ReceiptBundle) -> dict[str, Any]:
    return MessageToDict(bundle, always_print_fields_with_no_presence=True, preserving_proto_field_name=True)


def failure(error: AosError | None) -> Reply:
    """Return the reply for a failure; None is one that nobody foresaw."""
    match error:
        case None:
            status, code, msg = 500, UNKNOWN, "internal server error"
        case QueueFull():
            status, code, msg = 429, FULL, EXCEED
        case TooLarge():
            status, code, msg = 413, READ, error.message
        case Malformed():
            status, code, msg = 400, PARSE, error.message
        case InvalidField():
            status, code, msg = 400, FIELD, _in_dialect(error.message)
        case ModelNotFound():
            status, code, msg = 404, FIELD, f"model: {error.message}"
        case RequestIdReused():
            status, code, msg = 409, FIELD, "req_id: was used for another question; send a new one for new contents"
        case JobNotFound():
            status, code, msg = 404, UNKNOWN, "There is no such question here, or it is forgotten."
        case _:
            status, code, msg = HTTP.get(error.code, 500), UNKNOWN, error.message
    return Reply(dump({"code": code, "msg": msg, "data": ""}).encode(), status, retry_after(error))


def _in_dialect(message: str) -> str:
    for native, ours in NAMES.items():
        if message.startswith(native):
            return f"{ours}{message.removeprefix(native)}"
    return message
