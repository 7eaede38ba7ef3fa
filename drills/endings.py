"""The ways in which a job ends, or something ends under it."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random

import psutil

from agentherd import FailureKind
from agentherd_workers.processes import is_alive, mark_of, marked_by_worker

LEAVE_DAEMONS = """
setsid sleep 300 >/dev/null 2>&1 &
nohup sleep 300 >/dev/null 2>&1 &
(sleep 300 >/dev/null 2>&1 & disown) &
(setsid sh -c '(sleep 300 &) ; sleep 300' >/dev/null 2>&1 &)
env -i /usr/bin/setsid /bin/sleep 300 >/dev/null 2>&1 &
"""
"""What a tool may leave: setsid, nohup, disown, a double fork, an empty environment."""
DAEMONS = 6
_STAY = "perl -e 'sleep 300'"
# Each string is another one: Perl would share equal ones.
_GROW = (
    "perl -e 'my @x; for (1 .. 200)"
    ' { push @x, $_ . "x" x (16 << 20); select undef, undef, undef, .02 }\''
)


class Victim:
    """A worker and the one job that it runs."""

    def __init__(self, pid: int, mark: int, chance: Random) -> None:
        self.worker = psutil.Process(pid)
        self._mark = mark
        self._chance = chance

    def agent(self) -> list[psutil.Process]:
        """The living processes of the job."""
        found = []
        for pid in marked_by_worker(self._mark):
            with suppress(psutil.NoSuchProcess):
                found.append(psutil.Process(pid))
        return found

    def daemons(self) -> int:
        """How many of those that `LEAVE_DAEMONS` leaves run."""
        return sum(_name(one) == "sleep" for one in self.agent())

    def clis(self) -> list[psutil.Process]:
        """The CLI and what the worker started in its place: bubblewrap, or not yet the CLI.

        The worker's other children are its guard, and orphans of the job that it has adopted. A
        CLI may start its own program again as a tool's helper: that is not the CLI.
        """
        started = [one for one in self.worker.children() if self._is_started(one)]
        return started + [
            one for one in self.agent() if _name(one) == "claude" and _parent_name(one) == "bwrap"
        ]

    def guard(self) -> psutil.Process:
        """What ends the worker's agents when the worker can't."""
        return next(one for one in self.worker.children() if self._is_guard(one))

    def signal_worker(self, number: signal.Signals) -> None:
        """End the worker."""
        self.worker.send_signal(number)

    def signal_cli(self, number: signal.Signals) -> None:
        """End the CLI, or what isolates it."""
        clis = self.clis()
        if clis:
            with suppress(psutil.NoSuchProcess):
                self._chance.choice(clis).send_signal(number)

    def kill_worker_and_guard(self) -> None:
        """With nothing between them that could act."""
        guard = self.guard()
        for pid in self._chance.sample([guard.pid, self.worker.pid], 2):
            os.kill(pid, signal.SIGKILL)

    def _is_started(self, child: psutil.Process) -> bool:
        if not is_alive(child.pid):  # of a job before; it waits to be collected
            return False
        if mark_of(child.pid) is None:
            return not self._is_guard(child)  # the launcher
        return _name(child) in {"bwrap", "claude"}

    def _is_guard(self, process: psutil.Process) -> bool:
        with suppress(psutil.NoSuchProcess):
            return "agentherd_workers.guard" in process.cmdline()
        return False


def _name(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        return process.name()
    return ""


def _parent_name(process: psutil.Process) -> str:
    with suppress(psutil.NoSuchProcess):
        parent = process.parent()
        return _name(parent) if parent else ""
    return ""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to end."""

    name: str
    end: Callable[[Victim], None] | None = None
    """None: the job ends by itself."""
    tool: str = _STAY
    """What the agent's tool does once it has left daemons."""
    early: bool = False
    """While the CLI starts, instead of while its tool runs."""
    ends_worker: bool = False
    after_cli: bool = False
    """The job goes on to the end of its CLI: what is left is looked for from then on."""
    left_to_janitor: bool = False
    """Where nothing isolates the job, its processes live until the next worker starts."""
    outcome: str | None = None
    """State of the job after that, or kind of failure; None: the lease decides."""


def _worker(number: signal.Signals) -> Callable[[Victim], None]:
    return lambda victim: victim.signal_worker(number)


def _cli(number: signal.Signals) -> Callable[[Victim], None]:
    return lambda victim: victim.signal_cli(number)


WAYS = (
    Way(name="normal end", after_cli=True, tool="true", outcome="succeeded"),
    Way(name="out of memory", after_cli=True, tool=_GROW, outcome=FailureKind.OUT_OF_MEMORY),
    Way(name="CLI SIGKILL", end=_cli(signal.SIGKILL), outcome=FailureKind.CRASHED),
    Way(name="CLI SIGTERM", end=_cli(signal.SIGTERM), outcome=FailureKind.CRASHED),
    Way(name="worker SIGKILL", end=_worker(signal.SIGKILL), ends_worker=True),
    Way(
        name="worker SIGTERM",
        end=_worker(signal.SIGTERM),
        tool="perl -e 'sleep 1'",
        ends_worker=True,
        after_cli=True,
        outcome="succeeded",
    ),
    Way(name="worker SIGQUIT", end=_worker(signal.SIGQUIT), ends_worker=True, outcome="queued"),
    Way(
        name="worker and guard SIGKILL",
        end=Victim.kill_worker_and_guard,
        ends_worker=True,
        left_to_janitor=True,
    ),
    Way(
        name="early CLI SIGKILL",
        end=_cli(signal.SIGKILL),
        early=True,
        outcome=FailureKind.CRASHED,
    ),
    Way(name="early worker SIGKILL", end=_worker(signal.SIGKILL), early=True, ends_worker=True),
    Way(
        name="early worker SIGQUIT",
        end=_worker(signal.SIGQUIT),
        early=True,
        ends_worker=True,
        outcome="queued",
    ),
    Way(
        name="early worker and guard SIGKILL",
        end=Victim.kill_worker_and_guard,
        early=True,
        ends_worker=True,
        left_to_janitor=True,
    ),
)
