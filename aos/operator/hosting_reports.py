"""How a hosted model server is, as the registry is told."""

from __future__ import annotations

from typing import Final

from aos.operator.upstream_group import Member
from aos.operator.upstream_health import State
from aos.v1.registry_pb2 import ReplicaReport, ReplicaState

REASON_CHARS: Final = 512
"""Most characters of a reason in a report."""
STATES: Final = {
    State.STARTING: ReplicaState.REPLICA_STATE_REGISTERED,
    State.HEALTHY: ReplicaState.REPLICA_STATE_HEALTHY,
    State.DEGRADED: ReplicaState.REPLICA_STATE_HEALTHY,
    State.DOWN: ReplicaState.REPLICA_STATE_UNHEALTHY,
}
"""As reports have them."""


def report_of(member: Member) -> ReplicaReport:
    """Return the report. One that is up and lacks something essential is refused, until its next check."""
    health, state = member.prober.health, STATES[member.prober.health.state]
    if member.lacking and health.usable:
        state = ReplicaState.REPLICA_STATE_REFUSED
    if member.draining:  # that this is known: nothing new begins there, so with nothing running it is gone
        state = ReplicaState.REPLICA_STATE_DRAINING
    report = ReplicaReport(id=member.id, state=state, running=member.upstream.running)
    if not health.usable or member.lacking:
        report.reason = (member.lacking if health.usable else health.reason)[:REASON_CHARS]
    report.capabilities.extend(member.capabilities)
    report.next_probe.FromDatetime(health.next_probe)
    if health.checked is not None:
        report.checked.FromDatetime(health.checked)
    return report
