"""Waiting for a condition with a deadline, instead of sleeping for a guess."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")
POLL_S = 0.02


def wait_until(
    predicate: Callable[[], T],
    description: str,
    timeout_s: float = 10.0,
    *,
    show: Callable[[], object] = str,
) -> T:
    """Poll `predicate` until it is true; return its value.

    Raises:
        AssertionError: it was still false after `timeout_s`; names `description` and what
            `show` found then.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        value = predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {description} {show()}".rstrip())
        time.sleep(POLL_S)


async def wait_until_async(
    predicate: Callable[[], Awaitable[T]], description: str, timeout_s: float = 10.0
) -> T:
    """Like `wait_until`, for an asynchronous predicate."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = await predicate()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout_s} s: {description}")
        await asyncio.sleep(POLL_S)
