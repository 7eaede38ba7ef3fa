"""One worker leads: it releases what waited for its time, and takes what a lost worker held.

Nothing is wrong where two lead for a moment, as after a pause of one: every move they make is
one script that looks again.
"""

from dataclasses import dataclass, field

from agentherd.layout.keys import Keys
from agentherd.layout.operations import Operation, Script
from agentherd.layout.replies import scored, text

LIMIT = 100
"""Jobs of each kind that one tick brings."""
TERM_MS = 3_000
"""Who has not ticked for so long leads no more."""
SET_ASIDE_MS = 60_000


@dataclass(frozen=True)
class Duty:
    """What the leader has to look after now. Times on Redis's clock."""

    now_ms: int = 0
    due: list[str] = field(default_factory=list)
    """Jobs that waited for their time; the longest overdue first."""
    expired: list[tuple[str, int]] = field(default_factory=list)
    """Running jobs whose lease is over, and when it ended (ms)."""
    overdue: list[str] = field(default_factory=list)
    """Jobs that have expired, if they did not start."""


def tick(keys: Keys, worker: str, *, leads: bool) -> Operation[Duty | None]:
    """Lead, or go on leading; None: another worker does. See tick.lua.

    Args:
        leads: whether the caller led at its last tick.
    """
    reply = yield Script(
        "tick",
        keys={
            "leader": keys.leader,
            "scheduled": keys.scheduled,
            "leases": keys.leases,
            "expiring": keys.expiring,
        },
        args={"worker": worker, "leads": int(leads), "term_ms": TERM_MS, "limit": LIMIT},
    )
    if not reply:
        return None
    now_ms, due, expired, overdue = reply
    return Duty(int(now_ms), list(map(text, due)), scored(expired), list(map(text, overdue)))


def resign(keys: Keys, worker: str) -> Operation[bool]:
    """Lead no more; False: it did not. See resign.lua."""
    reply = yield Script("resign", keys={"leader": keys.leader}, args={"worker": worker})
    return bool(reply)


def set_aside(keys: Keys, index: str, job_id: str) -> Operation[None]:
    """Look at a job that can't be moved again later. See set_aside.lua.

    Args:
        index: the key that named it: `keys.leases`, `keys.scheduled` or `keys.expiring`.
    """
    yield Script(
        "set_aside",
        keys={"index": index, "record": keys.job(job_id)},
        args={"job_id": job_id, "delay_ms": SET_ASIDE_MS},
    )
