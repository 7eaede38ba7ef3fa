"""60 agents, some of which grow, on a host with a budget for far fewer.

Two workers share the host's book. Told: how full the budget is while jobs wait, whether anyone
under its ceiling was killed, whether the kernel had to kill, how long a gate takes to open.
"""

import json
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from agentherd import EventKind, FailureKind, Herd, Job, JobHandle, JobResult, RetryPolicy
from agentherd.layout.queues import depths
from agentherd_workers.admission.gate import Gate, Limits
from agentherd_workers.admission.ledger import Ledger
from agentherd_workers.admission.memory import HostMemory
from agentherd_workers.devkit import scripts
from agentherd_workers.devkit.model_api import ModelServer
from agentherd_workers.devkit.redis_server import RedisServer
from agentherd_workers.devkit.worker_process import WorkerProcess
from agentherd_workers.sizes import MiB
from drills.findings import Findings

JOBS = 60
AGENTS = 6
"""That the budget holds."""
CEILING_BYTES = 512 * MiB
MODES = ("watchdog", "cgroup")
OPENINGS = 10
WAIT_S = 240.0
_SAMPLE_S = 0.02


@dataclass
class _Watch:
    """What was seen while the jobs ran."""

    shares: list[float] = field(default_factory=list)
    """Of the budget, booked by jobs while others waited."""
    most_booked_bytes: int = 0


def drill(*, seed: int | None, rounds: int | None) -> Findings:
    """Run it in both ways of holding a ceiling."""
    seed = seed if seed is not None else random.randrange(1 << 32)
    findings = Findings(seed)
    for mode in MODES:
        _fan_out(findings, random.Random(seed), mode, rounds or JOBS)
    findings.must("gate decision, CPU ms", _decision_ms(), "<= 1", passed=_decision_ms() <= 1)
    return findings


