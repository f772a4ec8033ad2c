"""The Hetu AOS dispatcher's REST dialect for operators; docs/reference/rest-jobs.md has the fields.

What registers an operator is what the registry asks of everyone: offers that its key has signed, and when. Nobody's word counts.
"""

from __future__ import annotations

import asyncio
import re
from typing import Annotated, Any, Final

import grpc
from google.api.httpbody_pb2 import HttpBody
from pydantic import BaseModel, ConfigDict, Field

from aos.client import CALL_SECONDS
from aos.errors import BadSignature, InvalidField
from aos.rpc.status import answered
from aos.v1 import registry_pb2_grpc
from aos.v1.registry_pb2 import (
    GetOperatorRequest,
    Offer,
    OperatorInfo,
    OperatorProof,
    RegisterOperatorRequest,
    RenewOperatorRequest,
)
from aos.v1.types_pb2 import Price
from aos.verification.envelope import personal
from aos.verification.keys import digest_offers, signer
from gateway.body import Body, check, members
from gateway.http import Context, dump, passed_on, read
from gateway.job_replies import reply, result, time
from gateway.job_rows import KIND
from gateway.v1 import operators_pb2_grpc

ADDRESS: Final = re.compile(r"(?:operators/)?(0x[0-9a-fA-F]{40})")
SIGNATURE: Final = re.compile(r"(?:0x)?([0-9a-fA-F]{130})")
DIGEST: Final = re.compile(r"(?:0x)?([0-9a-fA-F]{64})")
VRF_KEY: Final = re.compile(r"(?:0x)?([0-9a-fA-F]{64})?")
OFFERS: Final = 64
"""Most offers of one operator, as the registry has it."""
U32: Final = (1 << 32) - 1
TEE: Final = "tee"
"""The kind of an operator whose key is attested: it takes such jobs, besides the others."""
WHOLE: Final = ("0", "10000")
"""The range of an operator's draws, in ten-thousandths: the whole, for each."""

Count = Annotated[int, Field(ge=0, le=U32)]


class OfferedPrice(BaseModel):
    """Neurons a token, as decimal digits."""

    model_config = ConfigDict(strict=True, extra="forbid")

    prompt_token: str
    completion_token: str


class Offered(BaseModel):
    """A model that the operator runs, as the native API's Offer."""

    model_config = ConfigDict(strict=True, extra="forbid")

    model: str
    digest: str
    context_length: Count
    chat: bool = False
    price: OfferedPrice
    slots: Count
    exact: bool = False
    embeddings: bool = False

    def proto(self) -> Offer:
        fields = self.model_dump(exclude={"price"})
        return Offer(**fields, price=Price(**self.price.model_dump()))


class Params(BaseModel):
    """What the operator's key has signed."""

    model_config = ConfigDict(strict=True, extra="forbid")

    operator: str
    signature: str
    hash: str
    issued_at: Annotated[int, Field(ge=0, lt=1 << 63)]
    offers: Annotated[list[Offered], Field(max_length=OFFERS)] = []
    vrf_key: str = ""


class Registration(BaseModel):
    """The body of a registration."""

    model_config = ConfigDict(strict=True, extra="forbid")

    address: str
    signature: str
    params: Params


class Question(BaseModel):
    """The body of a question about an operator."""

    model_config = ConfigDict(strict=True, extra="forbid")

    operator: str
    verify: str = ""


class OperatorsServicer(operators_pb2_grpc.OperatorsServicer):
    """Calls the Registry through ``face``: registrations are signed, questions need a token."""

    def __init__(self, face: grpc.aio.Channel) -> None:
        self._registry = registry_pb2_grpc.RegistryStub(face)

    async def RegisterOperator(self, request: HttpBody, context: Context) -> HttpBody:
        return await reply(context, self._register(request))

    async def GetOperatorInfo(self, request: HttpBody, context: Context) -> HttpBody:
        return await reply(context, self._info(request, context))

    async def _register(self, request: HttpBody) -> str:
        body = await read(request)
        asked = check(Registration, body.fields)
        wanted = registration(asked)
        # in a thread: recovering a key takes milliseconds
        await asyncio.to_thread(check_sender, asked, body)
        if isinstance(wanted, RegisterOperatorRequest):
            found = await answered(self._registry.RegisterOperator(wanted, timeout=CALL_SECONDS))
        else:
            found = await answered(self._registry.RenewOperator(wanted, timeout=CALL_SECONDS))
        return result(dump(operator_row(found)))

    async def _info(self, request: HttpBody, context: Context) -> str:
        asked = check(Question, (await read(request)).fields)
        address = ADDRESS.fullmatch(asked.operator)
        if address is None:
            raise InvalidField("operator", "must be 0x and 40 hex digits", value=asked.operator, limit="0x + 40 hex digits")
        wanted = GetOperatorRequest(name=f"operators/{address[1]}")
        metadata = passed_on(context, asked.verify)
        return result(
            dump(operator_row(await answered(self._registry.GetOperator(wanted, metadata=metadata, timeout=CALL_SECONDS))))
        )


def registration(asked: Registration) -> RegisterOperatorRequest | RenewOperatorRequest:
    """Return the native request: a registration if there are offers, else its renewal. Raises InvalidField."""
    params = asked.params
    if asked.address.lower() != params.operator.lower():
        raise InvalidField("address", "must be that of params.operator: an operator speaks for itself", value=asked.address)
    offers = [one.proto() for one in params.offers]
    vrf_key = bytes.fromhex(_hex(VRF_KEY, params.vrf_key, "params.vrf_key", 64))
    digest = digest_offers(offers, vrf_key).hex()
    if _hex(DIGEST, params.hash, "params.hash", 64).lower() != digest:
        raise InvalidField("params.hash", f"must be that of the offers, {digest}", value=params.hash, limit=digest)
    signature = bytes.fromhex(_hex(SIGNATURE, params.signature, "params.signature", 130))
    proof = OperatorProof(operator=params.operator, issued_at=params.issued_at, signature=signature)
    if offers:
        return RegisterOperatorRequest(proof=proof, offers=offers, vrf_key=vrf_key)
    return RenewOperatorRequest(proof=proof)


def check_sender(asked: Registration, body: Body) -> None:
    """Raise BadSignature unless `signature` is that of `address` over the text of `params`, by EIP-191."""
    begin, end = next((start, end) for key, start, end in members(body.text) if key == "params")
    given = SIGNATURE.fullmatch(asked.signature)
    if given is None:
        raise BadSignature(asked.address, "it must have 130 hex digits")
    signer(personal(body.text[begin:end].encode()), bytes.fromhex(given[1]), asked.address)


def _hex(form: re.Pattern[str], text: str, at: str, digits: int) -> str:
    found = form.fullmatch(text)
    if found is None:
        raise InvalidField(at, f"must have {digits} hex digits", value=text, limit=digits)
    return found[1] or ""


def operator_row(operator: OperatorInfo) -> dict[str, Any]:
    """Return the dialect's operator."""
    address = operator.name.removeprefix("operators/")
    start, end = WHOLE
    return {
        "id": address,
        "name": f"Operator {address}",
        "address": address,
        "start": start,
        "end": end,
        "operator_type": TEE if operator.HasField("attested") else KIND,
        "status": "ready" if operator.routable else operator.reason,
        "created_at": time(operator.registered),
        "models": [offer.model for offer in operator.offers],
        "vrf_key": operator.vrf_key.hex(),
    }
