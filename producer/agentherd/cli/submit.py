"""`agentherd submit`."""

import warnings
from typing import Any

import click

from agentherd.cli.following import follow
from agentherd.cli.job_options import job_from, job_options
from agentherd.cli.outcome import exit_by, write_answer, write_summary
from agentherd.cli.parameters import prompt_from
from agentherd.cli.progress import NOT_SERVED, WAITING, event_json, write_event
from agentherd.cli.screen import note, write_json
from agentherd.cli.session import CommandSession, json_option, pass_session
from agentherd.cli.status import tell_of_breaker
from agentherd.client.blocking import JobHandle
from agentherd.contract.job import DEFAULT_MEMORY
from agentherd.errors import BrokerUnavailable, ClassNotServed
from agentherd.layout.records import JobRecord


@click.command("submit")
@click.argument("prompt", required=False)
@job_options
@click.option("--job-id", metavar="ID", help="The job's id; a UUID by default.")
@click.option("--follow", is_flag=True, help="Show progress, then the answer; exit by outcome.")
@json_option
@pass_session
def command(
    session: CommandSession,
    prompt: str | None,
    job_id: str | None,
    follow: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Put a job on the queue and print its id. PROMPT `-` is read from stdin."""
    job = job_from(None if prompt is None else prompt_from(prompt), options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClassNotServed)  # told below, from the record
        handle = session.herd.submit(job, job_id=job_id)
    if not as_json and not follow:
        click.echo(handle.id)
    record = _record(handle)
    if as_json:
        write_json(_submitted_json(record, in_stream=follow))
    elif follow:
        note(f"job {handle.id}, session {record.session_id}")
    else:
        note(WAITING.get(record.state, f"this job is already {record.state}"))
    if record.served is False and job.memory != DEFAULT_MEMORY:
        note(f"{NOT_SERVED}; see: agentherd hosts")
    if record.state in WAITING:
        tell_of_breaker(session)
    if follow:
        _follow(handle, as_json=as_json)


def _record(handle: JobHandle) -> JobRecord:
    try:
        return handle.record()
    except BrokerUnavailable as error:  # the job is queued: its id must not be lost
        raise BrokerUnavailable(f"job {handle.id} is queued, but {error}") from error


def _submitted_json(record: JobRecord, *, in_stream: bool) -> dict[str, Any]:
    return {
        **({"type": "submitted"} if in_stream else {}),
        "job_id": record.job_id,
        "state": record.state,
        "tenant": record.tenant,
        "session_id": record.session_id,
    }


def _follow(handle: JobHandle, *, as_json: bool) -> None:
    for event in follow(handle):
        if as_json:
            write_json(event_json(event))
        else:
            write_event(event, err=True)
    result = handle.result()
    if as_json:
        write_json({"type": "result", **result.model_dump(mode="json")})
    else:
        write_summary(result)
        write_answer(result)
    exit_by(result)
