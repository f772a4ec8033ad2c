"""The leases that run now, by job, and with which operator's stream."""

from __future__ import annotations

from collections.abc import Mapping

from aos.dispatcher.jobs import Job
from aos.dispatcher.leases import End, LeaseRun
from aos.dispatcher.sessions import Session


class Runs:
    """Those of this dispatcher. A job has one at most."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[LeaseRun, Session]] = {}

    @property
    def leases(self) -> Mapping[str, str]:
        """The leases, by job."""
        return {job_id: run.id for job_id, (run, _) in self._of.items()}

    def put(self, run: LeaseRun, session: Session) -> None:
        """Note that a lease begins."""
        self._of[run.job.id] = (run, session)

    def drop(self, job_id: str) -> None:
        """Note that the job's lease is over, if it had one."""
        self._of.pop(job_id, None)

    def heard(self, session: Session, lease: str) -> LeaseRun | None:
        """Return the lease if this stream has it now. What is said about any other comes too late and is ignored."""
        run, holder = self._of.get(lease.partition("/")[0], (None, None))
        return run if run is not None and run.id == lease and holder is session else None

    def end(self, job_id: str, how: End, *, lease: str = "", before: int | None = None) -> None:
        """End the job's lease; with ``lease`` only this one, with ``before`` only if it began before that event of the log."""
        run, _ = self._of.get(job_id, (None, None))
        if run is not None and lease in ("", run.id) and (before is None or run.began_at < before):
            run.end(how)

    def end_all(self, how: End) -> None:
        """End all of them."""
        for run, _ in list(self._of.values()):
            run.end(how)

    def lose(self, session: Session) -> list[Job]:
        """End those of a stream that is gone; return their jobs."""
        lost = [run for run, holder in self._of.values() if holder is session]
        for run in lost:
            run.end(End.LOST)
        return [run.job for run in lost]
