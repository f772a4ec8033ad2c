"""The AI model interface's node face: model servers registered and unregistered; docs/reference/rest-projects.md has the fields."""

from __future__ import annotations

import re
from collections.abc import Awaitable
from typing import Annotated, Any, Final

import grpc
from google.api.httpbody_pb2 import HttpBody
from pydantic import BaseModel, ConfigDict, Field

from aos.client import CALL_SECONDS
from aos.errors import InvalidField, ProjectNotFound
from aos.rpc.status import answered
from aos.v1 import registry_pb2_grpc
from aos.v1.registry_pb2 import (
    AiProject,
    AiProjectState,
    ModelKind,
    OperatorProof,
    RegisterProjectRequest,
    Replica,
    ReplicaChange,
    ReplicaSpec,
    ReplicaState,
    UnregisterProjectRequest,
)
from gateway.body import check
from gateway.http import Context, Reply, dump, known, passed_on, read, send
from gateway.model_errors import body, failure, row
from gateway.v1 import ai_projects_pb2_grpc

MODELS: Final = 256
"""Most models of one project, as the registry has it."""
SIGNATURE: Final = re.compile(r"(?:0x)?([0-9a-fA-F]{130})")
OK: Final = "ok"
NOT_EXISTED: Final = "not existed"
TYPES: Final = {0: ModelKind.MODEL_KIND_TEXT, 1: ModelKind.MODEL_KIND_IMAGE, 2: ModelKind.MODEL_KIND_IMAGE_EDIT}
"""The dialect's `type` and the native kind."""


class Proof(BaseModel):
    """Whose key says so, and its signature."""

    model_config = ConfigDict(strict=True, extra="forbid")

    operator: str
    issued_at: Annotated[int, Field(ge=0, lt=1 << 63)]
    signature: str

    def proto(self) -> OperatorProof:
        """Return the native proof. Raises InvalidField."""
        given = SIGNATURE.fullmatch(self.signature)
        if given is None:
            raise InvalidField("proof.signature", "must have 130 hex digits", value=self.signature, limit=130)
        return OperatorProof(operator=self.operator, issued_at=self.issued_at, signature=bytes.fromhex(given[1]))


class RegisteredModel(BaseModel):
    """One model server of a project."""

    model_config = ConfigDict(strict=True, extra="forbid")

    model: str
    api: str
    type: Annotated[int, Field(ge=min(TYPES), le=max(TYPES))] = 0
    cid: str = ""


class Registration(BaseModel):
    """The body of a registration."""

    model_config = ConfigDict(strict=True, extra="forbid")

    project: str
    models: list[RegisteredModel]
    operator: str = ""
    proof: Proof | None = None


class Removal(BaseModel):
    """The body of a project's end."""

    model_config = ConfigDict(strict=True, extra="forbid")

    project: str
    force: bool = False
    proof: Proof | None = None


class AiProjectsServicer(ai_projects_pb2_grpc.AiProjectsServicer):
    """Calls the Registry through ``face``: what is registered is signed, or the network is one of loopback development."""

    def __init__(self, face: grpc.aio.Channel) -> None:
        self._registry = registry_pb2_grpc.RegistryStub(face)

    async def RegisterAiProject(self, request: HttpBody, context: Context) -> HttpBody:
        return await _reply(context, self._register(request, context))

    async def UnregisterAiProject(self, request: HttpBody, context: Context) -> HttpBody:
        return await _reply(context, self._unregister(request, context))

    async def _register(self, request: HttpBody, context: Context) -> dict[str, Any]:
        fields = (await read(request)).fields
        refuse_crowd(fields)
        asked = check(Registration, fields)
        wanted = RegisterProjectRequest(
            project=asked.project,
            replicas=[ReplicaSpec(model=one.model, api=one.api, kind=TYPES[one.type], cid=one.cid) for one in asked.models],
            operator=asked.operator,
            proof=None if asked.proof is None else asked.proof.proto(),
        )
        made = await answered(self._registry.RegisterProject(wanted, metadata=passed_on(context), timeout=CALL_SECONDS))
        return {"code": 0, "message": OK, **project_row(made)}

    async def _unregister(self, request: HttpBody, context: Context) -> dict[str, Any]:
        asked = check(Removal, (await read(request)).fields)
        wanted = UnregisterProjectRequest(
            project=asked.project, force=asked.force, proof=None if asked.proof is None else asked.proof.proto()
        )
        try:
            ended = await answered(self._registry.UnregisterProject(wanted, metadata=passed_on(context), timeout=CALL_SECONDS))
        except ProjectNotFound:
            return {"code": 0, "message": NOT_EXISTED, "project": asked.project}
        return {"code": 0, "message": OK, **project_row(ended)}


def refuse_crowd(fields: dict[str, Any]) -> None:
    """Raise InvalidField for more models than are taken, before any of them is looked at."""
    models = fields.get("models")
    if isinstance(models, list) and not 1 <= len(models) <= MODELS:  # pyright: ignore[reportUnknownArgumentType]
        count = len(models)  # pyright: ignore[reportUnknownArgumentType]
        raise InvalidField("models", f"must have 1 to {MODELS} models, not {count}", value=count, limit=MODELS)


def project_row(project: AiProject) -> dict[str, Any]:
    """Return a project as the dialect shows it. Times are in seconds since 1970."""
    return {
        "project": project.name,
        "lease_id": project.lease_id,
        "expires_at": project.expires.seconds if project.HasField("expires") else None,
        "version": project.version,
        "state": AiProjectState.Name(project.state).removeprefix("AI_PROJECT_STATE_").lower(),
        "reason": project.reason,
        "replicas": [
            {**replica_row(one), "result": ReplicaChange.Name(one.change).removeprefix("REPLICA_CHANGE_").lower()}
            for one in project.replicas
            if one.change
        ],
    }


def replica_row(one: Replica) -> dict[str, Any]:
    """Return a replica as the dialect shows it. Times are in seconds since 1970."""
    return {
        "id": one.id,
        "project": one.project,
        "model": one.model,
        "api": one.api,
        "type": max(one.kind - 1, 0),
        "cid": one.cid,
        "operator": one.operator,
        "state": ReplicaState.Name(one.state).removeprefix("REPLICA_STATE_").lower(),
        "reason": one.reason,
        "capabilities": list(one.capabilities),
        "running": one.running,
        "checked": one.checked.seconds if one.HasField("checked") else None,
        "next_probe": one.next_probe.seconds if one.HasField("next_probe") else None,
        "expires_at": one.expires.seconds,
    }


async def _reply(context: Context, work: Awaitable[dict[str, Any]]) -> HttpBody:
    try:
        answer = Reply(dump(await work).encode())
    except Exception as error:
        answer = _failure(error)
    return await send(context, answer)


def _failure(error: Exception) -> Reply:
    meant = known(error)
    if not isinstance(meant, InvalidField):
        return failure(meant)
    native = meant.violations[0].field if meant.violations else meant.facts.get("field", "")
    ours = re.sub(r"^(models\[\d+\])\.kind", r"\1.type", re.sub(r"^replicas\b", "models", native))
    message = f"{ours}{meant.message.removeprefix(native)}"
    found = row(meant)
    facts = {"field": ours, "value": meant.facts.get("value", ""), "limit": meant.facts.get("limit", "")}
    return Reply(dump(body(found, message, ours) | facts).encode(), found.status)