def _fan_out(findings: Findings, chance: random.Random, mode: str, jobs: int) -> None:
    before = _kernel_kills()
    with _fleet(mode) as (herd, root):
        kinds = ["steady"] * (jobs - 2 * (jobs // 5)) + ["grows", "too large"] * (jobs // 5)
        chance.shuffle(kinds)
        watch = _Watch()
        with _watching(watch, herd, root):
            handles = [(kind, herd.submit(_job(kind, chance))) for kind in kinds]
            results = [(kind, handle.result(WAIT_S)) for kind, handle in handles]
        opened_s = [_opening_s(herd, root) for _ in range(OPENINGS)]
    _judge(findings, mode, results, watch)
    kernel_kills = _kernel_kills() - before
    if mode == "watchdog":
        findings.must(f"{mode}: kernel OOM kills", kernel_kills, "0", passed=kernel_kills == 0)
    else:
        findings.tell(f"{mode}: processes killed at their cgroup's ceiling", kernel_kills)
    worst_s = max(opened_s)
    findings.must(f"{mode}: gate opens, worst s", worst_s, "<= 1", passed=worst_s <= 1)


def _judge(
    findings: Findings, mode: str, results: list[tuple[str, JobResult]], watch: _Watch
) -> None:
    budget_bytes = AGENTS * CEILING_BYTES
    ended = Counter((kind, str(r.failure.kind if r.failure else r.state)) for kind, r in results)
    for (kind, outcome), count in sorted(ended.items()):
        findings.tell(f"{mode}: {kind}, {outcome}", count)
    innocent = [r for kind, r in results if kind != "too large" and not r.succeeded]
    findings.must(f"{mode}: killed under their ceiling", len(innocent), "0", passed=not innocent)
    spared = [
        r
        for kind, r in results
        if kind == "too large" and (not r.failure or r.failure.kind != FailureKind.OUT_OF_MEMORY)
    ]
    findings.must(f"{mode}: over it, and not killed", len(spared), "0", passed=not spared)
    share = mean(watch.shares) if watch.shares else 0.0
    findings.must(f"{mode}: budget use while jobs wait", share, ">= 0.85", passed=share >= 0.85)
    most = watch.most_booked_bytes / budget_bytes
    findings.must(f"{mode}: most booked of the budget", most, "<= 1", passed=most <= 1)


def _job(kind: str, chance: random.Random) -> Job:
    """An agent whose tool takes memory for about a second."""
    mib = {"steady": 20, "grows": 220, "too large": 900}[kind]
    hold_s = chance.uniform(0.5, 2.0)
    command = f"python3 -c 'import time; x = b\"x\" * ({mib} << 20); time.sleep({hold_s:.2f})'"
    return Job(
        prompt=scripts.script(f"Be {kind}", scripts.bash(command), scripts.text("done")),
        allowed_tools=("Bash",),
        retry=RetryPolicy(max_attempts=1),
    )


@contextmanager
def _fleet(mode: str) -> Iterator[tuple[Herd, Path]]:
    """Two workers on one Redis, model and book."""
    overhead_bytes = HostMemory().limit().size_bytes - AGENTS * CEILING_BYTES
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agentherd-")))
        redis = stack.enter_context(RedisServer())
        model = stack.enter_context(ModelServer())
        for number in (1, 2):
            stack.enter_context(
                WorkerProcess(
                    directory,
                    redis_url=redis.url,
                    model_url=model.url,
                    settings={
                        "concurrency": str(AGENTS),
                        "overhead_bytes": str(overhead_bytes),
                        "session_ceiling_bytes": str(CEILING_BYTES),
                        "memory_classes": "{}",
                        "ceiling_enforcement": mode,
                    },
                    arguments=("--hostname", f"w{number}@%h"),
                )
            )
        yield stack.enter_context(Herd(redis.url)), directory / "workspaces"


@contextmanager
def _watching(watch: _Watch, herd: Herd, root: Path) -> Iterator[None]:
    over = threading.Event()

    def look() -> None:
        while not over.wait(_SAMPLE_S):
            waiting = herd.connection.run(depths(["agents"]))["agents"]
            jobs_bytes, all_bytes = _booked(root / "ledger")
            watch.most_booked_bytes = max(watch.most_booked_bytes, all_bytes)
            if waiting:
                watch.shares.append(jobs_bytes / (AGENTS * CEILING_BYTES))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _booked(directory: Path) -> tuple[int, int]:
    """Bytes booked by jobs, and by all, read as the workers wrote them."""
    jobs_bytes = all_bytes = 0
    for path in directory.iterdir():
        if path.name == "mutex":
            continue
        try:
            held = json.loads(path.read_text() or "{}")
        except (OSError, ValueError):  # being written, or gone
            continue
        for name, reservation in held.items():
            all_bytes += reservation["ceiling_bytes"]
            jobs_bytes += reservation["ceiling_bytes"] if name.startswith("job-") else 0
    return jobs_bytes, all_bytes


def _opening_s(herd: Herd, root: Path) -> float:
    """From RAM coming back to a job that waited for it being started."""
    ballast = Ledger(root / "ledger")
    while ballast.reserve("ballast", AGENTS * CEILING_BYTES, _too_much) is not None:
        time.sleep(_SAMPLE_S)
    handle = herd.submit(Job(prompt=scripts.script("Wait", scripts.text("done"))))
    time.sleep(1.2)  # so that a poll which is on the wire comes back, and both gates close
    freed_s = time.time()
    ballast.close()
    handle.result(WAIT_S)
    return max(0.0, _started_s(handle) - freed_s)


def _too_much(others: object) -> str | None:
    """Take all that is left once no job runs; polls give way."""
    return "jobs still run" if getattr(others, "count", 0) > 2 else None


def _started_s(handle: JobHandle) -> float:
    started = next(e for e in handle.events(follow=False) if e.kind == EventKind.STARTED)
    return started.at_ms / 1000


def _decision_ms() -> float:
    """CPU time of one look at the gate."""
    with tempfile.TemporaryDirectory(prefix="agentherd-") as directory:
        ledger = Ledger(Path(directory) / "ledger")
        gate = Gate(
            Limits(
                budget_bytes=CEILING_BYTES, slots=1, min_free_disk_bytes=1, max_pressure_percent=100
            ),
            {"agents": CEILING_BYTES},
            ledger,
            HostMemory(),
            Path(directory),
        )
        looks = 500
        started_s = time.process_time()
        for _ in range(looks):
            gate.offer(["agents"])
        took_s = time.process_time() - started_s
        ledger.close()
    return took_s / looks * 1000


def _kernel_kills() -> int:
    """Processes that the kernel killed for memory since boot, in cgroups or not."""
    for line in Path("/proc/vmstat").read_text().splitlines():
        if line.startswith("oom_kill "):
            return int(line.split()[1])
    return 0
