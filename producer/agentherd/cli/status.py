"""`agentherd status`."""

from typing import Any

import click

from agentherd.cli.progress import NOT_SERVED, WAITING, refusal_text
from agentherd.cli.screen import note, write_fields, write_json
from agentherd.cli.session import CommandSession, job_argument, json_option, pass_session
from agentherd.cli.times import duration, local_time
from agentherd.layout import breaker
from agentherd.layout.records import JobRecord

# Not `spec`: it holds the job's environment and files.
_JSON_FIELDS = (
    "job_id", "state", "tenant", "session_id", "queue", "priority", "attempt", "preview", "model",
    "metadata", "served", "released_at_ms", "started_at_ms", "finished_at_ms", "worker", "turns",
    "retry_of", "retried_as",
)  # fmt: skip


@click.command("status")
@job_argument
@json_option
@pass_session
def command(session: CommandSession, job_id: str, as_json: bool) -> None:
    """Show where a job is."""
    record = session.job(job_id).record()
    if as_json:
        write_json(_as_json(record))
        return
    write_fields(_fields(record))
    if waiting := WAITING.get(record.state):
        note(waiting if record.served is not False else f"{waiting}; {NOT_SERVED}")
        tell_of_breaker(session)


def tell_of_breaker(session: CommandSession) -> None:
    """Say so where a waiting job waits for the model API to accept the fleet's key again."""
    herd = session.herd
    open_for = herd.connection.run(breaker.read(herd.keys))
    if open_for is not None:
        note(refusal_text(open_for))


def _as_json(record: JobRecord) -> dict[str, Any]:
    return {
        **{name: getattr(record, name) for name in _JSON_FIELDS},
        "submitted_at_ms": record.submitted_at_us // 1000,
        "usage": record.usage.model_dump(mode="json"),
        "result": record.result.model_dump(mode="json") if record.result else None,
    }


def _fields(record: JobRecord) -> list[tuple[str, str]]:
    result = record.result
    failure = result.failure if result else None
    usage = result.usage if result else record.usage
    fields = [
        ("job", record.job_id),
        ("state", str(record.state)),
        ("failure", f"{failure.kind}: {failure.message}" if failure else ""),
        ("prompt", record.preview),
        ("tenant", record.tenant),
        ("session", record.session_id),
        ("model", (result and result.model) or record.model or ""),
        ("queue", f"{record.queue}, priority {record.priority}"),
        ("attempt", str(record.attempt) if record.attempt else ""),
        ("worker", record.worker or ""),
        ("submitted", local_time(record.submitted_at_us // 1000)),
        ("started", _time(record.started_at_ms)),
        ("finished", _time(record.finished_at_ms)),
        ("took", _took(record)),
        ("turns", str(result.turns if result else record.turns)),
        ("cost", f"${usage.cost_usd:.4f}"),
        ("tokens", f"{usage.input_tokens} in, {usage.output_tokens} out"),
        ("artifacts", str(len(result.artifacts)) if result and result.artifacts else ""),
        ("denied tools", ", ".join(result.permission_denials) if result else ""),
        ("retry of", record.retry_of or ""),
        ("tried again as", record.retried_as or ""),
        ("metadata", ", ".join(f"{name}={value}" for name, value in record.metadata.items())),
    ]
    return [(name, value) for name, value in fields if value]


def _time(at_ms: int | None) -> str:
    return "" if at_ms is None else local_time(at_ms)


def _took(record: JobRecord) -> str:
    if record.started_at_ms is None or record.finished_at_ms is None:
        return ""
    return duration(record.finished_at_ms - record.started_at_ms)
