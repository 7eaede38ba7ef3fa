"""Reading a job's events."""

import json
from typing import Any

from agentherd.contract.events import EventKind, JobEvent
from agentherd.layout.keys import Keys
from agentherd.layout.operations import Command, Operation
from agentherd.layout.replies import pairs, stream_entries, text

PAGE = 200
"""Events read per round trip."""
FIRST = "0-0"
"""Before the first event."""


def last_event_id(keys: Keys, job_id: str) -> Operation[str]:
    """The id of the newest event, or `FIRST`."""
    newest = yield Command("XREVRANGE", keys.events(job_id), "+", "-", "COUNT", 1)
    return text(newest[0][0]) if newest else FIRST


def read_events(keys: Keys, job_id: str, after: str, block_ms: int) -> Operation[list[JobEvent]]:
    """Up to `PAGE` events after the id `after`, waiting up to `block_ms` for the first."""
    wait = ("BLOCK", block_ms) if block_ms else ()
    reply = yield Command("XREAD", "COUNT", PAGE, *wait, "STREAMS", keys.events(job_id), after)
    return [event_from(job_id, event_id, fields) for event_id, fields in stream_entries(reply)]


def event_from(job_id: str, event_id: Any, fields: Any) -> JobEvent:
    """The event in one stream entry."""
    values = pairs(fields)
    kind = values["kind"]
    position = text(event_id)
    return JobEvent(
        id=position,
        job_id=job_id,
        attempt=int(values["attempt"]),
        at_ms=int(position.partition("-")[0]),
        kind=EventKind(kind) if kind in set(EventKind) else kind,
        data=json.loads(values["data"]),
    )
