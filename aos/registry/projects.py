"""AI projects: how they are registered, reported on and unregistered. Pure.

Each function is shown a project that ``settle`` has brought up to its time.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from aos.errors import BadSignature, PermissionDenied, ProjectNotFound, QueueFull
from aos.registry.leases import SAME_SECOND, Proof
from aos.registry.replicas import Entry, Project, Replica, State, Terms, gone
from aos.registry.specs import HOSTED, STRANGERS, Kind, Spec
from aos.verification.keys import PROOF_SECONDS

ANYONE: Final = "anyone"
"""Who acts without a proof."""
PROOFS_KEPT: Final = 2 * PROOF_SECONDS
"""Seconds after which a proof that was used need not be known any more."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The proofs of one key that have been used: the latest `issued_at`, and what those of that second said."""

    issued_at: int = 0
    used: tuple[str, ...] = ()

    def has(self, proof: Proof) -> bool:
        """Say whether this very proof was used."""
        return proof.issued_at == self.issued_at and proof.says in self.used

    def use(self, signer: str, proof: Proof) -> Seen:
        """Return what has been used with this one. Raises BadSignature for a proof that is out of order or used up."""
        if proof.issued_at < self.issued_at:
            raise BadSignature(signer, "a later one was used before")
        if proof.issued_at > self.issued_at:
            return Seen(proof.issued_at, (proof.says,))
        if proof.says in self.used or len(self.used) >= SAME_SECOND:
            raise BadSignature(signer, "it was used before; sign a later one")
        return Seen(self.issued_at, (*self.used, proof.says))


