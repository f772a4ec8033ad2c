"""What keys sign about AI projects: registrations, their end, and how replicas are; docs/reference/rest-projects.md."""

from __future__ import annotations

import hashlib
from typing import Any, Final

import rfc8785

from aos.errors import BadSignature
from aos.v1.registry_pb2 import (
    OperatorProof,
    RegisterProjectRequest,
    ReportReplicasRequest,
    UnregisterProjectRequest,
    WatchProjectsRequest,
)
from aos.verification.keys import PROOF_SECONDS, OperatorKey, registration_statement, signer

Request = RegisterProjectRequest | UnregisterProjectRequest | WatchProjectsRequest | ReportReplicasRequest

ACTIONS: Final[dict[type[Any], str]] = {
    RegisterProjectRequest: "register-project",
    UnregisterProjectRequest: "unregister-project",
    WatchProjectsRequest: "watch-projects",
    ReportReplicasRequest: "report-replicas",
}
"""The `action` of the signed statement, by request."""


def digest_request(request: Request) -> bytes:
    """Return the SHA-256 of the request's RFC 8785 JSON, without its proof. Raises ValueError for text that JSON cannot hold."""
    return hashlib.sha256(rfc8785.dumps(_said(request))).digest()


def _said(request: Request) -> Any:
    if isinstance(request, RegisterProjectRequest):
        models = [
            # as REST counts them: from 0, and text where nothing is said
            {"model": one.model, "api": one.api, "type": max(one.kind - 1, 0), "cid": one.cid}
            for one in request.replicas
        ]
        return {"project": request.project, "models": models, "operator": request.operator}
    if isinstance(request, UnregisterProjectRequest):
        return {"project": request.project, "force": request.force}
    if isinstance(request, WatchProjectsRequest):
        return {"operator": request.operator, "unaddressed": request.unaddressed}
    return [
        {
            "id": one.id,
            "state": one.state,
            "reason": one.reason,
            "capabilities": list(one.capabilities),
            "next_probe": one.next_probe.seconds,
            "checked": one.checked.seconds,
            "running": one.running,
        }
        for one in request.reports
    ]


def prove_request(key: OperatorKey, request: Request, *, issued_at: int) -> OperatorProof:
    """Return the proof that goes with the request; takes milliseconds. ``issued_at`` is in seconds since 1970."""
    said = registration_statement(ACTIONS[type(request)], key.address, digest_request(request), issued_at)
    return OperatorProof(operator=key.address, issued_at=issued_at, signature=key.sign(said))


def check_request(request: Request, *, now: int) -> str:
    """Return the address of the key that signed the request, lower-case; takes milliseconds.

    Raises BadSignature for a wrong key, changed contents, or a proof that is more than ``PROOF_SECONDS`` from ``now``. Whether it
    was used before is for the reader to know.
    """
    proof = request.proof
    if abs(now - proof.issued_at) > PROOF_SECONDS:
        raise BadSignature(proof.operator, f"it was issued more than {PROOF_SECONDS} s from now")
    try:
        said = registration_statement(ACTIONS[type(request)], proof.operator, digest_request(request), proof.issued_at)
    except Exception as error:  # an address that is none, or text that JSON cannot hold
        raise BadSignature(proof.operator, "the address or the contents are malformed") from error
    return signer(said, proof.signature, proof.operator).lower()
