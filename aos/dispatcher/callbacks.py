"""Callbacks that operators' workers make to the dispatcher: said to be what it has, or refused. Nothing is changed by them."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final

import grpc

from aos.client import outcome_error
from aos.dispatcher.store import JobStore, Row
from aos.errors import BadReceipt, InvalidField, JobNotFound, PermissionDenied, ReceiptNotFound
from aos.rpc.status import answered
from aos.v1 import callbacks_pb2_grpc, registry_pb2_grpc
from aos.v1.callbacks_pb2 import ConfirmCallbackRequest, ConfirmCallbackResponse
from aos.v1.registry_pb2 import GetOperatorRequest
from aos.verification.callback import Said, check_callback, read_callback

ADDRESS: Final = re.compile(r"0x[0-9a-fA-F]{40}")
JOB: Final = re.compile(r"[0-9a-f]{64}")


class CallbacksServicer(callbacks_pb2_grpc.CallbacksServicer):
    """Compares callbacks with the jobs that the dispatcher keeps."""

    def __init__(self, store: JobStore, registry: registry_pb2_grpc.RegistryAsyncStub, *, rpc_seconds: float) -> None:
        """``rpc_seconds``: how long the registry may take."""
        self._store, self._registry, self._seconds = store, registry, rpc_seconds

    async def ConfirmCallback(
        self, request: ConfirmCallbackRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> ConfirmCallbackResponse:
        del context
        said = await asyncio.to_thread(read_callback, request.body)
        if not ADDRESS.fullmatch(said.node_id):
            raise InvalidField("node_id", "must be 0x and 40 hex digits", value=said.node_id, limit="0x + 40 hex digits")
        # secp256k1 in Python takes milliseconds; before all that tells a stranger anything
        await asyncio.to_thread(check_callback, request.body, request.signature, said.node_id)
        wanted = GetOperatorRequest(name=f"operators/{said.node_id.lower()}")
        await answered(self._registry.GetOperator(wanted, timeout=self._seconds))
        if not JOB.fullmatch(said.req_id):
            raise JobNotFound(f"jobs/{said.req_id[:100]}")
        row = await self._store.get(said.req_id, project=None)
        confirm(said, row)
        return ConfirmCallbackResponse(job=row.job.name)


def confirm(said: Said, row: Row) -> None:
    """Return if the callback says what the job has. Raises PermissionDenied, ReceiptNotFound or BadReceipt."""
    job, outcome = row.job, row.outcome
    if job.operator.lower() != said.node_id.lower():
        raise PermissionDenied("the signature of the operator that has the job")
    if outcome is None or outcome_error(job.name, outcome) is not None:
        raise ReceiptNotFound(job.name, job.state.name)
    if said.answer != outcome.text:
        raise BadReceipt(job.name, "answer", "is not the one that came with the receipt")
    if said.state_root.lower() != f"0x{outcome.receipt.state_root.hex()}":
        raise BadReceipt(job.name, "state_root", "is not the receipt's")
