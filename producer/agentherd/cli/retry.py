"""`agentherd retry`."""

from collections.abc import Iterable, Iterator

import click

from agentherd.cli import parameters
from agentherd.cli.exits import CommandFailed, ExitCode
from agentherd.cli.failure_filter import FailureFilter, failure_filter
from agentherd.cli.parameters import converted
from agentherd.cli.screen import note, write_json, write_table
from agentherd.cli.session import CommandSession, json_option, pass_session
from agentherd.client.blocking import Herd
from agentherd.errors import AgentherdError, BrokerUnavailable

_HEADER = ("JOB", "TRIED AGAIN AS", "PROBLEM")
_PAGE = 200


@click.command("retry")
@click.argument("job_ids", nargs=-1, metavar="[JOB]...", callback=converted(parameters.job_id))
@failure_filter
@click.option("--all", "everything", is_flag=True, help="All that failed.")
@click.option("--resume", is_flag=True, help="Go on with the jobs' sessions where they have one.")
@click.option("--dry-run", is_flag=True, help="Only show which jobs would be tried again.")
@json_option
@pass_session
def command(
    session: CommandSession,
    *,
    job_ids: tuple[str, ...],
    chosen: FailureFilter,
    everything: bool,
    resume: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Try jobs again that failed, timed out, expired or were cancelled.

    Each becomes a new job of the same content; a job that was tried again before is not tried
    a second time. Name jobs, or choose among those that `agentherd failed` lists by --kind,
    --tenant, --since and --until, or take --all of them.
    """
    if bool(job_ids) == bool(chosen or everything):
        raise click.UsageError("name jobs, or choose by --kind, --tenant, --since, or --all")
    herd = session.herd
    # Looked up before the first retry: one that fails at once must not be found again.
    names = job_ids or tuple(_failed(herd, chosen))
    rows = _look(names) if dry_run else _retry(herd, names, resume=resume)
    _write(rows, dry_run=dry_run, as_json=as_json)
    failed = sum(bool(problem) for _, _, problem in rows)
    if failed:
        raise CommandFailed(ExitCode.UNSUCCESSFUL, f"{failed} of {len(rows)} not tried again")


_Row = tuple[str, str, str]
"""The job, the new one, and what is wrong where there is none."""


def _failed(herd: Herd, chosen: FailureFilter) -> Iterator[str]:
    cursor: str | None = None
    while True:
        page = herd.connection.run(chosen.page(herd.keys, limit=_PAGE, cursor=cursor))
        yield from (job.job_id for job in page.jobs)
        cursor = page.cursor
        if cursor is None:
            return


def _look(job_ids: Iterable[str]) -> list[_Row]:
    return [(job_id, "", "") for job_id in job_ids]


def _retry(herd: Herd, job_ids: Iterable[str], *, resume: bool) -> list[_Row]:
    rows: list[_Row] = []
    for job_id in job_ids:
        try:
            rows.append((job_id, herd.retry(job_id, resume=resume).id, ""))
        except BrokerUnavailable:
            raise  # to be run again: who was tried again is not tried twice
        except AgentherdError as error:  # of this job; the others are tried all the same
            rows.append((job_id, "", " ".join(str(error).split())))
    return rows


def _write(rows: list[_Row], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        named = [
            {"job_id": job_id, "retried_as": new_id or None, "problem": problem or None}
            for job_id, new_id, problem in rows
        ]
        write_json({"jobs": named, "dry_run": dry_run})
        return
    if rows:
        columns = 1 if dry_run else 3
        write_table(_HEADER[:columns], [row[:columns] for row in rows])
    note(f"{len(rows)} jobs would be tried again" if dry_run else f"{len(rows)} jobs")
