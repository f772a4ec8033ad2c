"""Questions over gRPC."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import grpc

from aos.operator.question_queue import QuestionQueue
from aos.operator.questions import CallbackState, Question, State
from aos.v1 import questions_pb2 as pb
from aos.v1 import questions_pb2_grpc

STATES: Final = {
    State.PENDING: pb.QUESTION_STATE_PENDING,
    State.DONE: pb.QUESTION_STATE_DONE,
    State.FAILED: pb.QUESTION_STATE_FAILED,
}
CALLBACK_STATES: Final = {
    CallbackState.NONE: pb.CALLBACK_STATE_NONE,
    CallbackState.DUE: pb.CALLBACK_STATE_DUE,
    CallbackState.DELIVERED: pb.CALLBACK_STATE_DELIVERED,
    CallbackState.GIVEN_UP: pb.CALLBACK_STATE_GIVEN_UP,
}

Context = grpc.aio.ServicerContext[Any, Any]


class QuestionsServicer(questions_pb2_grpc.QuestionsServicer):
    """Takes questions and says what became of them."""

    def __init__(self, queue: QuestionQueue, new_id: Callable[[], str]) -> None:
        """``new_id`` names questions that come without a name."""
        self._queue, self._new_id = queue, new_id

    async def CreateQuestion(self, request: pb.CreateQuestionRequest, context: Context) -> pb.Question:
        del context
        name = request.id or self._new_id()
        return self._shown(await self._queue.ask(name, model=request.model, prompt=request.prompt, url=request.callback))

    async def GetQuestion(self, request: pb.GetQuestionRequest, context: Context) -> pb.Question:
        del context
        return self._shown(await self._queue.get(request.id))

    async def GetQuestionQueue(self, request: pb.GetQuestionQueueRequest, context: Context) -> pb.QuestionQueue:
        del request, context
        queue = self._queue
        return pb.QuestionQueue(
            operator=queue.runner.key.address,
            unanswered=queue.unanswered,
            at_once=queue.settings.at_once,
            limit=queue.settings.unanswered,
        )

    def _shown(self, question: Question) -> pb.Question:
        return pb.Question(
            id=question.id,
            operator=self._queue.runner.key.address,
            model=question.model,
            prompt=question.prompt,
            callback=question.url,
            state=STATES[question.state],
            bundle=question.bundle,
            reason=f"ERROR_REASON_{question.reason or 'UNSPECIFIED'}",
            problem=question.problem,
            callback_state=CALLBACK_STATES[question.callback.state],
            callback_attempts=question.callback.attempts,
            callback_problem=question.callback.problem,
        )
