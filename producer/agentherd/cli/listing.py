"""`agentherd list`."""

import shlex
from datetime import datetime

import click

from agentherd.cli.parameters import converted
from agentherd.cli.screen import note, write_json, write_table
from agentherd.cli.session import CommandSession, json_option, pass_session
from agentherd.cli.times import duration, list_time, time_or_age
from agentherd.contract.listing import JobPage, JobSummary
from agentherd.contract.states import JobState
from agentherd.layout.listing import MAX_PAGE

_HEADER = ("JOB", "STATE", "TENANT", "SUBMITTED", "TOOK", "COST", "PROMPT")


@click.command("list")
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([str(s) for s in JobState]),
    help="Only jobs in this state. Repeatable.",
)
@click.option("--tenant", metavar="NAME", help="Only this tenant's jobs.")
@click.option(
    "--since",
    callback=converted(time_or_age),
    metavar="TIME",
    help="Submitted at or after; ISO 8601, or an age such as 2h.",
)
@click.option("--until", callback=converted(time_or_age), metavar="TIME", help="Submitted before.")
@click.option("--limit", type=click.IntRange(1, MAX_PAGE), default=50, show_default=True)
@click.option("--cursor", metavar="CURSOR", help="Of the page before.")
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
    try:
        page = session.herd.jobs(
            state=[JobState(state) for state in states] or None,
            tenant=tenant,
            since=since,
            until=until,
            limit=limit,
            cursor=cursor,
        )
    except ValueError as error:
        if cursor is None:
            raise
        raise click.BadParameter(str(error), param_hint="--cursor") from None
    if as_json:
        write_json(page.model_dump(mode="json"))
        return
    write_table(_HEADER, [_row(job) for job in page.jobs], cuts="PROMPT")
    _tell_more(page, [
        *(part for state in states for part in ("--state", state)),
        *(("--tenant", tenant) if tenant else ()),
        *(("--since", since.isoformat()) if since else ()),
        *(("--until", until.isoformat()) if until else ()),
        *(("--limit", str(limit)) if limit != 50 else ()),
    ])  # fmt: skip


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


def _tell_more(page: JobPage, filters: list[str]) -> None:
    if page.cursor:
        again = shlex.join(["agentherd", "list", *filters, "--cursor", page.cursor])
        note(f"more jobs: {again}")
    elif not page.jobs:
        note("no such jobs")
