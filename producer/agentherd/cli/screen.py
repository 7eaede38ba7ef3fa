"""What a command prints: tables and lines for a person, plain text or JSON for a program.

stdout takes results, stderr takes messages. No text is ever read as rich markup.
"""

import json
import sys
from collections.abc import Sequence
from typing import Any

import click
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from agentherd.cli.untrusted import one_line, printable

STATE_STYLES = {
    "scheduled": "cyan",
    "queued": "cyan",
    "running": "yellow",
    "succeeded": "green",
    "failed": "red",
    "cancelled": "magenta",
    "timed_out": "red",
    "expired": "red",
    "ok": "green",
    "warning": "yellow",
}
"""Colours of job states and check outcomes."""
_NARROWEST = 20
"""Characters that a cut column keeps."""


def write_json(value: Any) -> None:
    """One JSON value on one line. Only ASCII, so nothing in it can act on a terminal."""
    click.echo(json.dumps(value))


def write_table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    cuts: str = "",
    wraps: Sequence[str] = (),
) -> None:
    """A table on a terminal, tab-separated lines with a header elsewhere.

    Args:
        cuts: the column that is cut where the terminal is narrow.
        wraps: the columns that go on in the next line there. All others are kept whole.
    """
    cells = [[one_line(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        for row in [list(header), *cells]:
            click.echo("\t".join(row))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    widths = _widths(header, cells)
    needed = _width_needed(header, cells)
    console = _console()
    for name, width in zip(header, widths, strict=True):
        if name == cuts:
            left = console.width - sum(widths) + width - 2 * len(widths)
            room = min(width, max(left, _NARROWEST))
            needed -= width - room
            table.add_column(name, overflow="ellipsis", no_wrap=True, width=room)
        elif name in wraps:
            table.add_column(name, overflow="fold", ratio=1)
        else:
            table.add_column(name, no_wrap=True, width=width)
    for row in cells:
        table.add_row(*(Text(cell, style=STATE_STYLES.get(cell, "")) for cell in row))
    if not wraps:
        # Where even that is too wide the terminal breaks the lines: ids can still be copied.
        console.width = max(console.width, needed)
    console.print(table)


def write_table_if_fits(header: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """`write_table`, unless the terminal is too narrow for it; whether it was written."""
    cells = [[one_line(cell) for cell in row] for row in rows]
    fits = not sys.stdout.isatty() or _width_needed(header, cells) <= _console().width
    if fits:
        write_table(header, rows)
    return fits


def _widths(header: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(cell_len, column)) for column in zip(header, *cells, strict=True)]


def _width_needed(header: Sequence[str], cells: Sequence[Sequence[str]]) -> int:
    widths = _widths(header, cells)
    return sum(widths) + 2 * len(widths)


def write_fields(fields: Sequence[tuple[str, str]]) -> None:
    """`name  value` lines, aligned."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        write_line((f"{name:<{width}}  ", "bold"), (one_line(value), STATE_STYLES.get(value, "")))


def write_line(*parts: tuple[str, str], err: bool = False) -> None:
    """One line of (text, style) parts; styles only on a terminal."""
    line = Text.assemble(*((printable(text), style) for text, style in parts))
    _console(err=err).print(line, soft_wrap=True)


def note(message: str) -> None:
    """A message for the person, beside the result."""
    click.echo(printable(message), err=True)


def write_text(text: str) -> None:
    """An agent's text: as it is for a pipe or file, without control sequences on a terminal."""
    click.echo(printable(text) if sys.stdout.isatty() else text)


def _console(*, err: bool = False) -> Console:
    return Console(stderr=err, highlight=False, markup=False, emoji=False)
