"""Making a callback: the answer to a question, signed, posted to the URL that came with it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

from aos.errors import InvalidField
from aos.fetch import Fetcher, Unreachable
from aos.operator.questions import Question
from aos.operator.settings import QuestionSettings
from aos.v1.receipt_pb2 import Receipt
from aos.verification.callback import SIGNATURE, callback_body, sign_callback
from aos.verification.keys import OperatorKey

GONE: Final = 410
"""A receiver says with it that it wants this callback never again."""


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a callback was not taken."""

    problem: str
    final: bool = False
    """Trying again makes no sense."""


class Callbacks:
    """Posts what became of questions, as the operator's own word."""

    def __init__(self, fetcher: Fetcher, key: OperatorKey, settings: QuestionSettings) -> None:
        self._fetcher, self._key, self._settings = fetcher, key, settings

    async def attempt(self, question: Question) -> Failure | None:
        """Post once; return what went wrong, or None: the receiver replied with a status of 200 to 299."""
        settings = self._settings
        # secp256k1 in Python takes milliseconds, and so does a large prompt
        body, signature = await asyncio.to_thread(_signed, question, self._key)
        headers = {"content-type": "application/json", "user-agent": "aos-operator", SIGNATURE: signature}
        try:
            reply = await self._fetcher.post(
                question.url, body, headers, seconds=settings.attempt_seconds, most=settings.reply_bytes
            )
        except InvalidField as error:
            return Failure(error.message, final=True)
        except Unreachable as error:
            return Failure(str(error))
        if 200 <= reply.status < 300:  # noqa: PLR2004
            return None
        return Failure(f"the receiver replied with status {reply.status}", final=reply.status == GONE)


def _signed(question: Question, key: OperatorKey) -> tuple[bytes, str]:
    body = body_of(question, key.address)
    return body, sign_callback(body, key)


def body_of(question: Question, operator: str) -> bytes:
    """Return what is posted for a question that has ended."""
    bundle = question.bundle
    return callback_body(
        node_id=operator,
        req_id=question.id,
        model=question.model,
        prompt=question.prompt,
        answer=bundle.output if bundle else "",
        state_root=state_root_of(bundle.receipt) if bundle else "",
        reason=question.problem,
    )


def state_root_of(receipt: Receipt) -> str:
    """Return the receipt's `state_root` as `0x` and 64 hex digits."""
    return f"0x{receipt.state_root.hex()}"
