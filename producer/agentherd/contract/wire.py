"""How a job is written for another process: JSON with a version of its own."""

import json
from typing import Any

from agentherd.contract.job import MAX_JOB_BYTES, Job
from agentherd.errors import InvalidJob, UnknownWireVersion

WIRE_VERSION = 1
"""Goes up when an older worker would misread a job, not with every release."""


def job_to_wire(job: Job) -> dict[str, Any]:
    """`{"version": 1, …}`: the fields of `job` that differ from their defaults."""
    fields = job.model_dump(mode="json", exclude_defaults=True)
    if "session" in fields:
        fields["session"]["kind"] = job.session.kind  # the default of its class, so left out
    return {"version": WIRE_VERSION, **fields}


def encode_job(job: Job) -> str:
    """`job` as JSON text.

    Raises:
        InvalidJob: larger than `MAX_JOB_BYTES`.
    """
    # Not sorted: an agent fills its output schema in the order of the properties.
    text = json.dumps(job_to_wire(job), separators=(",", ":"))
    if len(text) > MAX_JOB_BYTES:
        raise InvalidJob([("job", f"{len(text)} bytes encoded; at most {MAX_JOB_BYTES}")])
    return text


def job_from_wire(document: Any) -> Job:
    """The job in a decoded document; a missing version means the current one.

    Raises:
        UnknownWireVersion: written by a newer agentherd.
        InvalidJob: not an object, or a field is wrong; lists every one.
    """
    if not isinstance(document, dict):
        raise InvalidJob([("job", f"must be a JSON object, not {type(document).__name__}")])
    fields = dict(document)
    version = fields.pop("version", WIRE_VERSION)
    if version != WIRE_VERSION or isinstance(version, bool):
        raise UnknownWireVersion(
            [("version", f"{version!r} is unknown here; this agentherd reads {WIRE_VERSION}")]
        )
    return Job(**fields)


def decode_job(text: str | bytes) -> Job:
    """The job in a JSON text; see `job_from_wire`."""
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidJob([("job", f"not JSON: {error}")]) from None
    return job_from_wire(document)
