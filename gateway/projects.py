"""The Hetu AOS dispatcher's REST dialect for projects, the administrator's; docs/reference/rest-jobs.md has the fields."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import grpc
from google.api.httpbody_pb2 import HttpBody
from pydantic import BaseModel, ConfigDict, Field

from aos.client import CALL_SECONDS
from aos.rpc.status import answered
from aos.v1 import dispatcher_pb2_grpc
from aos.v1.dispatcher_pb2 import CreateProjectRequest, ListProjectsRequest, Project
from gateway.body import check
from gateway.http import Context, dump, passed_on, read
from gateway.job_replies import page, reply, result, time
from gateway.v1 import projects_pb2_grpc

ADDRESS: Final = re.compile(r"0[xX]([0-9a-fA-F]{40})")
ACCOUNT: Final = "eth-"
"""How the id of a project begins that is known by an account's address: a bare address would be an operator's account."""
SHOWN: Final = re.compile(rf"{ACCOUNT}([0-9a-f]{{40}})")


class Registration(BaseModel):
    """The body of a project's registration."""

    model_config = ConfigDict(strict=True, extra="forbid")

    name: str
    address: Annotated[str, Field(min_length=1)]
    token: str = ""


class Listing(BaseModel):
    """The body of a question for the projects."""

    model_config = ConfigDict(strict=True, extra="forbid")

    token: str = ""
    page_size: Annotated[int, Field(ge=0, le=1000)] = 0
    page_token: str = ""


class ProjectsServicer(projects_pb2_grpc.ProjectsServicer):
    """Calls the Dispatcher through ``face`` with the caller's own token, which must be the administrator's."""

    def __init__(self, face: grpc.aio.Channel) -> None:
        self._dispatcher = dispatcher_pb2_grpc.DispatcherStub(face)

    async def RegisterProject(self, request: HttpBody, context: Context) -> HttpBody:
        return await reply(context, self._register(request, context))

    async def ListProjects(self, request: HttpBody, context: Context) -> HttpBody:
        return await reply(context, self._list(request, context))

    async def _register(self, request: HttpBody, context: Context) -> str:
        asked = check(Registration, (await read(request)).fields)
        wanted = CreateProjectRequest(project_id=project_id(asked.address), display_name=asked.name)
        metadata = passed_on(context, asked.token)
        made = await answered(self._dispatcher.CreateProject(wanted, metadata=metadata, timeout=CALL_SECONDS))
        return result(dump(project_row(made.project, made.token)))

    async def _list(self, request: HttpBody, context: Context) -> str:
        asked = check(Listing, (await read(request)).fields)
        wanted = ListProjectsRequest(page_size=asked.page_size, page_token=asked.page_token)
        metadata = passed_on(context, asked.token)
        listed = await answered(self._dispatcher.ListProjects(wanted, metadata=metadata, timeout=CALL_SECONDS))
        return page(dump([project_row(one) for one in listed.projects]), listed.next_page_token)


def project_id(address: str) -> str:
    """Return the id of the project that the dialect calls so: an account's address in lower case behind `eth-`, else the same."""
    account = ADDRESS.fullmatch(address)
    return f"{ACCOUNT}{account[1].lower()}" if account else address


def project_row(project: Project, token: str = "") -> dict[str, Any]:
    """Return the dialect's project. Its token is known at registration only."""
    identity = project.name.removeprefix("projects/")
    account = SHOWN.fullmatch(identity)
    address = f"0x{account[1]}" if account else identity
    return {
        "id": address,
        "name": project.display_name,
        "address": address,
        "status": "",
        "token": token,
        "created_at": time(project.created),
        "limits": {field.name: value for field, value in project.limits.ListFields()},
    }
