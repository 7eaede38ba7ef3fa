"""Live progress: on a terminal a table with one line a job, elsewhere one line an event."""

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from agentherd import EventKind, JobEvent
from agentherd.cli.screen import STATE_STYLES, write_line
from agentherd.cli.times import clock_time, duration
from agentherd.cli.untrusted import one_line
from agentherd_workers.devkit.demo.jobs import Part
from agentherd_workers.devkit.demo.words import in_words

Show = Callable[[Part, JobEvent], None]
"""Shows that something happened to a job."""

_LINE_CHARS = 120
_REFRESHES_A_S = 10.0


@contextmanager
def live_progress(parts: Sequence[Part]) -> Iterator[Show]:
    """A table where stdout is a terminal that can redraw, else lines."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not sys.stdout.isatty() or console.is_dumb_terminal:
        yield _Lines(parts).show
        return
    table = _Table(parts)
    with Live(get_renderable=table.render, console=console, refresh_per_second=_REFRESHES_A_S):
        yield table.show


def labels(parts: Sequence[Part]) -> dict[Part, str]:
    """Number and title of each, all of the same width."""
    width = max(len(part.title) for part in parts)
    return {part: f"{number} {part.title:<{width}}" for number, part in enumerate(parts, 1)}


class _Lines:
    """One line an event that is worth one."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._labels = labels(parts)

    def show(self, part: Part, event: JobEvent) -> None:
        if words := in_words(event):
            write_line(
                (f"{clock_time(event.at_ms)}  {self._labels[part]}  ", ""),
                (one_line(words, _LINE_CHARS), ""),
            )
            sys.stdout.flush()


@dataclass
class _Row:
    """What the table shows of a job."""

    label: str
    doing: str
    state: str = ""
    started_s: float | None = None
    ended_s: float | None = None
    cost: str = ""

    def take(self, event: JobEvent) -> None:
        """Move on."""
        match event.kind:
            case EventKind.SUBMITTED | EventKind.REQUEUED:
                self.state = "queued"
            case EventKind.STARTED:
                self.state = "running"
                self.started_s = self.started_s or time.monotonic()
            case EventKind.ENDED:
                self.state, self.ended_s = str(event.data.get("state")), time.monotonic()
                self.cost = f"${event.data.get('cost_usd') or 0:.4f}"
                if not event.data.get("failure_kind"):
                    return  # its last words say more
            case _:
                pass
        self.doing = one_line(in_words(event), _LINE_CHARS) or self.doing

    @property
    def took(self) -> str:
        """Time since a worker took it."""
        if self.started_s is None:
            return ""
        return duration(int(((self.ended_s or time.monotonic()) - self.started_s) * 1000))


class _Table:
    """All jobs; drawn again and again."""

    def __init__(self, parts: Sequence[Part]) -> None:
        named = labels(parts)
        self._rows = {
            part: _Row(named[part], "waits for job 1 to end" if part.goes_on_with else "")
            for part in parts
        }

    def show(self, part: Part, event: JobEvent) -> None:
        self._rows[part].take(event)

    def render(self) -> Table:
        table = Table(box=None, pad_edge=False, header_style="bold", expand=True)
        table.add_column("JOB", no_wrap=True)
        table.add_column("STATE", no_wrap=True, width=9)
        table.add_column("NOW", no_wrap=True, overflow="ellipsis", ratio=1)
        table.add_column("COST", no_wrap=True, width=7, justify="right")
        table.add_column("TIME", no_wrap=True, width=7, justify="right")
        for row in self._rows.values():
            state = Text(row.state, style=STATE_STYLES.get(row.state, ""))
            table.add_row(row.label, state, Text(row.doing), row.cost, row.took)
        return table
