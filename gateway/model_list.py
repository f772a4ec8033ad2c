"""The list of models: one object that OpenAI's clients and readers of the model interface both accept. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from aos.v1.registry_pb2 import AiProject, Model, Replica, ReplicaState
from gateway.ai_projects import replica_row

PROJECT: Final = "aos"
"""Who owns the models that this network's operators run themselves."""
TEXT, IMAGE, IMAGE_EDIT = range(3)
GOING: Final = {ReplicaState.REPLICA_STATE_DRAINING, ReplicaState.REPLICA_STATE_GONE}
ORDER: Final = (
    ReplicaState.REPLICA_STATE_HEALTHY,
    ReplicaState.REPLICA_STATE_REGISTERED,
    ReplicaState.REPLICA_STATE_UNHEALTHY,
    ReplicaState.REPLICA_STATE_REFUSED,
    ReplicaState.REPLICA_STATE_LAPSED,
)
"""Which of a model's replicas speaks for it, best first."""


def registered(projects: Sequence[AiProject]) -> dict[str, list[Replica]]:
    """Return the replicas that are registered, by model, best first; by project where they are alike."""
    found: dict[str, list[Replica]] = {}
    for project in projects:
        for one in project.replicas:
            if one.state not in GOING:
                found.setdefault(one.model, []).append(one)
    for replicas in found.values():
        replicas.sort(key=lambda one: (ORDER.index(one.state) if one.state in ORDER else len(ORDER), one.project))
    return found


def listing(models: Sequence[Model], replicas: Mapping[str, Sequence[Replica]], project: str = "") -> dict[str, Any]:
    """Return the list; with ``project``, only what is registered under that name, or, for `aos`, under none."""
    offered = {model.name: model for model in models}
    shown: list[dict[str, Any]] = []
    for name in sorted(offered.keys() | replicas.keys()):
        there = replicas.get(name, ())
        if project == PROJECT and there:
            continue
        if project not in {"", PROJECT}:
            there = [one for one in there if one.project == project]
            if not there:
                continue
        shown.append(describe(offered.get(name), there))
    return {"object": "list", "project": project or PROJECT, "data": shown}


def describe(model: Model | None, replicas: Sequence[Replica] = ()) -> dict[str, Any]:
    """Return one model: what operators offer of it, if any does, and the model servers that are registered for it.

    Of at least one of both. What nobody has said is null.
    """
    first = replicas[0] if replicas else None
    name = model.name if model is not None else first.model if first is not None else ""
    state, reason = _state(model, first)
    return {
        "id": name,
        "object": "model",
        "created": model.created.seconds if model is not None else first.created.seconds if first is not None else 0,
        "owned_by": first.project if first is not None else PROJECT,
        "model": name,
        "url": first.api if first is not None else "",
        "type": _type(model, first),
        "weight_hash": model.digest if model is not None else None,
        "state": state,
        "reason": reason,
        "context_length": model.context_length if model is not None else None,
        "chat": model.chat if model is not None else None,
        "embeddings": model.embeddings if model is not None else None,
        "price": None
        if model is None
        else {"prompt_token": model.price.prompt_token, "completion_token": model.price.completion_token},
        "operators": list(model.operators) if model is not None else [],
        "replicas": [replica_row(one) for one in replicas],
    }


def _state(model: Model | None, first: Replica | None) -> tuple[str, str]:
    if model is not None:
        return ("ready", "") if model.routable else ("unavailable", model.reason)
    assert first is not None, "a model that nobody offers is shown for its replicas"
    if first.state == ReplicaState.REPLICA_STATE_HEALTHY:
        return "unavailable", "its operator has checked it and does not offer it yet"
    return ReplicaState.Name(first.state).removeprefix("REPLICA_STATE_").lower(), first.reason


def _type(model: Model | None, first: Replica | None) -> int:
    if first is not None:
        return max(first.kind - 1, TEXT)
    if model is not None and model.images:
        return IMAGE
    return IMAGE_EDIT if model is not None and model.image_edits else TEXT
