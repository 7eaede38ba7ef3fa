"""Whatever dies, and whenever: no process of the job is alive 3 s later, nothing else remains.

Each round runs a job whose tool leaves daemons of every kind, and ends something at a random
moment. A worker that died is followed by another, whose janitor removes what is left.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from statistics import median

import psutil

from agentherd import ForkSession, Job, JobHandle, JobState, NewSession, RetryPolicy
from agentherd_workers.devkit import scripts
from agentherd_workers.devkit.worker_process import WorkerProcess
from agentherd_workers.isolation import Isolation, bubblewrap_problem
from agentherd_workers.processes import is_alive
from drills.endings import DAEMONS, LEAVE_DAEMONS, WAYS, Victim, Way
from drills.findings import Findings
from drills.fleet import DrillBroken, Fleet, await_, fleet
from drills.leftovers import leftovers

ROUNDS = 72
LIMIT_S = 3.0
"""Within which no process of the job may be left."""
_BEGIN_S = 30.0
_END_S = 30.0
_SETTLE_S = 2.0
"""A worker gives a reservation back a moment after the job's result is written."""
_EARLY_S = 0.5
"""The CLI is started, marked and connected within about this, after the claim."""
_LATE_S = 0.8


@dataclass
class Tally:
    """What came of the rounds of one way to end."""

    rounds: int = 0
    processes: int = 0
    """Seen alive when it was ended."""
    late: int = 0
    """Still alive 3 s later."""
    stayed: int = 0
    """Still alive once the next worker had started."""
    left: list[str] = field(default_factory=list)
    """Paths that remained after the janitor."""
    otherwise: list[str] = field(default_factory=list)
    """Jobs that did not end as that way must."""
    seconds: list[float] = field(default_factory=list)
    """Until no process was left."""


class Rounds:
    """The rounds of one isolation: a worker, and the next one when that has died."""

    def __init__(self, fleet: Fleet) -> None:
        self.tallies = {way.name: Tally() for way in WAYS}
        self.enforcements: Counter[str] = Counter()
        self._fleet = fleet
        self._chance = fleet.chance
        self._number = 0
        self._worker, self._mark = self._next_worker()
        self._session = self._finished_session()

    def run(self, way: Way) -> None:
        """End a job in one way, and look for what is left."""
        tally = self.tallies[way.name]
        self._number += 1
        victim = Victim(self._worker.pid, self._mark, self._chance)
        job = self._fleet.herd.submit(self._job(way))
        self._await_moment(way, victim, job)
        seen = {*victim.agent(), *victim.clis()}
        cli = victim.clis()
        ended_s = time.monotonic()
        if way.end is not None:
            way.end(victim)
        if way.after_cli:
            await_(lambda: not _living(cli), f"{way.name}: the CLI has ended", _END_S)
            ended_s = time.monotonic()
        late = _alive_after_limit(seen, victim)
        tally.rounds += 1
        tally.processes += len(seen)
        tally.late += len(late)
        tally.seconds.append(time.monotonic() - ended_s)
        otherwise = _otherwise(way, job)
        tally.otherwise += otherwise
        before = self._mark
        if otherwise:
            self._worker.kill()  # the job may run on, and disturb the next round
        if way.ends_worker or otherwise:
            await_(lambda: self._worker.returncode is not None, f"{way.name}: it ends", _END_S)
            self._forget_jobs()
            self._worker, self._mark = self._next_worker()
        tally.stayed += len({*_living(seen), *victim.agent()})
        tally.left += self._left(before)

    def _job(self, way: Way) -> Job:
        """Every other job goes on with a stored session, which the SDK writes to a file."""
        resumed = self._chance.random() < 0.5
        return Job(
            prompt=scripts.script(
                f"Round {self._number}: {way.name}",
                scripts.bash(LEAVE_DAEMONS + way.tool),
                scripts.slow("done and gone", chunks=4, delay_s=0.2),
            ),
            allowed_tools=("Bash",),
            session=ForkSession(id=self._session) if resumed else NewSession(),
            retry=RetryPolicy(max_attempts=1),
        )

    def _await_moment(self, way: Way, victim: Victim, job: JobHandle) -> None:
        if way.early:
            await_(lambda: job.state() is JobState.RUNNING, "the job is claimed", _BEGIN_S)
            if not way.ends_worker:
                await_(victim.clis, "a CLI starts", _BEGIN_S)
            time.sleep(self._chance.uniform(0.0, _EARLY_S))
        else:
            await_(lambda: victim.daemons() >= DAEMONS, f"{way.name}: daemons run", _BEGIN_S)
            if not way.after_cli:
                time.sleep(self._chance.uniform(0.0, _LATE_S))

    def _next_worker(self) -> tuple[WorkerProcess, int]:
        """Another worker and its mark; the kernel holds its ceilings, if it can, or a watchdog."""
        enforcement = self._chance.choice(("auto", "watchdog"))
        worker = self._fleet.start_worker(ceiling_enforcement=enforcement)
        [report] = await_(self._fleet.herd.workers, "the worker reports itself", _BEGIN_S)
        self.enforcements[report.ceiling_enforcement] += 1
        return worker, report.mark

    def _finished_session(self) -> str:
        job = Job(prompt=scripts.script("Begin", scripts.text("begun")))
        return self._fleet.herd.submit(job).result(_END_S).session_id

    def _forget_jobs(self) -> None:
        """A job that lost its worker is not this drill's business; transcripts stay."""
        redis = self._fleet.herd.connection.redis
        for key in redis.scan_iter(count=1000):
            if not key.startswith(b"agentherd:session"):
                redis.delete(key)

    def _left(self, ended: int) -> list[str]:
        def found() -> list[str]:
            return leftovers(self._fleet.root, self._fleet.temp, living=self._mark, ended=ended)

        with suppress(DrillBroken):
            await_(lambda: not found(), "nothing is left", _SETTLE_S)
        return found()


