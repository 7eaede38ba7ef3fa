"""The jobs that this worker has: those being claimed, and those that run."""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from agentherd_workers.agent.outcome import Stop
from agentherd_workers.attempt import Attempt


class Place:
    """One job's: from its message's arrival to its end here."""

    def __init__(self, job_id: str, task: "asyncio.Task[Any] | None") -> None:
        self.job_id = job_id
        self.task = task
        self.attempt: Attempt | None = None
        self._stop: Stop | None = None

    def run(self, attempt: Attempt) -> None:
        """The job is claimed; it is stopped at once if that was asked for meanwhile."""
        self.attempt = attempt
        if self._stop is not None:
            attempt.stop(self._stop)

    def stop(self, reason: Stop) -> None:
        """End it soon; the first reason stays."""
        self._stop = self._stop or reason
        if self.attempt is not None:
            self.attempt.stop(reason)


class Roster:
    """Places by reservation: a job may come back while its attempt before is still on its way out.

    Belongs to the supervisor's event loop.
    """

    def __init__(self) -> None:
        self._places: dict[str, Place] = {}
        self._attempts: dict[str, Attempt] = {}
        self._closed = False
        self._empty = asyncio.Event()
        self._empty.set()

    @property
    def attempts(self) -> Mapping[str, Attempt]:
        """Those that run, by their reservation; changes all the time."""
        return self._attempts

    @contextmanager
    def place(self, job_id: str, booked: str) -> Iterator[Place]:
        """A place for one job under its reservation, taken for as long as the context lasts."""
        place = self._places[booked] = Place(job_id, asyncio.current_task())
        self._empty.clear()
        if self._closed:
            place.stop(Stop.DRAINED)
        try:
            yield place
        finally:
            del self._places[booked]
            self._attempts.pop(booked, None)
            if not self._places:
                self._empty.set()

    def run(self, booked: str, attempt: Attempt) -> None:
        """The job of this reservation is claimed."""
        self._attempts[booked] = attempt
        self._places[booked].run(attempt)

    def stop_job(self, job_id: str, reason: Stop) -> bool:
        """End a job soon; False: it is not here."""
        found = [place for place in self._places.values() if place.job_id == job_id]
        for place in found:
            place.stop(reason)
        return bool(found)

    def close(self) -> None:
        """Give back what comes from now on, and what is only being claimed."""
        self._closed = True
        for place in self._places.values():
            if place.attempt is None:
                place.stop(Stop.DRAINED)

    def stop_all(self) -> int:
        """Give back what still runs; how many jobs that are."""
        for place in self._places.values():
            place.stop(Stop.DRAINED)
        return len(self._places)

    def abandon(self) -> None:
        """Wait for Redis no longer: other workers take over once the leases are over."""
        for place in self._places.values():
            if place.task is not None:
                place.task.cancel()

    async def empty(self) -> None:
        """Return once no job is here."""
        await self._empty.wait()

    def __len__(self) -> int:
        return len(self._places)
