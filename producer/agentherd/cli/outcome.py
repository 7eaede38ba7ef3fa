"""Telling how a job ended: its answer on stdout, the rest on stderr, and an exit code."""

import json

import click

from agentherd.cli.exits import CommandFailed, ExitCode
from agentherd.cli.screen import note, write_text
from agentherd.cli.times import duration
from agentherd.contract.results import JobResult, failure_text


def write_answer(result: JobResult) -> None:
    """The structured output as JSON where the job asked for one, else the agent's last text."""
    if result.structured_output is not None:
        click.echo(json.dumps(result.structured_output, indent=2))
    elif result.text:
        write_text(result.text)


def write_summary(result: JobResult) -> None:
    """One line on stderr: time, turns, cost, artifacts."""
    took = duration(result.finished_at_ms - (result.started_at_ms or result.finished_at_ms))
    kept = f", {len(result.artifacts)} artifacts" if result.artifacts else ""
    note(f"{result.state} in {took}, {result.turns} turns, ${result.usage.cost_usd:.4f}{kept}")


def exit_by(result: JobResult) -> None:
    """Return where the job succeeded.

    Raises:
        CommandFailed: it did not; says why.
    """
    if result.session_degraded:
        note("part of the transcript could not be stored; a resume may miss steps")
    if not result.succeeded:
        raise CommandFailed(ExitCode.UNSUCCESSFUL, failure_text(result))
