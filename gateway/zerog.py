"""The compute network's REST dialect: chats that a wallet signs for; docs/reference/inference.md has headers and failures."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any, Final

import grpc
from google.api.httpbody_pb2 import HttpBody

from aos.client import CALL_SECONDS
from aos.clock import Clock
from aos.errors import AosError, BadHeader, BodyChanged, InvalidField, JobNotFound, RequestSignature
from aos.rpc.status import answered
from aos.v1 import requests_pb2_grpc
from aos.v1.dispatcher_pb2 import ProviderPayment
from aos.v1.requests_pb2 import NoteJobRequest, SignedRequest
from aos.verification.keys import OperatorKey
from aos.verification.requests import ADDRESS, SERVICE, SIGNATURE, body_hash, read_headers
from gateway.http import PASSED, STATUS, Context, known, read, send
from gateway.model_errors import failure
from gateway.models import ModelsServicer
from gateway.v1 import zerog_pb2, zerog_pb2_grpc
from gateway.zerog_signatures import Exchange, Signatures

RESULT_KEY: Final = "zg-res-key"
"""The response header with the key of the answer's signature."""
_ID: Final = re.compile(rb'"id":"(cmpl-[0-9a-f]{64})"')
_ID_WITHIN: Final = 256
"""An answer's id is among its first bytes."""


log = logging.getLogger(__name__)


class ZerogServicer(zerog_pb2_grpc.ZerogServicer):
    """Has signed requests taken by ``requests``, and runs them through ``acting`` as the projects that pay.

    ``acting`` takes a project's name for its token: it must lead nowhere but into this process. ``openly`` is where requests that
    nobody signed go, in loopback dev mode only; None: they are refused.
    """

    def __init__(
        self,
        requests: grpc.aio.Channel,
        acting: grpc.aio.Channel,
        *,
        openly: grpc.aio.Channel | None,
        key: OperatorKey,
        clock: Clock,
        new_key: Callable[[], str],
    ) -> None:
        self._requests = requests_pb2_grpc.RequestsStub(requests)
        self._acting, self._openly, self._clock, self._new_key = acting, openly, clock, new_key
        self._signatures = Signatures(key, clock, self._requests)

    async def CreateProxyCompletion(self, request: zerog_pb2.ProxyCompletionRequest, context: Context) -> AsyncGenerator[HttpBody]:
        try:
            models, project, signed = await self._admit(request, context)
        except Exception as error:
            yield await send(context, failure(known(error)))
            return
        key, exchange = self._new_key(), Exchange(request.body.data)
        seen, names = _Seen(context, project, key), [key]
        async with aclosing(models.CreateChatCompletion(request.body, seen)) as parts:  # pyright: ignore[reportArgumentType]
            async for part in parts:
                await seen.begin()
                exchange.sent(part.data)
                if not seen.failed:
                    if len(names) == 1 and (found := _ID.search(part.data[:_ID_WITHIN])):
                        names.append(found[1].decode())
                        await self._note(signed, found[1].decode().removeprefix("cmpl-"))
                    # before the last byte goes, so that whoever has it finds the signature
                    if exchange.streamed_whole or part.content_type == "application/json":
                        await self._signatures.sign(exchange, *names)
                yield part

    async def GetChatSignature(self, request: zerog_pb2.GetChatSignatureRequest, context: Context) -> HttpBody:
        try:
            found = await self._signatures.find(request.chat)
        except Exception as error:
            return await send(context, failure(known(error)))
        return await send(context, found or failure(JobNotFound(request.chat)))

    async def _admit(
        self, request: zerog_pb2.ProxyCompletionRequest, context: Context
    ) -> tuple[ModelsServicer, str, SignedRequest | None]:
        """Return who answers the request, the project that it acts as, and what was signed.

        Of a request that nobody signed, no project: it acts as whoever calls without a token.
        """
        headers = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        if not headers.get(SIGNATURE.lower()):
            if self._openly is not None:
                return ModelsServicer(self._openly, self._clock), "", None
            raise RequestSignature(headers.get(ADDRESS.lower()) or "anybody", "there is none, and an address proves nothing")
        signed, fields = read_headers(headers), (await read(request.body)).fields
        await asyncio.to_thread(_check_body, signed, fields)
        if any(one != fields.get("model") for one in (signed.service, request.service or signed.service)):
            raise BadHeader(SERVICE, "must be the model that the body, and the path if it has one, names")
        if fields.get("n") not in (None, 1):
            raise InvalidField("n", "must be 1: one request pays for one answer", value=fields["n"], limit=1)
        taken = await answered(self._requests.AdmitRequest(signed, timeout=CALL_SECONDS))
        payment = ProviderPayment(provider=signed.provider, max_fee=signed.max_fee)
        return ModelsServicer(self._acting, self._clock, payment=payment), taken.project, signed

    async def _note(self, signed: SignedRequest | None, job: str) -> None:
        """Say which job the request became. The answer does not fail for it: it is needed in a dispute only."""
        if signed is None:
            return
        try:
            note = NoteJobRequest(user=signed.user, nonce=signed.nonce, job=f"jobs/{job}")
            await answered(self._requests.NoteJob(note, timeout=CALL_SECONDS))
        except AosError as error:
            log.warning("the request for jobs/%s is not kept: %s", job, error)


class _Seen:
    """A call as the model dialect sees it: the paying project's, its reply with the key of the signature to come."""

    def __init__(self, context: Context, project: str, key: str) -> None:
        self._context, self._project, self._key = context, project, key
        self._begun = self.failed = False

    def invocation_metadata(self) -> tuple[tuple[str, Any], ...]:
        """Return the caller's metadata as far as it goes on, with the project for a token."""
        passed = tuple((name, value) for name, value in self._context.invocation_metadata() or () if name in PASSED)
        return (*passed, ("authorization", f"Bearer {self._project}")) if self._project else passed

    async def send_initial_metadata(self, metadata: tuple[tuple[str, str], ...]) -> None:
        """Send what the reply begins with: with the key, unless it is a failure."""
        self._begun, self.failed = True, any(name == STATUS for name, _ in metadata)
        await self._context.send_initial_metadata(metadata if self.failed else (*metadata, (RESULT_KEY, self._key)))

    async def begin(self) -> None:
        """Send what the reply begins with, unless that was done."""
        if not self._begun:
            await self.send_initial_metadata(())


def _check_body(signed: SignedRequest, fields: dict[str, Any]) -> None:
    try:
        found = body_hash(fields)
    except Exception as error:  # rfc8785 raises several kinds
        raise BodyChanged(f"0x{signed.body_hash.hex()}", "none: the body has no canonical JSON") from error
    if found != signed.body_hash:
        raise BodyChanged(f"0x{signed.body_hash.hex()}", f"0x{found.hex()}")
