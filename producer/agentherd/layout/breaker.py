"""The fleet's breaker: whether the model API refuses the key or account that all jobs share."""

from typing import Any

from agentherd.contract.hosts import BreakerReport
from agentherd.contract.results import Failure
from agentherd.layout.keys import Keys
from agentherd.layout.operations import Command, Operation, Script
from agentherd.layout.records import JobRecord
from agentherd.layout.replies import pairs, text

_MAX_MESSAGE = 500


class StaleRefusal:
    """The caller's lease is gone: someone else has the job."""


class JobsOwnFault:
    """Other jobs succeeded since this one was refused before: the key is good."""


def read(keys: Keys) -> Operation[BreakerReport | None]:
    """Why the fleet takes no jobs; None: the breaker is closed."""
    return _report((yield Command("HGETALL", keys.breaker)))


def look(
    keys: Keys, worker: str, *, wants: bool, probe_ms: int
) -> Operation[tuple[BreakerReport | None, bool]]:
    """How it stands, and whether this worker may now try one job. See breaker_look.lua."""
    granted, fields = yield Script(
        "breaker_look",
        keys={"breaker": keys.breaker},
        args={"worker": worker, "wants": int(wants), "probe_ms": probe_ms},
    )
    return _report(fields), bool(granted)


def trip(
    keys: Keys, record: JobRecord, failure: Failure, *, worker: str, probe_ms: int
) -> Operation[BreakerReport | JobsOwnFault | StaleRefusal]:
    """Note that the API refused a running job for a reason that all share. See breaker_trip.lua."""
    reply = yield Script(
        "breaker_trip",
        keys={"breaker": keys.breaker, "record": keys.job(record.job_id)},
        args={
            "fence": record.fence or "",
            "kind": failure.kind,
            "message": failure.message[:_MAX_MESSAGE],
            "worker": worker,
            "probe_ms": probe_ms,
        },
    )
    match text(reply[0]):
        case "open":
            return _report(reply[1]) or StaleRefusal()
        case "job":
            return JobsOwnFault()
        case _:
            return StaleRefusal()


def close(keys: Keys, *, claimed_at_ms: int) -> Operation[BreakerReport | None]:
    """Note that the model answered a job that was claimed then. See breaker_close.lua."""
    return _report(
        (
            yield Script(
                "breaker_close",
                keys={"breaker": keys.breaker},
                args={"claimed_at_ms": claimed_at_ms},
            )
        )
    )


def _report(reply: Any) -> BreakerReport | None:
    fields = pairs(reply)
    return BreakerReport.model_validate(fields) if fields.get("open") == "1" else None
