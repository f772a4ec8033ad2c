"""The dispatcher's route for OPML callbacks, in the jobs' dialect; docs/reference/rest-opml.md has the fields."""

from __future__ import annotations

import grpc
from google.api.httpbody_pb2 import HttpBody

from aos.client import CALL_SECONDS
from aos.errors import ReceiptNotFound
from aos.rpc.status import answered
from aos.v1 import callbacks_pb2_grpc
from aos.v1.callbacks_pb2 import ConfirmCallbackRequest
from aos.verification.callback import SIGNATURE
from gateway.body import BODY_BYTES, TooLarge
from gateway.http import Context, Reply, dump, header, known, passed_on, retry_after, send
from gateway.job_replies import failure, result, success
from gateway.v1 import opml_pb2_grpc


class OpmlCallbacksServicer(opml_pb2_grpc.OpmlCallbacksServicer):
    """Calls Callbacks through ``face``; the callback's signature is all that counts."""

    def __init__(self, face: grpc.aio.Channel) -> None:
        self._callbacks = callbacks_pb2_grpc.CallbacksStub(face)

    async def ConfirmCallback(self, request: HttpBody, context: Context) -> HttpBody:
        try:
            if len(request.data) > BODY_BYTES:
                raise TooLarge(len(request.data), BODY_BYTES)  # noqa: TRY301  # a refusal like those of the service
            # as it came: the signature is over the bytes
            wanted = ConfirmCallbackRequest(body=request.data, signature=header(context, SIGNATURE))
            call = self._callbacks.ConfirmCallback(wanted, metadata=passed_on(context), timeout=CALL_SECONDS)
            said = success(result(dump((await answered(call)).job.removeprefix("jobs/"))))
        except Exception as error:
            said = _failure(error)
        return await send(context, said)


def _failure(error: Exception) -> Reply:
    meant = known(error)
    if isinstance(meant, ReceiptNotFound):  # not yet, perhaps: workers come again after a 409
        return Reply(dump({"code": 409, "message": meant.message, "result": None}).encode(), 409, retry_after(meant))
    return failure(meant)
