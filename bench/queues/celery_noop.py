"""A Celery application with a task that does nothing, and a caller. ``REDIS`` names the server.

As durable as a job of ours: a task is acknowledged once it is done, and its result is kept.
"""

# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUntypedFunctionDecorator=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from celery import Celery

app = Celery("noop", broker=os.environ["REDIS"], backend=os.environ["REDIS"])
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=64,
    broker_connection_retry_on_startup=True,
    task_track_started=False,
    broker_pool_limit=64,
    redis_max_connections=64,
)


@app.task(name="noop")
def noop(word: str) -> str:
    return word


def submit(jobs: int, callers: int) -> list[float]:
    """Send so many tasks from so many threads; return how long each took, in seconds."""

    def one(_: int) -> float:
        begun = time.perf_counter()
        noop.delay("x")  # pyright: ignore[reportFunctionMemberAccess]
        return time.perf_counter() - begun

    with ThreadPoolExecutor(callers) as pool:
        list(pool.map(one, range(callers)))  # connections are opened
        begun, cpu = time.perf_counter(), time.process_time()
        took = list(pool.map(one, range(jobs)))
        return [time.perf_counter() - begun, time.process_time() - cpu, *took]


if __name__ == "__main__":
    print(json.dumps(submit(int(sys.argv[1]), int(sys.argv[2]))))
