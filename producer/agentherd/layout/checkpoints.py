"""What Redis knows about the stored workspace of a job, and perhaps the workspace itself."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from agentherd.contract.states import LIVE
from agentherd.layout.keys import Keys
from agentherd.layout.operations import Command, Operation, Pipeline, Script
from agentherd.layout.replies import text

_FIELDS = (
    "at_ms", "attempt", "sha256", "size_bytes", "content_bytes", "files", "left_out", "location",
    "complete", "too_large",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A stored workspace, or why there is none."""

    at_ms: int = 0
    """When it was stored, Unix time on Redis's clock; 0: nothing is stored."""
    attempt: int = 0
    """Whose files they are."""
    sha256: str = ""
    """Of the packed workspace."""
    size_bytes: int = 0
    """Packed."""
    content_bytes: int = 0
    """Unpacked."""
    files: int = 0
    left_out: int = 0
    """Things in the workspace that are never stored."""
    location: str = ""
    """Where it is below the fleet's URL; empty: in Redis."""
    complete: bool = False
    """The agent had ended, and nobody has worked on the files since."""
    too_large: str = ""
    """Why the workspace, as it was later, was not stored."""


def keep(
    keys: Keys,
    job_id: str,
    fence: int,
    checkpoint: Checkpoint,
    content: bytes | None,
    *,
    ttl_ms: int,
) -> Operation[bool]:
    """Put a stored workspace in the place of the one before; False: the lease is gone.

    Args:
        content: None where it is at `checkpoint.location`.
    """
    about: dict[str, str | int] = {
        "attempt": checkpoint.attempt,
        "sha256": checkpoint.sha256,
        "size_bytes": checkpoint.size_bytes,
        "content_bytes": checkpoint.content_bytes,
        "files": checkpoint.files,
        "left_out": checkpoint.left_out,
        "location": checkpoint.location,
        "complete": int(checkpoint.complete),
    }
    noted = yield _script(keys, job_id, fence, about, content or b"", replace=1, ttl_ms=ttl_ms)
    return bool(noted)


def note(
    keys: Keys, job_id: str, fence: int, about: Mapping[str, str | int], *, ttl_ms: int
) -> Operation[bool]:
    """Set fields of what is stored, or note why nothing is; False: the lease is gone."""
    return bool((yield _script(keys, job_id, fence, about, b"", replace=0, ttl_ms=ttl_ms)))


def _script(
    keys: Keys,
    job_id: str,
    fence: int,
    about: Mapping[str, str | int],
    content: bytes,
    *,
    replace: int,
    ttl_ms: int,
) -> Script:
    return Script(
        "keep_checkpoint",
        keys={"record": keys.job(job_id), "checkpoint": keys.checkpoint(job_id)},
        args={
            "fence": fence,
            "about": json.dumps({name: str(value) for name, value in about.items()}),
            "content": content,
            "replace": replace,
            "ttl_ms": ttl_ms,
        },
    )


def find(keys: Keys, job_id: str) -> Operation[Checkpoint | None]:
    """What is known about the job's stored workspace."""
    values = yield Command("HMGET", keys.checkpoint(job_id), *_FIELDS)
    known = {
        name: text(value) for name, value in zip(_FIELDS, values, strict=True) if value is not None
    }
    if not known:
        return None
    return Checkpoint(
        at_ms=int(known.get("at_ms", 0)),
        attempt=int(known.get("attempt", 0)),
        sha256=known.get("sha256", ""),
        size_bytes=int(known.get("size_bytes", 0)),
        content_bytes=int(known.get("content_bytes", 0)),
        files=int(known.get("files", 0)),
        left_out=int(known.get("left_out", 0)),
        location=known.get("location", ""),
        complete=known.get("complete") == "1",
        too_large=known.get("too_large", ""),
    )


def content_of(keys: Keys, job_id: str) -> Operation[bytes | None]:
    """The packed workspace, where it is in Redis."""
    content: bytes | None = yield Command("HGET", keys.checkpoint(job_id), "content")
    return content


def ended(keys: Keys, job_ids: list[str]) -> Operation[list[str]]:
    """Those of the jobs that have ended, or that Redis knows nothing of."""
    states = yield Pipeline(*(Command("HGET", keys.job(job_id), "state") for job_id in job_ids))
    return [
        job_id
        for job_id, state in zip(job_ids, states, strict=True)
        if state is None or text(state) not in LIVE
    ]
