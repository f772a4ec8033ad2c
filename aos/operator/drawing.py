"""What the operator says about draws: its VRF's claim, and its signature over what it says of a job."""

from __future__ import annotations

from dataclasses import dataclass

from aos.v1.dispatcher_pb2 import DrawAsked, DrawClaimed, Lease, LeaseFinished
from aos.v1.operator_pb2 import Finish
from aos.v1.types_pb2 import VectorClock
from aos.verification.attribution import sign_result
from aos.verification.keys import OperatorKey
from aos.verification.results import claim_of, read_draw, said_of_claim, said_of_result
from aos.verification.vrf import VrfKey


@dataclass(frozen=True, slots=True)
class Drawer:
    """The operator's two keys. Its methods take about a millisecond: call them in a thread."""

    key: OperatorKey
    vrf: VrfKey

    def claim(self, asked: DrawAsked, clock: VectorClock) -> DrawClaimed:
        """Return the answer. Raises InvalidField for a draw that cannot be."""
        draw = read_draw(asked.draw)
        vrf = claim_of(self.vrf, draw)
        said = said_of_claim(self.key.address, vrf, job=draw.job, request_digest=asked.request_digest, tag=asked.tag, clock=clock)
        return DrawClaimed(job=draw.job, vrf=vrf, clock=clock, signature=sign_result(said, self.key))

    def finished(self, lease: Lease, finish: Finish) -> LeaseFinished:
        """Return the result with its proof and signature, if the lease has a draw. Raises InvalidField for one that cannot be."""
        if not lease.HasField("draw"):
            return LeaseFinished(lease=lease.id, finish=finish)
        vrf = claim_of(self.vrf, read_draw(lease.draw))
        signature = sign_result(said_of_result(finish.receipt, vrf, tag=lease.tag), self.key)
        return LeaseFinished(lease=lease.id, finish=finish, vrf=vrf, signature=signature)
