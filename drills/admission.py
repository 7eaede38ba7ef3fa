"""60 agents, some of which grow, on a host with a budget for far fewer.

Two workers share the host's book. Told: how full the budget is while jobs wait, whether anyone
under its ceiling was killed, whether the kernel had to kill, how long a gate takes to open.
"""

import random
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agentherd import EventKind, FailureKind, Job, JobHandle, JobResult, RetryPolicy
from agentherd_workers.admission.gate import Gate, Limits
from agentherd_workers.admission.ledger import Booked, Ledger
from agentherd_workers.admission.memory import HostMemory
from agentherd_workers.devkit import scripts
from agentherd_workers.sizes import MiB
from drills.book import read_book
from drills.findings import Findings
from drills.fleet import DrillBroken, Fleet, await_, fleet
from drills.watch import Watch, watching

JOBS = 60
WORKERS = 2
AGENTS = 6
"""That the budget holds."""
CEILING_BYTES = 512 * MiB
BUDGET_BYTES = AGENTS * CEILING_BYTES
ENFORCEMENTS = ("watchdog", "auto")
"""Of ceilings; `auto` is the kernel where it can."""
OPENINGS = 10
KINDS = {"steady": 20, "grows": 220, "too large": 900}
"""MiB that the tool of an agent takes; the CLI takes some 200 more."""
_BEGIN_S = 30.0
_END_S = 180.0
_LOOKS = 1000


@dataclass(frozen=True)
class Ended:
    """A job that has ended."""

    kind: str
    result: JobResult

    @property
    def end(self) -> str:
        """Its state, or why it failed."""
        return str(self.result.failure.kind if self.result.failure else self.result.state)


def drill(
    *,
    seed: int | None = None,
    rounds: int | None = None,
    enforcements: Sequence[str] = ENFORCEMENTS,
    openings: int = OPENINGS,
) -> Findings:
    """Run `rounds` jobs under each way of holding ceilings."""
    seed = random.randrange(1 << 32) if seed is None else seed
    findings = Findings(seed, columns=("ceilings by", "agent", "end", "jobs", "peak MiB: max"))
    for enforcement in enforcements:
        _fan_out(findings, random.Random(seed), enforcement, rounds or JOBS, openings)
    cost_ms = _decision_ms()
    findings.must("gate decision, CPU ms", cost_ms, "<= 1", passed=cost_ms <= 1)
    return findings


def _fan_out(
    findings: Findings, chance: random.Random, enforcement: str, jobs: int, openings: int
) -> None:
    settings = {
        "overhead_bytes": str(HostMemory().limit().size_bytes - BUDGET_BYTES),
        "session_ceiling_bytes": str(CEILING_BYTES),
        "memory_classes": "{}",
        "concurrency": str(AGENTS),
        "ceiling_enforcement": enforcement,
    }
    with fleet(chance, settings) as host:
        for _ in range(WORKERS):
            host.start_worker()
        await_(lambda: len(host.herd.workers()) == WORKERS, "workers report themselves", _BEGIN_S)
        by = host.herd.workers()[0].ceiling_enforcement
        kinds = _kinds(jobs, chance)
        with watching(host) as watch:
            handles = [host.herd.submit(_job(kind, chance)) for kind in kinds]
            ended = [
                Ended(kind, handle.result(_END_S))
                for kind, handle in zip(kinds, handles, strict=True)
            ]
        opened_s = [_opening_s(host) for _ in range(openings)]
    _tell_jobs(findings, by, ended)
    _judge_jobs(findings, by, ended)
    _judge_host(findings, by, watch)
    worst_s = max(opened_s)
    findings.must(
        f"{by}: gate opens after s, worst of {openings}", worst_s, "<= 1", passed=worst_s <= 1
    )


def _kinds(jobs: int, chance: random.Random) -> list[str]:
    """A fifth grows, another fifth past its ceiling."""
    fifth = jobs // 5
    kinds = ["steady"] * (jobs - 2 * fifth) + ["grows", "too large"] * fifth
    chance.shuffle(kinds)
    return kinds


def _job(kind: str, chance: random.Random) -> Job:
    """An agent whose tool takes memory for about a second."""
    hold_s = chance.uniform(0.5, 2.0)
    command = (
        f"python3 -c 'import time; x = b\"x\" * ({KINDS[kind]} << 20); time.sleep({hold_s:.2f})'"
    )
    return Job(
        prompt=scripts.script(f"Be {kind}", scripts.bash(command), scripts.text("done")),
        allowed_tools=("Bash",),
        retry=RetryPolicy(max_attempts=1),
    )


