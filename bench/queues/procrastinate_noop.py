"""A procrastinate application with a task that does nothing, a worker and a caller. ``POSTGRES`` names the database."""

# pyright: reportMissingImports=false, reportUnknownVariableType=false, reportUnknownMemberType=false
# pyright: reportUntypedFunctionDecorator=false

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

from procrastinate import App, PsycopgConnector

app = App(connector=PsycopgConnector(conninfo=os.environ["POSTGRES"], min_size=4, max_size=32))


@app.task(name="noop")
async def noop(word: str) -> str:
    return word


async def submit(jobs: int, callers: int) -> list[float]:
    """Send so many tasks, that many at a time; return how long all and each took, in seconds."""
    numbers = iter(range(jobs))
    took: list[float] = []

    async def caller() -> None:
        for _ in numbers:
            begun = time.perf_counter()
            await noop.defer_async(word="x")  # pyright: ignore[reportFunctionMemberAccess]
            took.append(time.perf_counter() - begun)

    async with app.open_async():
        begun, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(caller() for _ in range(callers)))
        return [time.perf_counter() - begun, time.process_time() - cpu, *took]


async def main() -> None:
    match sys.argv[1:]:
        case ["schema"]:
            async with app.open_async():
                await app.schema_manager.apply_schema_async()
        case ["worker", concurrency]:
            async with app.open_async():
                await app.run_worker_async(concurrency=int(concurrency), fetch_job_polling_interval=1)
        case ["submit", jobs, callers]:
            print(json.dumps(await submit(int(jobs), int(callers))))
        case _:
            raise SystemExit("schema | worker CONCURRENCY | submit JOBS CALLERS")


if __name__ == "__main__":
    asyncio.run(main())