def drill(*, seed: int | None = None, rounds: int | None = None) -> Findings:
    """At least 50 rounds, over every way to end and both isolations."""
    seed = random.randrange(1 << 32) if seed is None else seed
    plans = _plans(seed, rounds or ROUNDS)
    enough = threading.Event()
    with ThreadPoolExecutor(len(plans)) as pool:
        running = {
            isolation: pool.submit(_run_all, isolation, plan, seed, enough)
            for isolation, plan in plans.items()
        }
        try:
            done = {isolation: future.result() for isolation, future in running.items()}
        finally:
            enough.set()
    return _findings(seed, done)


def _plans(seed: int, rounds: int) -> dict[Isolation, list[Way]]:
    """Each way about as often as the others, in an order of chance."""
    plans = {}
    isolations = [Isolation.PROCESS]
    if bubblewrap_problem() is None:
        isolations.append(Isolation.BUBBLEWRAP)
    for isolation in isolations:
        chance = random.Random(f"{seed} {isolation}")
        ways: list[Way] = []
        while len(ways) < rounds // len(isolations):
            ways += chance.sample(WAYS, len(WAYS))
        plans[isolation] = ways[: rounds // len(isolations)]
    return plans


def _run_all(isolation: Isolation, plan: list[Way], seed: int, enough: threading.Event) -> Rounds:
    settings = {
        "isolation": isolation.value,
        "session_ceiling_bytes": "512MiB",
        "lease_s": "2",
    }
    try:
        with fleet(random.Random(f"{seed} {isolation} moments"), settings) as begun:
            rounds = Rounds(begun)
            for way in plan:
                if enough.is_set():
                    break
                rounds.run(way)
            return rounds
    except BaseException:
        enough.set()
        raise


def _alive_after_limit(seen: Iterable[psutil.Process], victim: Victim) -> list[psutil.Process]:
    """Who is left after `LIMIT_S`; returns as soon as nobody is."""
    with suppress(DrillBroken):
        await_(lambda: not _living(seen) and not victim.agent(), "all are dead", LIMIT_S)
    return list({*_living(seen), *victim.agent()})


def _living(processes: Iterable[psutil.Process]) -> list[psutil.Process]:
    return [one for one in processes if one.is_running() and is_alive(one.pid)]


def _otherwise(way: Way, job: JobHandle) -> list[str]:
    """How the job ended, if not as this way must."""
    if way.outcome is None:
        return []

    def outcome() -> str:
        record = job.record()
        failure = record.result.failure if record.result else None
        return str(failure.kind if failure else record.state)

    with suppress(DrillBroken):
        await_(lambda: outcome() == way.outcome, "it ended as it must", _END_S)
    return [] if outcome() == way.outcome else [f"{way.name}: {outcome()}, not {way.outcome}"]


def _findings(seed: int, done: dict[Isolation, Rounds]) -> Findings:
    findings = Findings(seed)
    findings.columns = (
        *("isolation", "what ended", "rounds", "processes", "alive after 3 s"),
        *("after janitor", "left behind", "empty: median s", "max s"),
    )
    late = 0
    tallies: list[Tally] = []
    for isolation, rounds in done.items():
        for way in WAYS:
            tally = rounds.tallies[way.name]
            if not tally.rounds:
                continue
            tallies.append(tally)
            findings.rows.append(_row(isolation, way, tally))
            if not (way.left_to_janitor and isolation is Isolation.PROCESS):
                late += tally.late
    _total(findings, tallies, late)
    enforcements = sum((rounds.enforcements for rounds in done.values()), Counter[str]())
    for enforcement, workers in sorted(enforcements.items()):
        findings.tell(f"workers with ceilings by {enforcement}", workers)
    return findings


def _row(isolation: Isolation, way: Way, tally: Tally) -> tuple[str | int | float, ...]:
    return (
        isolation.value,
        way.name,
        tally.rounds,
        tally.processes,
        tally.late,
        tally.stayed,
        len(tally.left),
        median(tally.seconds),
        max(tally.seconds),
    )


def _total(findings: Findings, tallies: list[Tally], late: int) -> None:
    """The figures that decide.

    Args:
        late: processes alive after 3 s, but for those that only a janitor can find.
    """
    stayed = sum(one.stayed for one in tallies)
    left = [path for one in tallies for path in one.left]
    otherwise = [what for one in tallies for what in one.otherwise]
    findings.tell("rounds", sum(one.rounds for one in tallies))
    findings.tell("processes", sum(one.processes for one in tallies))
    findings.must("alive after 3 s, while worker or guard lives", late, "0", passed=not late)
    findings.must("alive after the janitor", stayed, "0", passed=not stayed)
    findings.must("directories, cgroups, reservations left", len(left), "0", passed=not left)
    findings.must("jobs that ended otherwise", len(otherwise), "0", passed=not otherwise)
    findings.notes += [*left, *otherwise]
