"""No job is lost, none runs twice at once: jobs that leave a trace, over workers in trouble.

Workers are killed, stopped past their lease, told to end and cut off from Redis; CLIs are killed;
Redis is restarted; all at random, and several at a time.
"""

import random
import time
from contextlib import ExitStack, suppress

from agentherd.contract.states import LIVE
from agentherd.errors import BrokerUnavailable
from agentherd_workers.devkit.proxy import Proxy
from drills.findings import Findings
from drills.fleet import DrillBroken, Fleet, await_, fleet
from drills.judgement import judge_jobs, judge_leftovers, judge_lives, judge_recovery
from drills.lives import watching_lives
from drills.side_effects import job_with_trace
from drills.troubles import Chaos, Station

JOBS = 200
WORKERS = 3
LEASE_S = 5.0
_DEADLINE_S = 540.0
_CALM_S = 60.0
"""For what is under way when no more trouble comes."""
_POLL_S = 0.2


def drill(*, seed: int | None = None, rounds: int | None = None) -> Findings:
    """`rounds` jobs over three workers."""
    return run(seed=seed, jobs=rounds or JOBS, workers=WORKERS, lease_s=LEASE_S, longest_s=12.0)


def run(*, seed: int | None, jobs: int, workers: int, lease_s: float, longest_s: float) -> Findings:
    """So many jobs over so many workers.

    Args:
        seed: repeats the choices of chance, if not the moments.
        longest_s: how long a job's tools take at most.
    """
    seed = random.randrange(1 << 32) if seed is None else seed
    chance = random.Random(seed)
    settings = {
        "isolation": "process",  # agents write to a log outside
        "session_ceiling_bytes": "512MiB",
        "concurrency": "3",
        "lease_s": str(lease_s),
        "drain_grace_s": "1",
        "checkpoint_every_s": "2",
    }
    with fleet(chance, settings, appendonly=True) as begun, ExitStack() as stack:
        log = begun.directory / "side-effects"
        stations = [
            Station(
                begun,
                stack.enter_context(Proxy(begun.redis.port)),
                random.Random(f"{seed} {number}"),
            )
            for number in range(workers)
        ]
        handles = begun.herd.submit_many(
            job_with_trace(log, number, chance, longest_s=longest_s) for number in range(jobs)
        )
        with Chaos(begun, stations, lease_s=lease_s) as chaos:
            with watching_lives(begun) as lives:
                started_s = time.monotonic()
                _await_all(begun, _DEADLINE_S, chaos)
                chaos.end()
                with suppress(DrillBroken):  # what has not ended is counted
                    await_(lambda: _all_ended(begun), "all jobs have ended", _CALM_S)
                took_s = time.monotonic() - started_s
            found = Findings(seed)
            found.tell("took s", took_s)
            found.tell("Redis restarts", chaos.redis_restarts)
            judge_jobs(found, handles, log)
            judge_lives(found, log, lives)
            judge_recovery(found, handles, chaos.hits)
            judge_leftovers(found, begun, lives)
        return found


def _await_all(fleet: Fleet, timeout_s: float, chaos: Chaos) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not _all_ended(fleet) and time.monotonic() < deadline_s:
        chaos.check()
        time.sleep(_POLL_S)


def _all_ended(fleet: Fleet) -> bool:
    with suppress(BrokerUnavailable):
        return not fleet.herd.jobs(state=sorted(LIVE), limit=1).jobs
    return False
