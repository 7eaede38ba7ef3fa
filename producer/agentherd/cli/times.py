"""Times and durations, read from options and written for people."""

import re
from datetime import UTC, datetime, timedelta

import click

_RELATIVE = re.compile(r"(\d{1,9})([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def time(text: str) -> datetime:
    """An ISO 8601 time; local where it names no zone."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        raise click.BadParameter(
            f"{text!r} is not an ISO 8601 time such as 2026-01-31T08:00+01:00"
        ) from None


def time_or_age(text: str) -> datetime:
    """A time, or an age such as `2h` before now."""
    age = _RELATIVE.fullmatch(text)
    if age is None:
        return time(text)
    try:
        return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
    except OverflowError:
        raise click.BadParameter(f"{text}: too long ago") from None


def local_time(at_ms: int) -> str:
    """A Unix time (ms) as local date and time."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone().isoformat(" ", "seconds")


def list_time(at_ms: int) -> str:
    """A Unix time (ms) as local date and time, without the zone: short enough for a table."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def clock_time(at_ms: int) -> str:
    """A Unix time (ms) as local time of day."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).astimezone().strftime("%H:%M:%S")


def duration(milliseconds: int) -> str:
    """A duration for a person: `4.2 s`, `3 min 20 s`, `2 h 5 min`."""
    seconds = max(milliseconds, 0) / 1000
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest_s} s"
    hours, rest_min = divmod(minutes, 60)
    return f"{hours} h {rest_min} min"
