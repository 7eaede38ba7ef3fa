"""What this worker knows of the fleet's breaker, and what follows from it. No I/O.

An attempt that the model API refuses for a reason that every job shares (the key, the account)
opens the breaker for the whole fleet: no worker asks for jobs, and the refused one goes back to
its queue uncharged. Now and then one worker may try one job; once the model answers, the
breaker closes for all.
"""

import logging
import time
from collections.abc import Callable

from agentherd.contract.failures import FailureKind
from agentherd.contract.hosts import BreakerReport
from agentherd_workers.agent.outcome import Verdict

log = logging.getLogger(__name__)

LOOK_EVERY_S = 1.0
"""How soon a worker learns that it opened or closed."""
SHARED = frozenset({FailureKind.AUTHENTICATION, FailureKind.BILLING})
"""Refusals that meet every job: all use the fleet's key, for a job can't bring its own."""


def concerns_all(ended: Verdict) -> bool:
    """Whether the next job would end like this one."""
    return ended.failure is not None and ended.failure.kind in SHARED


class Breaker:
    """One worker's view. Told by one thread, asked by any."""

    def __init__(
        self, probe_s: float = 30.0, *, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self.probe_s = probe_s
        self._clock_s = clock_s
        self._report: BreakerReport | None = None
        self._probe_until_s: float | None = None

    @property
    def report(self) -> BreakerReport | None:
        """Why the fleet takes no jobs; None: it does."""
        return self._report

    def note(self, report: BreakerReport | None) -> None:
        """How it stands in Redis."""
        if report is not None and self._report is None:
            log.error("no jobs are taken: the model API refuses the fleet: %s", report.message)
        elif report is None and self._report is not None:
            log.warning("jobs are taken again: the model API answers")
        if report is None:
            self._probe_until_s = None
        self._report = report

    def allow_probe(self) -> None:
        """This worker may take one job, if one comes before the next worker's turn."""
        self._probe_until_s = self._clock_s() + self.probe_s

    def job_taken(self) -> None:
        """A job came; if it was the one to be tried, no other one is."""
        self._probe_until_s = None

    def refusal(self) -> str | None:
        """Why no job may be taken now, for a person; None: one may."""
        report, until_s = self._report, self._probe_until_s
        if report is None or (until_s is not None and self._clock_s() < until_s):
            return None
        return (
            f"the model API refuses the fleet ({report.kind}: {report.message});"
            f" one job is tried every {self.probe_s:g} s"
        )
