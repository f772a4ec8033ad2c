"""AI projects as tests register, report and end them."""

from __future__ import annotations

from aos.v1 import registry_pb2 as pb
from aos.verification.keys import OperatorKey
from aos.verification.projects import prove_request
from tests.registry.conftest import Harness

API = "http://127.0.0.1:1088/v1/chat/completions"


def a_replica(model: str = "Llama3-8B", *, api: str = API, **changes) -> pb.ReplicaSpec:
    return pb.ReplicaSpec(model=model, api=api, **changes)


async def put(
    registry: Harness, key: OperatorKey | None, *replicas: pb.ReplicaSpec, project: str = "shop", operator: str = ""
) -> pb.AiProject:
    """Register these replicas; without a key, without a proof."""
    request = pb.RegisterProjectRequest(project=project, replicas=replicas or (a_replica(),), operator=operator)
    return await registry.stub.RegisterProject(signed(registry, key, request))


async def end(registry: Harness, key: OperatorKey | None, *, project: str = "shop", force: bool = False) -> pb.AiProject:
    return await registry.stub.UnregisterProject(signed(registry, key, pb.UnregisterProjectRequest(project=project, force=force)))


def signed(registry: Harness, key: OperatorKey | None, request):
    if key is not None:
        request.proof.CopyFrom(prove_request(key, request, issued_at=registry.second))
    return request


async def say(
    registry: Harness,
    key: OperatorKey,
    *replicas: pb.Replica,
    state: pb.ReplicaState = pb.REPLICA_STATE_HEALTHY,
    **how,
) -> pb.ReportReplicasResponse:
    """Report all these replicas alike."""
    reports = [pb.ReplicaReport(id=one.id, state=state, **how) for one in replicas]
    return await registry.stub.ReportReplicas(signed(registry, key, pb.ReportReplicasRequest(reports=reports)))


async def shown(registry: Harness, project: str = "shop") -> pb.AiProject:
    return await registry.stub.GetAiProject(pb.GetAiProjectRequest(name=project))


def states(project: pb.AiProject) -> dict[str, str]:
    """Each replica's state, by its model."""
    return {one.model: pb.ReplicaState.Name(one.state).removeprefix("REPLICA_STATE_") for one in project.replicas}


def changes(project: pb.AiProject) -> dict[str, str]:
    """What the call did to each replica, by its model."""
    return {one.model: pb.ReplicaChange.Name(one.change).removeprefix("REPLICA_CHANGE_") for one in project.replicas}
