"""Who is on the roster, and what they are told."""

import asyncio
from typing import Any, cast

import pytest

from agentherd_workers.agent.outcome import Stop
from agentherd_workers.attempt import Attempt
from agentherd_workers.roster import Roster


class Told:
    """An attempt, as far as a roster knows one."""

    def __init__(self) -> None:
        self.stops: list[Stop] = []

    def stop(self, reason: Stop) -> None:
        self.stops.append(reason)


def run(roster: Roster, booked: str) -> Told:
    """The job of this reservation is claimed."""
    attempt = Told()
    roster.run(booked, cast("Attempt", attempt))
    return attempt


async def test_a_job_that_comes_back_is_not_taken_for_its_attempt_before() -> None:
    """Given back, it may be popped here again before the first attempt has left."""
    roster = Roster()
    first = roster.place("job", "r1")
    first.__enter__()
    old = run(roster, "r1")
    with roster.place("job", "r2"):
        new = run(roster, "r2")
        first.__exit__(None, None, None)
        assert list(roster.attempts) == ["r2"]
        assert roster.stop_job("job", Stop.CANCELLED)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await roster.empty()
    assert (old.stops, new.stops) == ([], [Stop.CANCELLED])
    assert not roster.stop_job("job", Stop.CANCELLED)
    await roster.empty()


async def test_what_is_asked_while_a_job_is_claimed_holds_for_its_attempt() -> None:
    """The first reason that was given."""
    roster = Roster()
    with roster.place("job", "r1"):
        roster.stop_job("job", Stop.CANCELLED)
        roster.close()
        assert run(roster, "r1").stops == [Stop.CANCELLED]


async def test_a_closed_roster_gives_back_what_does_not_run_yet() -> None:
    """What runs may go on until all are told to stop."""
    roster = Roster()
    with roster.place("a", "r1"), roster.place("b", "r2"):
        running = run(roster, "r1")
        roster.close()
        assert run(roster, "r2").stops == [Stop.DRAINED]
        with roster.place("c", "r3"):
            assert run(roster, "r3").stops == [Stop.DRAINED]
        assert running.stops == []
        assert roster.stop_all() == 2
        assert running.stops == [Stop.DRAINED]


async def test_abandoned_jobs_are_waited_for_no_longer() -> None:
    """Whatever they wait for themselves."""
    roster = Roster()

    async def hold(**_: Any) -> None:
        with roster.place("job", "r1"):
            await asyncio.Event().wait()

    task = asyncio.create_task(hold())
    await asyncio.sleep(0)
    assert len(roster) == 1
    roster.abandon()
    await roster.empty()
    assert len(roster) == 0
    with pytest.raises(asyncio.CancelledError):
        await task
