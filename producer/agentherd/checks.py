"""What `agentherd doctor` reports, and what other distributions may add to it.

A distribution adds checks with an entry point of the group `agentherd.checks`: a callable
without arguments that returns `Check`s.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum


class CheckStatus(StrEnum):
    """How a check came out."""

    OK = "ok"
    WARNING = "warning"
    """Works, and something about it will hurt one day."""
    FAILED = "failed"
    """Jobs can't be submitted or run."""


@dataclass(frozen=True)
class Check:
    """One line of `agentherd doctor`."""

    name: str
    """What was looked at, in one to three words."""
    status: CheckStatus
    detail: str
    """What was found. Never holds a password or key."""
    fix: str = ""
    """What to do about it; empty where nothing needs to be done."""


CheckSource = Callable[[], Iterable[Check]]
"""What an entry point of the group `agentherd.checks` loads to."""
