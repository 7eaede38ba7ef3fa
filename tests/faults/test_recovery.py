"""Workers that are killed, stopped or cut off: their jobs go on elsewhere, and nowhere twice."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentherd import EventKind, Job, JobHandle, JobState
from agentherd.contract.wire import job_to_wire
from agentherd.layout.missing import LEAST_AGE_MS
from agentherd_workers.devkit import scripts
from agentherd_workers.devkit.model_api import Step
from agentherd_workers.devkit.proxy import Proxy
from agentherd_workers.devkit.worker_process import WorkerProcess
from support.fleet import Fleet, await_event, events_so_far, living, processes_of, running_fleet
from support.plain_celery import plain_celery, send
from support.waiting import wait_until

LEASE_S = "3"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Redis and the model; each test starts its workers."""
    with running_fleet(tmp_path_factory.mktemp("fleet"), start=False) as started:
        yield started


def worker_of(fleet: Fleet, host: Path, **options: Any) -> WorkerProcess:
    """A worker as on a host of its own: its directories are nobody else's."""
    host.mkdir()
    return fleet.another_worker(
        settings={
            "isolation": "process",
            "lease_s": LEASE_S,
            "workspace_root": str(host / "workspaces"),
        },
        **options,
    )


def waits_for(path: Path) -> Step:
    """A tool that ends once `path` is there."""
    return scripts.bash(f"until [ -e {path} ]; do read -t 0.05 < <(sleep 1); done")


def job_of(*steps: Step, **options: Any) -> Job:
    """A scripted job with a shell."""
    return Job(prompt=scripts.script("Do it.", *steps), allowed_tools=["Bash"], **options)


def test_jobs_of_a_killed_worker_go_on_or_end(fleet: Fleet, tmp_path: Path) -> None:
    """What was finished is not done again; a plain Celery client learns of a job's end."""
    log, go = tmp_path / "log", tmp_path / "go"
    last_try = job_of(waits_for(tmp_path / "never"), retry={"max_attempts": 1})
    steps = (scripts.bash(f"echo one >> {log}"), waits_for(go), scripts.text("done"))
    with (
        plain_celery(fleet.redis) as celery,
        worker_of(fleet, tmp_path / "a") as first,
        ExitStack() as stack,
    ):
        handle, sent = fleet.herd.submit(job_of(*steps)), send(celery, job_to_wire(last_try))
        await_event(handle, EventKind.TOOL_STARTED, count=2)
        ends = recorded(fleet, sent.id)
        await_event(ends, EventKind.TOOL_STARTED)
        stack.enter_context(worker_of(fleet, tmp_path / "b"))
        first.kill()
        go.touch()

        result = handle.result(60)
        with pytest.raises(Exception, match=f"job {sent.id}: failed, lost: worker .* was lost"):
            sent.get(timeout=60)

    assert (result.state, result.text, result.attempts) == (JobState.SUCCEEDED, "done", 2)
    assert log.read_text() == "one\n"
    assert len(events_so_far(handle, EventKind.REQUEUED)) == 1
    assert ends.result(1).attempts == 1


def recorded(fleet: Fleet, job_id: str) -> JobHandle:
    """A job that came by plain Celery, once it has a record."""
    redis, key = fleet.herd.connection.redis, fleet.herd.keys.job(job_id)
    wait_until(lambda: redis.exists(key), "it has a record", 30)
    return fleet.herd.job(job_id)


def stop(worker: WorkerProcess, _proxy: Proxy) -> Callable[[], None]:
    """SIGSTOP, as a debugger or a frozen machine; how to end it."""
    process = psutil.Process(worker.pid)
    process.suspend()
    return process.resume


def stall(_worker: WorkerProcess, proxy: Proxy) -> Callable[[], None]:
    """Its packets to Redis go nowhere; how to end it."""
    proxy.stall()
    return proxy.restore


@pytest.mark.parametrize("trouble", [stop, stall])
def test_a_worker_that_missed_its_lease_has_no_agent_and_writes_nothing(
    fleet: Fleet, tmp_path: Path, trouble: Callable[[WorkerProcess, Proxy], Callable[[], None]]
) -> None:
    """Its agent is dead before the next attempt begins; as it wakes up that one goes on."""
    log, go = tmp_path / "log", tmp_path / "go"
    steps = (scripts.bash(f"echo one >> {log}"), waits_for(go), scripts.text("done"))
    with Proxy(fleet.redis.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0"
        with worker_of(fleet, tmp_path / "a", redis_url=url) as first:
            handle = fleet.herd.submit(job_of(*steps))
            await_event(handle, EventKind.TOOL_STARTED, count=2)
            agent = processes_of(handle)
            with worker_of(fleet, tmp_path / "b"):
                mend = trouble(first, proxy)
                try:
                    wait_until(
                        lambda: attempts_begun(handle) == 2 or not living(agent),
                        "another attempt begins, or the agent is dead",
                        30,
                    )
                    # In this order: whenever the second has begun, the first is dead.
                    assert attempts_begun(handle) == 1 or not living(agent)
                    await_event(handle, EventKind.AGENT_READY, count=2)
                    assert not living(agent)
                finally:
                    mend()
                wait_until(
                    lambda: f"{handle.id}: message dropped" in first.output(), "it gave up", 60
                )
                go.touch()
                result = handle.result(60)
        assert first.returncode == 0

    assert (result.state, result.text, result.attempts) == (JobState.SUCCEEDED, "done", 2)
    assert log.read_text() == "one\n"
    attempts = [event.attempt for event in handle.events(follow=False)]
    assert attempts == sorted(attempts), "nothing of the first after the second has begun"
    entries = Counter(entry["uuid"] for entry in handle.transcript() if "uuid" in entry)
    assert entries.most_common(1)[0][1] == 1


def attempts_begun(handle: JobHandle) -> int:
    return len(events_so_far(handle, EventKind.STARTED))


def test_jobs_whose_messages_are_gone_are_queued_again(fleet: Fleet, tmp_path: Path) -> None:
    """Someone emptied the queue."""
    redis, keys = fleet.herd.connection.redis, fleet.herd.keys
    handles = fleet.herd.submit_many(job_of(scripts.text("done"), priority=n) for n in (0, 5))
    redis.delete(*redis.keys("agents*"))
    for handle in handles:
        redis.hincrby(keys.job(handle.id), "released_at_ms", -LEAST_AGE_MS)
    with worker_of(fleet, tmp_path / "a"):
        results = [handle.result(60) for handle in handles]
    assert [(result.text, result.attempts) for result in results] == [("done", 1)] * 2
