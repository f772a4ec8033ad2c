"""An operator's own services put together: its API, its questions and their file, the OPML dialect over them."""

from __future__ import annotations

import tempfile
import uuid
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aos.clock import Clock
from aos.fetch import fetcher
from aos.operator.callbacks import Callbacks
from aos.operator.node import OperatorNode
from aos.operator.question_queue import QuestionQueue, answering
from aos.operator.question_servicer import QuestionsServicer
from aos.operator.settings import QuestionSettings
from aos.rpc.channel import channel
from aos.rpc.server import Service, serving
from aos.serve import operator_auth, operator_service
from aos.store.questions import MIGRATIONS, SqlQuestionStore
from aos.store.sqlite import sqlite_file
from aos.v1 import questions_pb2, questions_pb2_grpc
from gateway.opml import OpmlServicer
from gateway.v1 import opml_pb2, opml_pb2_grpc


@asynccontextmanager
async def serving_operator(
    node: OperatorNode,
    *,
    listen: str,
    token: str,
    questions: str | Path,
    settings: QuestionSettings,
    clock: Clock,
    random: Callable[[], float],
    open_to_all: bool = False,
) -> AsyncGenerator[str]:
    """Serve an operator's own API and the OPML dialect at ``listen`` until the block ends; gives a private address of the same.

    ``questions`` is the file where questions are kept. ``token`` opens everything; with ``open_to_all``, questions need none.
    ``random`` gives numbers in [0, 1).
    """
    runner = node.runner
    with tempfile.TemporaryDirectory(prefix="aos-") as folder:
        private = f"unix:{Path(folder) / 'operator'}"
        async with (
            sqlite_file(questions, MIGRATIONS) as file,
            fetcher(settings.networks, at="callback") as outward,
            answering(
                QuestionQueue(
                    runner,
                    SqlQuestionStore(file),
                    Callbacks(outward, runner.key, settings),
                    clock=clock,
                    random=random,
                    settings=settings,
                )
            ) as queue,
            channel(private) as face,
            serving(
                operator_service(node.servicer),
                _questions(QuestionsServicer(queue, lambda: str(uuid.uuid4()))),
                _opml(OpmlServicer(face)),
                authenticate=operator_auth(token, "projects/-" if open_to_all else ""),
                addresses=(private, listen),
                grace=0,
            ),
        ):
            yield private


def _questions(servicer: questions_pb2_grpc.QuestionsServicer) -> Service:
    descriptor = questions_pb2.DESCRIPTOR.services_by_name["Questions"]
    return Service(descriptor, questions_pb2_grpc.add_QuestionsServicer_to_server, servicer)


def _opml(servicer: opml_pb2_grpc.OpmlServicer) -> Service:
    return Service(opml_pb2.DESCRIPTOR.services_by_name["Opml"], opml_pb2_grpc.add_OpmlServicer_to_server, servicer)
