"""Whatever dies, and whenever: no process of the job is alive 3 s later, no directory remains.

Each round runs a job whose tool leaves daemons of every kind, and ends something at a random
moment. A worker that died is followed by another, whose janitor removes the directory.
"""

import os
import random
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import psutil

from agentherd import Herd, Job, JobHandle, RetryPolicy
from agentherd_workers import processes
from agentherd_workers.devkit import scripts
from agentherd_workers.devkit.model_api import ModelServer
from agentherd_workers.devkit.redis_server import RedisServer
from agentherd_workers.devkit.worker_process import WorkerProcess
from agentherd_workers.sizes import MiB
from drills.findings import Findings

ROUNDS = 56
ISOLATIONS = ("process", "bubblewrap")
LIMIT_S = 3.0
"""Within which no process of the job may be left."""
CEILING_BYTES = 512 * MiB
_POLL_S = 0.02
_APPEAR_S = 20.0

LEAVE_DAEMONS = """
setsid sleep 300 >/dev/null 2>&1 &
nohup sleep 300 >/dev/null 2>&1 &
(sleep 300 >/dev/null 2>&1 & disown) &
(setsid sh -c '(sleep 300 &) ; sleep 300' >/dev/null 2>&1 &)
env -i setsid /bin/sleep 300 >/dev/null 2>&1 &
"""
STAY = "perl -e 'sleep 300'"
GROW = "perl -e 'my @x; push @x, \"x\" x (32 << 20) while 1'"


@dataclass
class _Tally:
    """What came of the rounds that ended one thing under one isolation."""

    rounds: int = 0
    processes: int = 0
    """Seen alive when it was ended."""
    late: int = 0
    """Still alive 3 s later."""
    directories: int = 0
    """Left after the janitor."""
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class _Fleet:
    redis: RedisServer
    model: ModelServer
    herd: Herd
    directory: Path
    isolation: str

    def worker(self) -> WorkerProcess:
        """One more worker."""
        return WorkerProcess(
            self.directory,
            redis_url=self.redis.url,
            model_url=self.model.url,
            settings={
                "isolation": self.isolation,
                "session_ceiling_bytes": str(CEILING_BYTES),
                "lease_s": "2",
            },
            arguments=("--without-mingle", "--without-gossip"),
        ).start()


End = Callable[[WorkerProcess, list[int]], None]


def _worker_by(number: signal.Signals) -> End:
    def end(worker: WorkerProcess, _pids: list[int]) -> None:
        os.kill(worker.pid, number)

    return end


def _cli_by(number: signal.Signals) -> End:
    def end(worker: WorkerProcess, pids: list[int]) -> None:
        for pid in pids:
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                if psutil.Process(pid).ppid() == worker.pid:
                    os.kill(pid, number)

    return end


def _nothing(_worker: WorkerProcess, _pids: list[int]) -> None:
    """The job ends by itself, or by its ceiling."""


ENDS: dict[str, tuple[str, End]] = {
    "worker SIGKILL": (STAY, _worker_by(signal.SIGKILL)),
    "worker SIGQUIT": (STAY, _worker_by(signal.SIGQUIT)),
    "CLI SIGKILL": (STAY, _cli_by(signal.SIGKILL)),
    "CLI SIGTERM": (STAY, _cli_by(signal.SIGTERM)),
    "out of memory": (GROW, _nothing),
    "normal end": ("true", _nothing),
    "worker SIGTERM": ("true", _worker_by(signal.SIGTERM)),
}


