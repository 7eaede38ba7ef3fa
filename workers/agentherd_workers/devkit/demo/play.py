"""Running the jobs of the demo, as many at once as the worker takes."""

import asyncio
from collections.abc import Sequence

from agentherd import AsyncHerd
from agentherd_workers.devkit.demo.fleet import Fleet
from agentherd_workers.devkit.demo.jobs import TIMEOUT_S, Part
from agentherd_workers.devkit.demo.outcome import Outcome, read_outcome
from agentherd_workers.devkit.demo.screen import Show
from agentherd_workers.devkit.worker_process import WorkerFailed, WorkerProcess

DEADLINE_S = 3 * TIMEOUT_S
"""All jobs together: two one after the other, and waits between attempts."""
_POLL_S = 0.2


async def play(fleet: Fleet, chosen: Sequence[Part], show: Show) -> dict[Part, Outcome]:
    """Submit the jobs, show what happens to them, and return what they left.

    Raises:
        WorkerFailed: the worker ended before its jobs.
        TimeoutError: they did not end in time.
    """
    try:
        async with asyncio.timeout(DEADLINE_S), AsyncHerd(fleet.redis.url) as herd:
            return await _run_all(herd, fleet.worker, chosen, show)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    except TimeoutError:
        raise TimeoutError(f"the jobs have not ended within {DEADLINE_S:g} s") from None


async def _run_all(
    herd: AsyncHerd, worker: WorkerProcess, chosen: Sequence[Part], show: Show
) -> dict[Part, Outcome]:
    running: dict[Part, asyncio.Task[Outcome]] = {}
    async with asyncio.TaskGroup() as group:
        watch = group.create_task(_watch(worker))
        for part in chosen:
            before = running[part.goes_on_with] if part.goes_on_with else None
            running[part] = group.create_task(_run(herd, part, before, show))
        outcomes = {part: await job for part, job in running.items()}
        watch.cancel()
    return outcomes


async def _run(
    herd: AsyncHerd, part: Part, before: asyncio.Task[Outcome] | None, show: Show
) -> Outcome:
    if before is not None:
        await before
    handle = await herd.submit(part.job)
    async for event in handle.events():
        show(part, event)
    return await read_outcome(handle)


async def _watch(worker: WorkerProcess) -> None:
    """Raise when the worker ends, so that nobody waits for its jobs."""
    while worker.returncode is None:  # noqa: ASYNC110 - a process has no asyncio.Event
        await asyncio.sleep(_POLL_S)
    raise WorkerFailed(f"the worker ended before its jobs, exit status {worker.returncode}")
