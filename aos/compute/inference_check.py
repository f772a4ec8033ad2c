"""Whether an answer is what was signed for: three outcomes, each with its reason. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from aos.v1.dispatcher_pb2 import ReceiptBundle
from aos.verification.receipts import address, check_bundle
from aos.verification.requests import exchange_signer, exchange_text

Result = Literal["verified", "failed", "not verifiable"]
DONE: Final = "[DONE]"


@dataclass(frozen=True, slots=True)
class Verification:
    """What was found. Only ``verified`` is true: an answer that cannot be checked is not taken for a good one."""

    result: Result
    reason: str

    def __bool__(self) -> bool:
        return self.result == "verified"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the bytes of a response say."""

    job: str
    """`jobs/…`; empty: they name none."""
    text: str | None
    """None: it is not text alone, so no digest can be taken of it."""


def check_exchange(sent: bytes, received: bytes, signed: Mapping[str, Any], *, signer: str = "") -> Verification | None:
    """Return why what was signed over an exchange is not good for these bytes; None if it is.

    ``signer`` is the address that has to have signed; empty: whichever the signature names.
    """
    text, signing = str(signed.get("text", "")), str(signed.get("signing_address", ""))
    if text != exchange_text(hashlib.sha256(sent).digest(), hashlib.sha256(received).digest()):
        return Verification("failed", "the signed hashes are not those of the bytes that were sent and received")
    if not signing or exchange_signer(text, str(signed.get("signature", ""))).lower() != signing.lower():
        return Verification("failed", f"the signature over the hashes is not {signing}'s")
    if signer and signing.lower() != signer.lower():
        return Verification("failed", f"the hashes are signed by {signing}, not by {signer}")
    return None


def read_answer(received: bytes) -> Answer:
    """Return what a response says, whole or streamed. Raises ValueError for what is neither."""
    text = received.decode()
    if text.lstrip().startswith("{"):
        return _answer([_object(text)], "message")
    lines = (line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: "))
    return _answer([_object(line) for line in lines if line != DONE], "delta")


def check_answer(body: Mapping[str, Any], answer: Answer, bundle: ReceiptBundle, *, signer: str) -> Verification:
    """Return what the provider's receipt says about an answer: that ``signer`` gave it to this body, or not."""
    wrong = next(_wrong(body, answer, bundle, signer), "")
    if wrong:
        return Verification("failed", wrong)
    asked = _plain(body.get("messages"))
    if asked is None or answer.text is None:
        return Verification(
            "not verifiable", "messages or the answer have parts that are not text, and are in no digest as they stand"
        )
    if asked != [(one.role, one.content) for one in bundle.order.chat.messages]:
        return Verification("failed", "the provider was asked something else")
    if answer.text != bundle.output:
        return Verification("failed", "the provider gave another answer")
    return Verification("verified", f"{signer} signed this answer to this request, and the hashes of all bytes agree")


def _wrong(body: Mapping[str, Any], answer: Answer, bundle: ReceiptBundle, signer: str) -> Iterator[str]:
    receipt, asked = bundle.receipt, str(body.get("model", ""))
    if address(receipt).lower() != signer.lower():
        yield f"the receipt is {address(receipt)}'s; {signer} was acknowledged"
    if answer.job != f"jobs/{receipt.job.hex()}":
        yield "the receipt is of another job"
    for one in check_bundle(bundle):
        if one.good is False:
            yield f"it is not so that {one.what}: {one.why}"
    if bundle.order.model != asked:
        yield f"{bundle.order.model!r} answered, and {asked!r} was asked"


def _answer(events: list[dict[str, Any]], part: str) -> Answer:
    job, said, plain = "", "", True
    for event in events:
        job = str(event.get("aos", {}).get("job", job))
        for choice in event.get("choices", []):
            message = choice.get(part) or {}
            said += message.get("content") or ""
            plain = plain and not message.get("tool_calls")
    return Answer(job, said if plain else None)


def _object(text: str) -> dict[str, Any]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("not an object")  # noqa: TRY004  # it is the text that is wrong
    return cast("dict[str, Any]", found)


def _plain(messages: object) -> list[tuple[str, str]] | None:
    """Return who said what; None if somebody said something else than a text."""
    if not isinstance(messages, list):
        return None
    said: list[tuple[str, str]] = []
    for message in cast("list[object]", messages):
        match message:
            case {"role": "system" | "user" | "assistant" as role, "content": str(content), **more} if not more:
                said.append((role, content))
            case _:
                return None
    return said