@dataclass(frozen=True, slots=True)
class Wanted:
    """A registration whose fields have been checked."""

    name: str
    owner: str
    """Address of the key that signed it, lower-case; empty: no key did."""
    operator: str
    """Address of the operator that is to host it, lower-case; empty: whoever hosts such."""
    specs: tuple[Spec, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What an operator says about a replica, checked."""

    state: State
    reason: str
    capabilities: tuple[str, ...]
    next_probe: datetime | None
    checked: datetime | None
    running: int


Key = tuple[str, str, str, Kind, str]


def _key(one: Replica) -> Key:
    return (one.asked, *one.spec.key)


def register(before: Project | None, wanted: Wanted, *, now: datetime, terms: Terms, lease_id: str) -> Project:
    """Return the project with this list in place of what it had; the same list changes nothing.

    What lapsed begins anew. ``lease_id`` is for a project that is new. Raises PermissionDenied for another key's project.
    """
    if before is not None and not before.there:
        graves, before = before.replicas, None
    else:
        graves = ()
    _refuse_others(before, wanted.owner)
    version = before.version + 1 if before is not None else 1
    lease = before.lease_id if before is not None else lease_id
    there = {_key(one): one for one in before.replicas if one.there} if before is not None else {}
    listed: list[Replica] = []
    for spec in wanted.specs:
        found = there.pop((wanted.operator, *spec.key), None)
        if found is None:
            identity = _identity(lease, version, wanted.operator, spec)
            listed.append(Replica(identity, spec, wanted.operator, wanted.operator, now, now + terms.lease))
        else:
            listed.append(_again(found, spec, now, terms))
    left = [_removed(one, now, force=False) for one in there.values()]
    graves = graves if before is None else tuple(one for one in before.replicas if not one.there)
    replicas = (*listed, *left, *graves)
    if before is not None and before.replicas == replicas and before.ended is None:
        return before
    created = before.created if before is not None else now
    return Project(wanted.name, wanted.owner, lease, created, version, replicas)


def _again(one: Replica, spec: Spec, now: datetime, terms: Terms) -> Replica:
    """Return a replica that is in the new list, too."""
    if one.spec.address != spec.address:  # its name has moved: connect there from now on
        one = replace(one, spec=spec)
    if one.state is State.DRAINING:  # wanted back before it was gone: what runs goes on, and the operator says how it is
        return replace(one, state=State.REGISTERED, reason="", ended=None)
    if one.state is State.LAPSED:
        return replace(one, state=State.REGISTERED, reason="", expires=now + terms.lease, reported=False)
    return one


def unregister(before: Project | None, name: str, owner: str, *, now: datetime, force: bool) -> Project:
    """Return the project without its replicas: drained, or with ``force`` gone at once.

    Raises ProjectNotFound if there is nothing to end, PermissionDenied for another key's project.
    """
    if before is None or not before.there or (before.ended is not None and not force):
        raise ProjectNotFound(name)
    _refuse_others(before, owner)
    replicas = tuple(_removed(one, now, force=force) if one.there else one for one in before.replicas)
    return replace(before, replicas=replicas, version=before.version + 1, ended=before.ended or now)


def _removed(one: Replica, now: datetime, *, force: bool) -> Replica:
    # of one that no operator has ever reported, or that lapsed, nothing runs
    if force or not one.reported or one.state is State.LAPSED:
        return gone(one, now)
    return one if one.state is State.DRAINING else replace(one, state=State.DRAINING, reason="", ended=now)


def report(
    project: Project, reports: Mapping[str, Report], operator: str, *, now: datetime, terms: Terms
) -> tuple[Project, list[Entry]]:
    """Return the project as its operator says that it is, and what the audit log is told. Reports of others count for nothing."""
    entries: list[Entry] = []
    replicas: list[Replica] = []
    for one in project.replicas:
        said = reports.get(one.id)
        if said is None or not hosts(one, operator):
            replicas.append(one)
            continue
        after = _reported(one, said, operator, now, terms)
        if after.state is State.GONE:
            where = f"{one.spec.model} at {one.spec.api}"
            entries.append(Entry(operator, "replica-gone", f"{project.name}/{one.id}", f"{where}: drained"))
        replicas.append(after)
    return replace(project, replicas=tuple(replicas)), entries


def hosts(one: Replica, operator: str) -> bool:
    """Say whether the operator may report the replica: it has it, or nobody has and it was registered for nobody."""
    if not one.there:
        return False
    return one.operator == operator or (not one.asked and (not one.operator or one.state is State.LAPSED))


def _reported(one: Replica, said: Report, operator: str, now: datetime, terms: Terms) -> Replica:
    after = replace(
        one,
        operator=operator,
        expires=now + terms.lease,
        next_probe=said.next_probe,
        checked=said.checked,
        running=said.running,
        reported=True,
    )
    if one.state is State.DRAINING:
        # an operator that does not say so yet may be about to send a request there
        return gone(after, now) if said.state is State.DRAINING and said.running == 0 else after
    # one that was wanted back before its operator heard of it
    state = State.REGISTERED if said.state is State.DRAINING else said.state
    return replace(after, state=state, reason="" if state is State.HEALTHY else said.reason, capabilities=said.capabilities)


def refuse_crowds(hosted: Sequence[tuple[str, int]], project: Project, operator: str) -> None:
    """Raise QueueFull if the operator would have more replicas than are taken.

    ``hosted`` are the other projects' owners, with the number of replicas that each has with this operator.
    """
    own = sum(one.there and one.asked == operator for one in project.replicas)
    total = own + sum(count for _, count in hosted)
    if total > HOSTED:
        raise QueueFull("replicas of one operator", HOSTED)
    if operator and project.owner != operator and own + sum(count for owner, count in hosted if owner != operator) > STRANGERS:
        raise QueueFull("replicas of one operator that other keys registered", STRANGERS)


def _refuse_others(before: Project | None, owner: str) -> None:
    if before is not None and before.owner != owner:
        raise PermissionDenied(f"the key that registered {before.name!r}")


def _identity(lease: str, version: int, operator: str, spec: Spec) -> str:
    said = "\0".join((lease, str(version), operator, spec.model, spec.api, str(spec.kind.value), spec.cid))
    return hashlib.sha256(said.encode()).hexdigest()[:32]


def told(before: Project | None, after: Project, actor: str, action: str, *, detail: str = "") -> list[Entry]:
    """Return what the audit log is told about a registration or its end; nothing if it changed nothing."""
    if after == before:
        return []
    had = {one.id for one in before.replicas if one.registered} if before is not None else set[str]()
    has = {one.id for one in after.replicas if one.registered}
    counts = f"{len(has - had)} replicas added, {len(has & had)} kept, {len(had - has)} removed"
    return [Entry(actor or ANYONE, action, after.name, f"{counts}{detail}")]
