"""`agentherd list`."""

from datetime import datetime

import click

from agentherd.cli.paging import (
    checked_cursor,
    page_options,
    since_option,
    submitted_arguments,
    tell_more,
    tenant_option,
    until_option,
)
from agentherd.cli.screen import write_json, write_table
from agentherd.cli.session import CommandSession, json_option, pass_session
from agentherd.cli.times import duration, list_time
from agentherd.contract.listing import JobSummary
from agentherd.contract.states import JobState

_HEADER = ("JOB", "STATE", "TENANT", "SUBMITTED", "TOOK", "COST", "PROMPT")


@click.command("list")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([str(s) for s in JobState]),
    help="Only jobs in this state. Repeatable.",
)
@tenant_option
@since_option
@until_option
@page_options
@json_option
@pass_session
def command(
    session: CommandSession,
    states: tuple[str, ...],
    tenant: str | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    cursor: str | None,
    as_json: bool,
) -> None:  # fmt: skip
    """List jobs, the newest first."""
    with checked_cursor(cursor):
        page = session.herd.jobs(
            state=[JobState(state) for state in states] or None,
            tenant=tenant,
            since=since,
            until=until,
            limit=limit,
            cursor=cursor,
        )
    if as_json:
        write_json(page.model_dump(mode="json"))
        return
    write_table(_HEADER, [_row(job) for job in page.jobs], cuts="PROMPT")
    chosen = [part for state in states for part in ("--state", state)]
    tell_more("list", page, [*chosen, *submitted_arguments(tenant, since, until)], limit)


def _row(job: JobSummary) -> tuple[str, ...]:
    ended = job.finished_at_ms is not None and job.started_at_ms is not None
    state = f"{job.state} ({job.failure_kind})" if _adds(job) else str(job.state)
    return (
        job.job_id,
        state,
        job.tenant,
        list_time(job.submitted_at_ms),
        duration((job.finished_at_ms or 0) - (job.started_at_ms or 0)) if ended else "",
        "" if job.cost_usd is None else f"${job.cost_usd:.4f}",
        job.prompt_preview,
    )


def _adds(job: JobSummary) -> bool:
    """Whether the kind of failure says more than the state."""
    return job.failure_kind is not None and str(job.failure_kind) != str(job.state)