def _tell_jobs(findings: Findings, by: str, ended: list[Ended]) -> None:
    peaks: dict[tuple[str, str], list[int]] = {}
    for job in ended:
        peaks.setdefault((job.kind, job.end), []).append(job.result.resources.peak_memory_bytes)
    for (kind, end), sizes in sorted(peaks.items()):
        findings.rows.append((by, kind, end, len(sizes), max(sizes) // MiB))


def _judge_jobs(findings: Findings, by: str, ended: list[Ended]) -> None:
    killed = sum(job.kind != "too large" and not job.result.succeeded for job in ended)
    spared = sum(job.kind == "too large" and job.end != FailureKind.OUT_OF_MEMORY for job in ended)
    findings.must(f"{by}: killed under their ceiling", killed, "0", passed=not killed)
    findings.must(f"{by}: over their ceiling, and spared", spared, "0", passed=not spared)
    findings.notes += [
        f"{by}: {job.kind}: {job.result.failure}"
        for job in ended
        if job.end not in {"succeeded", FailureKind.OUT_OF_MEMORY}
    ]


def _judge_host(findings: Findings, by: str, watch: Watch) -> None:
    kills = watch.kernel_kills_of_host
    findings.must(f"{by}: kernel OOM kills of the host", kills, "0", passed=kills == 0)
    findings.tell(f"{by}: kernel OOM kills at jobs' own ceilings", watch.kernel_kills_of_jobs)
    use = watch.waiting_byte_seconds / (watch.waiting_s * BUDGET_BYTES)
    findings.must(f"{by}: budget use while jobs wait", use, ">= 0.85", passed=use >= 0.85)
    findings.tell(f"{by}: jobs waited for s", watch.waiting_s)
    booked = watch.most_booked_bytes / BUDGET_BYTES
    findings.must(f"{by}: most booked of the budget", booked, "<= 1", passed=booked <= 1)
    used = watch.most_used_of_booked
    findings.must(f"{by}: most PSS of what jobs booked", used, "<= 1", passed=used <= 1)


def _opening_s(host: Fleet) -> float:
    """From RAM coming back to the start of a job that waited for it."""
    ballast = Ledger(host.root / "ledger")
    try:
        await_(
            lambda: ballast.reserve("ballast", BUDGET_BYTES, _running) is None,
            "no job runs",
            _BEGIN_S,
        )
        # Polls that are on the wire come back within a second, and are not sent again.
        await_(
            lambda: read_book(host.root / "ledger").all_bytes == BUDGET_BYTES,
            "both gates are closed",
            _BEGIN_S,
        )
        handle = host.herd.submit(Job(prompt=scripts.script("Wait", scripts.text("done"))))
        time.sleep(host.chance.uniform(0.0, 0.5))  # anywhere between two looks at the gate
    finally:
        freed_s = time.time()
        ballast.close()
    handle.result(_END_S)
    return max(0.0, _started_s(handle) - freed_s)


def _running(others: Booked) -> str | None:
    """Why the ballast must wait: it may take what polls have booked, and nothing of a job."""
    return "jobs run" if others.count > WORKERS else None


def _started_s(handle: JobHandle) -> float:
    started = next(one for one in handle.events(follow=False) if one.kind == EventKind.STARTED)
    return started.at_ms / 1000


def _decision_ms() -> float:
    """CPU time of one look at an open gate, with a full host's book and real kernel files."""
    with tempfile.TemporaryDirectory(prefix="agentherd-") as directory:
        root = Path(directory)
        other, own = Ledger(root / "ledger"), Ledger(root / "ledger")
        for number in range(AGENTS):
            other.reserve(f"job-{number}", CEILING_BYTES, lambda _others: None)
        limits = Limits(
            budget_bytes=2 * BUDGET_BYTES,
            slots=AGENTS,
            min_free_disk_bytes=1,
            max_pressure_percent=100,
        )
        gate = Gate(limits, {"agents": CEILING_BYTES}, own, HostMemory(), root)
        started_s = time.process_time()
        offers = [gate.offer(["agents"]) for _ in range(_LOOKS)]
        took_s = time.process_time() - started_s
        other.close()
        own.close()
    if not all(offers):
        raise DrillBroken("the gate is closed: a look costs less then")
    return took_s / _LOOKS * 1000
