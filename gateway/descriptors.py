"""What Envoy transcodes by, made from the loaded modules, so that it is always what the servers speak. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from google.api import annotations_pb2, http_pb2
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet, MethodOptions
from google.rpc import error_details_pb2

from aos.v1 import blobs_pb2, broker_pb2, controllers_pb2, dispatcher_pb2, errors_pb2, registry_pb2, requests_pb2
from gateway.v1 import (
    ai_projects_pb2,
    aici_pb2,
    images_pb2,
    jobs_pb2,
    metrics_pb2,
    models_pb2,
    operators_pb2,
    opml_pb2,
    pages_pb2,
    projects_pb2,
    zerog_pb2,
)

SERVICES: Final[tuple[ServiceDescriptor, ...]] = (
    dispatcher_pb2.DESCRIPTOR.services_by_name["Dispatcher"],
    broker_pb2.DESCRIPTOR.services_by_name["Broker"],
    requests_pb2.DESCRIPTOR.services_by_name["Requests"],
    zerog_pb2.DESCRIPTOR.services_by_name["Zerog"],
    jobs_pb2.DESCRIPTOR.services_by_name["Jobs"],
    operators_pb2.DESCRIPTOR.services_by_name["Operators"],
    projects_pb2.DESCRIPTOR.services_by_name["Projects"],
    ai_projects_pb2.DESCRIPTOR.services_by_name["AiProjects"],
    models_pb2.DESCRIPTOR.services_by_name["Models"],
    images_pb2.DESCRIPTOR.services_by_name["Images"],
    blobs_pb2.DESCRIPTOR.services_by_name["Blobs"],
    aici_pb2.DESCRIPTOR.services_by_name["Aici"],
    metrics_pb2.DESCRIPTOR.services_by_name["Metrics"],
    pages_pb2.DESCRIPTOR.services_by_name["Pages"],
    opml_pb2.DESCRIPTOR.services_by_name["Opml"],
    opml_pb2.DESCRIPTOR.services_by_name["OpmlCallbacks"],
)
"""The services that have a REST form."""

NATIVE: Final[tuple[ServiceDescriptor, ...]] = (
    registry_pb2.DESCRIPTOR.services_by_name["Registry"],
    controllers_pb2.DESCRIPTOR.services_by_name["Controllers"],
)
"""Services on the port that have no REST form, and streams."""

# without the types of error details, Envoy would answer errors that carry them with an empty body
ROOTS: Final = (*(service.file for service in SERVICES), error_details_pb2.DESCRIPTOR, errors_pb2.DESCRIPTOR)


def descriptor_set() -> FileDescriptorSet:
    """Return the files of ``SERVICES`` and all that they import, dependencies first."""
    files: dict[str, FileDescriptorProto] = {}

    def add(file: FileDescriptor) -> None:
        if file.name in files:
            return
        for needed in file.dependencies:
            add(needed)
        copied = FileDescriptorProto()
        file.CopyToProto(copied)
        files[file.name] = copied

    for root in ROOTS:
        add(root)
    return FileDescriptorSet(file=files.values())


@dataclass(frozen=True, slots=True)
class Rest:
    """A method's REST form."""

    verb: str
    """`GET` or `POST`."""
    template: str
    """The path, with variables in braces."""
    method: str
    """`/package.Service/Method`."""

    @property
    def pattern(self) -> str:
        """A regular expression (RE2) for the paths that the template stands for."""
        return _pattern(self.template)


@cache
def _pattern(template: str) -> str:
    parts = re.split(r"\{[a-z_.]+(?:=([^}]+))?\}", template.replace("/**/", "/{any=**}/"))
    # split gives text, variable's pattern, text, …; a variable without a pattern is one segment
    return "".join(re.escape(part) if index % 2 == 0 else _segments(part or "*") for index, part in enumerate(parts))


def _segments(pattern: str) -> str:
    kinds = {"**": ".+", "*": "[^/:]+"}
    return "/".join(kinds.get(segment, re.escape(segment)) for segment in pattern.split("/"))


@cache
def rest() -> tuple[Rest, ...]:
    """Return every method that has a REST form."""
    return tuple(_rest())


def _rest() -> Iterator[Rest]:
    for service in SERVICES:
        for method in service.methods:
            given: http_pb2.HttpRule = method.GetOptions().Extensions[annotations_pb2.http]  # pyright: ignore[reportArgumentType]
            for rule in (given, *given.additional_bindings):
                verb = rule.WhichOneof("pattern")
                if verb is not None:
                    yield Rest(verb.upper(), getattr(rule, verb), path(method))


def streaming() -> Iterator[str]:
    """Yield every method of ``SERVICES`` and ``NATIVE`` that streams, in either direction."""
    for service in (*SERVICES, *NATIVE):
        for method in service.methods:
            if method.client_streaming or method.server_streaming:
                yield path(method)


SAFE: Final = frozenset({MethodOptions.NO_SIDE_EFFECTS, MethodOptions.IDEMPOTENT})


@cache
def safe() -> frozenset[str]:
    """Return every method of ``SERVICES`` and ``NATIVE`` that its proto lets be sent twice: nobody can tell whether it was."""
    every = (method for service in (*SERVICES, *NATIVE) for method in service.methods if not method.client_streaming)
    return frozenset(path(method) for method in every if method.GetOptions().idempotency_level in SAFE)


def path(method: MethodDescriptor) -> str:
    """Return the method's path, `/package.Service/Method`."""
    return f"/{method.containing_service.full_name}/{method.name}"
