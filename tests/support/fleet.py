"""A whole fleet on loopback: real Redis, simulated model, real worker, real CLI."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from agentherd import EventKind, Herd, JobEvent, JobHandle
from agentherd_workers.devkit.model_api import ModelServer
from agentherd_workers.devkit.redis_server import RedisServer
from agentherd_workers.devkit.worker_process import WorkerProcess
from agentherd_workers.processes import by_mark, is_alive
from support.leaks import assert_nothing_left, worker_marks
from support.waiting import wait_until

QUIET = ("--without-mingle", "--without-gossip")
"""A worker of a test has no others to talk to, and starts faster without trying."""


@dataclass(frozen=True)
class Fleet:
    """The parts, for tests to use and to break."""

    redis: RedisServer
    model: ModelServer
    worker: WorkerProcess
    herd: Herd

    def another_worker(self, **options: Any) -> WorkerProcess:
        """A second worker on the same host and Redis, to be started by the caller."""
        chosen = {"redis_url": self.redis.url, "model_url": self.model.url, "arguments": QUIET}
        return WorkerProcess(self.worker.directory, **(chosen | options))

    def restart_worker(self) -> None:
        """Start the fleet's worker again, once it has ended."""
        self.worker.start()


@contextmanager
def running_fleet(
    directory: Path,
    *,
    settings: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    start: bool = True,
    redis: RedisServer | None = None,
    **worker: Any,
) -> Iterator[Fleet]:
    """Start a fleet with one worker; end all of it.

    Its agents see the host's files, unless `settings` says otherwise: tests and agents tell
    each other how far they are by files outside the workspace.

    Args:
        redis: a running one, in place of the fleet's own.
        worker: further arguments of `WorkerProcess`.
    """
    with ExitStack() as stack:
        redis = redis or stack.enter_context(RedisServer())
        model = stack.enter_context(ModelServer())
        chosen = {"redis_url": redis.url, "model_url": model.url, "arguments": QUIET}
        process = WorkerProcess(
            directory,
            settings={"isolation": "process", **(settings or {})},
            environment=environment,
            **(chosen | worker),
        )
        if start:
            process.start()
        root = Path((settings or {}).get("workspace_root", process.workspace_root))
        prefix = (settings or {}).get("prefix", "agentherd")
        herd = stack.enter_context(Herd(redis.url, prefix=prefix))
        stack.callback(_end, process, root, herd)
        yield Fleet(redis, model, process, herd)


def _end(worker: WorkerProcess, workspace_root: Path, herd: Herd) -> None:
    """Stop a worker that still runs; it must not need to be killed for it, and leave nothing."""
    if worker.is_running:
        marks = worker_marks(workspace_root)
        worker.stop()
        assert worker.returncode == 0, worker.output()[-4000:]
        assert marks
        prefix = herd.keys.prefix
        assert_nothing_left(herd.connection.redis, workspace_root, marks, prefix=prefix)


def processes_of(handle: JobHandle) -> list[psutil.Process]:
    """Every living process of a running job, found by its session in the CLI's arguments."""
    session_id = handle.record().session_id
    for pids in by_mark().values():
        found = list[psutil.Process]()
        its_own = False
        for pid in pids:
            with suppress(psutil.NoSuchProcess):  # a tool's child may end at any moment
                process = psutil.Process(pid)
                its_own = its_own or session_id in " ".join(process.cmdline())
                found.append(process)
        if its_own:
            return found
    return []


def living(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    """Those that still run; a zombie does not."""
    return [one for one in processes if one.is_running() and is_alive(one.pid)]


def cli_of(handle: JobHandle) -> psutil.Process:
    """The CLI of a running job."""
    for process in processes_of(handle):
        with suppress(psutil.NoSuchProcess):
            if process.name().startswith("claude"):
                return process
    raise AssertionError(f"job {handle.id} has no CLI: {processes_of(handle)}")


def events_so_far(handle: JobHandle, kind: EventKind) -> list[JobEvent]:
    """The job's events of one kind."""
    return [event for event in handle.events(follow=False) if event.kind == kind]


def await_event(
    handle: JobHandle, kind: EventKind, *, count: int = 1, timeout_s: float = 30.0
) -> JobEvent:
    """The `count`th event of a kind, once it is there."""
    found = wait_until(
        lambda: events_so_far(handle, kind)[count - 1 : count],
        f"event {kind} no. {count} of job {handle.id}",
        timeout_s,
        show=lambda: [str(event.kind) for event in handle.events(follow=False)],
    )
    return found[0]
