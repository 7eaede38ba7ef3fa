"""The demo from its start to the proof that nothing is left."""

import asyncio
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import click

from agentherd import Herd
from agentherd.checks import CheckStatus
from agentherd.cli.exits import CommandFailed, ExitCode
from agentherd_workers.devkit.demo.clean import host_is_clean
from agentherd_workers.devkit.demo.fleet import Fleet, running_fleet
from agentherd_workers.devkit.demo.jobs import Part
from agentherd_workers.devkit.demo.outcome import Outcome
from agentherd_workers.devkit.demo.play import play
from agentherd_workers.devkit.demo.report import (
    write_checks,
    write_introduction,
    write_outcome,
    write_totals,
)
from agentherd_workers.devkit.demo.screen import labels, live_progress
from agentherd_workers.devkit.redis_server import RedisServerFailed
from agentherd_workers.devkit.worker_process import WorkerFailed

_LOG_CHARS = 3000
_REPORT_S = 10.0
_POLL_S = 0.05
_LOOKING = ("status", "events", "transcript", "artifacts --cat fix.patch")


def run_demo(chosen: Sequence[Part], *, api_key_file: Path | None, keep: bool) -> None:
    """Run the jobs on a fleet of their own, and show what comes of it.

    Args:
        api_key_file: of the real API; None: a simulated model.
        keep: wait for Ctrl-C before the fleet is stopped.

    Raises:
        CommandFailed: something is not as expected; says what.
    """
    try:
        with running_fleet(api_key_file) as fleet:
            mark = _mark_of(fleet)
            outcomes = _run_jobs(fleet, chosen)
            problems = _report(chosen, outcomes)
            write_totals(
                [one.result for one in outcomes.values()], simulated=fleet.model is not None
            )
            if keep:
                _wait_for_ctrl_c(fleet, outcomes[chosen[0]].result.job_id)
            fleet.worker.stop()
            problems += _look_for_leftovers(fleet, mark)
            log = fleet.worker.output()
    except (RedisServerFailed, WorkerFailed, TimeoutError) as error:
        raise CommandFailed(ExitCode.UNSUCCESSFUL, str(error)) from error
    click.echo()
    if problems:
        raise CommandFailed(ExitCode.UNSUCCESSFUL, _told(problems, log))
    click.secho("Everything went as expected.", bold=True)


def _run_jobs(fleet: Fleet, chosen: Sequence[Part]) -> dict[Part, Outcome]:
    write_introduction(fleet, len(chosen))
    with live_progress(chosen) as show:
        return asyncio.run(play(fleet, chosen, show))


def _report(chosen: Sequence[Part], outcomes: Mapping[Part, Outcome]) -> list[str]:
    """Show what the jobs left; what is not as expected."""
    named = labels(chosen)
    problems = []
    for part, left in outcomes.items():
        before = outcomes[part.goes_on_with] if part.goes_on_with else None
        found = list(part.expectation(left, before))
        write_outcome(named[part], part, left, before, found)
        problems += [f"job {named[part].strip()}: {one}" for one in found]
    return problems


def _mark_of(fleet: Fleet) -> int:
    """What the worker's agents will carry, once it has reported itself."""
    deadline_s = time.monotonic() + _REPORT_S
    with Herd(fleet.redis.url) as herd:
        while not (workers := herd.workers()):
            if time.monotonic() > deadline_s:
                raise TimeoutError("the worker does not report itself")
            time.sleep(_POLL_S)
    return workers[0].mark


def _look_for_leftovers(fleet: Fleet, mark: int) -> list[str]:
    with Herd(fleet.redis.url) as herd:
        checks = host_is_clean(herd, fleet.worker, mark)
    write_checks(checks)
    return [f"{one.name}: {one.detail}" for one in checks if one.status is CheckStatus.FAILED]


def _told(problems: Sequence[str], log: str) -> str:
    lines = "".join(f"\n  {problem}" for problem in problems)
    return f"not as expected:{lines}\n\nThe worker's log ends with:\n{log[-_LOG_CHARS:]}"


def _wait_for_ctrl_c(fleet: Fleet, job_id: str) -> None:
    program = Path(sys.executable).with_name("agentherd")
    click.echo()
    click.secho("Redis and the worker run on. Look around in another terminal:", bold=True)
    click.echo(f"  export AGENTHERD_REDIS_URL='{fleet.redis.url}'")
    for command in ("list", *(f"{verb} {job_id}" for verb in _LOOKING)):
        click.echo(f"  {program} {command}")
    click.echo("Ctrl-C stops them, and looks at what is left.")
    sys.stdout.flush()
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