def drill(*, seed: int | None, rounds: int | None) -> Findings:
    """At least 50 rounds, over every way to end and both isolations."""
    seed = seed if seed is not None else random.randrange(1 << 32)
    chance = random.Random(seed)
    tallies: dict[str, _Tally] = {}
    for isolation in ISOLATIONS:
        with _fleet(isolation) as fleet, ExitStack() as stack:
            plan = _plan(chance, (rounds or ROUNDS) // len(ISOLATIONS))
            worker = fleet.worker()
            stack.callback(lambda: worker.stop())  # noqa: B023, PLW0108 - the last one
            for what in plan:
                tally = tallies.setdefault(f"{isolation}: {what}", _Tally())
                worker = _round(fleet, worker, what, chance, tally)
    return _findings(seed, tallies)


def _plan(chance: random.Random, count: int) -> list[str]:
    names = [list(ENDS)[number % len(ENDS)] for number in range(count)]
    chance.shuffle(names)
    return names


def _round(
    fleet: _Fleet, worker: WorkerProcess, what: str, chance: random.Random, tally: _Tally
) -> WorkerProcess:
    """End one thing; the worker for the next round."""
    command, end = ENDS[what]
    handle = fleet.herd.submit(
        Job(
            prompt=scripts.script("Stay", scripts.bash(LEAVE_DAEMONS + command), scripts.text("x")),
            allowed_tools=("Bash",),
            retry=RetryPolicy(max_attempts=1),
        )
    )
    mark, pids = _appear(worker)
    time.sleep(chance.uniform(0.0, 0.8))
    pids = processes.marked(mark) or pids
    tally.rounds += 1
    tally.processes += len(pids)
    end(worker, pids)
    if not what.startswith("worker"):
        _ended(handle)
    tally.seconds.append(_emptied_s(mark))
    tally.late += len(processes.marked(mark))
    if what.startswith("worker"):
        _await(lambda: worker.returncode is not None, 30.0)
        worker = fleet.worker()
        handle.herd.connection.redis.flushall()  # the job itself is the recovery's business
    tally.directories += len(_directories(fleet))
    return worker


def _appear(worker: WorkerProcess) -> tuple[int, list[int]]:
    """The mark and processes of the job that this worker has begun."""
    found: dict[int, list[int]] = {}

    def begun() -> bool:
        below = {child.pid for child in psutil.Process(worker.pid).children(recursive=True)}
        found.update(
            {mark: pids for mark, pids in processes.by_mark().items() if below & set(pids)}
        )
        return bool(found)

    _await(begun, _APPEAR_S)
    return next(iter(found.items()))


def _emptied_s(mark: int) -> float:
    """How long until no process carries the mark; `LIMIT_S` at most."""
    started_s = time.monotonic()
    with suppress(TimeoutError):
        _await(lambda: not processes.marked(mark), LIMIT_S)
    return time.monotonic() - started_s


def _ended(handle: JobHandle) -> None:
    handle.result(60.0)


def _directories(fleet: _Fleet) -> list[Path]:
    return list((fleet.directory / "workspaces" / "jobs").iterdir())


def _await(condition: Callable[[], bool], timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not within {timeout_s} s")
        time.sleep(_POLL_S)


@contextmanager
def _fleet(isolation: str) -> Iterator[_Fleet]:
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="agentherd-"))
        redis = stack.enter_context(RedisServer())
        model = stack.enter_context(ModelServer())
        herd = stack.enter_context(Herd(redis.url))
        yield _Fleet(redis, model, herd, Path(directory), isolation)


def _findings(seed: int, tallies: dict[str, _Tally]) -> Findings:
    findings = Findings(seed)
    total: Counter[str] = Counter()
    for name, tally in sorted(tallies.items()):
        total.update(rounds=tally.rounds, processes=tally.processes)
        findings.tell(f"{name}, rounds", tally.rounds)
        findings.tell(f"{name}, processes", tally.processes)
        findings.tell(f"{name}, empty after s (median)", median(tally.seconds))
        slowest_s = max(tally.seconds)
        findings.must(f"{name}, slowest s", slowest_s, "< 3", passed=slowest_s < LIMIT_S)
        findings.must(f"{name}, alive after 3 s", tally.late, "0", passed=tally.late == 0)
        findings.must(
            f"{name}, directories left", tally.directories, "0", passed=tally.directories == 0
        )
    findings.tell("rounds", total["rounds"])
    findings.tell("processes", total["processes"])
    return findings
