"""`agentherd failed`."""

import click

from agentherd.cli.failure_filter import FailureFilter, failure_filter
from agentherd.cli.paging import checked_cursor, page_options, tell_more
from agentherd.cli.screen import note, write_json, write_table
from agentherd.cli.session import CommandSession, json_option, pass_session
from agentherd.cli.times import list_time
from agentherd.contract.listing import JobSummary
from agentherd.layout import poison
from agentherd.layout.poison import PoisonMessage

_HEADER = ("JOB", "KIND", "TENANT", "SUBMITTED", "ATTEMPTS", "COST", "MESSAGE")
_MESSAGES_HEADER = ("SET ASIDE", "QUEUE", "BYTES", "REASON", "CONTENT")


@click.command("failed")
@failure_filter
@page_options
@click.option("--all", "retried", is_flag=True, help="Those too that were tried again.")
@click.option("--messages", is_flag=True, help="Messages that were no jobs, instead of jobs.")
@json_option
@pass_session
def command(
    session: CommandSession,
    *,
    chosen: FailureFilter,
    limit: int,
    cursor: str | None,
    retried: bool,
    messages: bool,
    as_json: bool,
) -> None:
    """List the jobs that failed for good, the newest first.

    Those that were tried again by `agentherd retry` are left out.
    """
    herd = session.herd
    if messages:
        _write_messages(herd.connection.run(poison.kept(herd.keys)), as_json=as_json)
        return
    with checked_cursor(cursor):
        page = herd.connection.run(
            chosen.page(herd.keys, limit=limit, cursor=cursor, retried=retried)
        )
    if as_json:
        write_json(page.model_dump(mode="json"))
        return
    write_table(_HEADER, [_row(job) for job in page.jobs], cuts="MESSAGE")
    tell_more("failed", page, [*chosen.arguments, *(("--all",) if retried else ())], limit)
    set_aside = herd.connection.run(poison.count(herd.keys))
    if set_aside:
        note(f"{set_aside} messages were no jobs: agentherd failed --messages")


def _row(job: JobSummary) -> tuple[str, ...]:
    return (
        job.job_id,
        str(job.failure_kind or job.state),
        job.tenant,
        list_time(job.submitted_at_ms),
        str(job.attempt),
        f"${job.cost_usd or 0:.4f}",
        (f"tried again as {job.retried_as}; " if job.retried_as else "")
        + (job.failure_message or ""),
    )


def _write_messages(messages: list[PoisonMessage], *, as_json: bool) -> None:
    if as_json:
        write_json({"messages": [message.model_dump(mode="json") for message in messages]})
        return
    rows = [
        (list_time(one.at_ms), one.queue, str(one.size_bytes), one.reason, one.content)
        for one in messages
    ]
    write_table(_MESSAGES_HEADER, rows, cuts="CONTENT")
    if not messages:
        note("no message was set aside")
