"""What a drill found: figures, each with what it must be, and a table of where they are from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Cell = str | int | float


@dataclass(frozen=True)
class Finding:
    """One figure."""

    name: str
    value: Cell
    must: str
    """What it must be, in words; empty where it is only told."""
    passed: bool

    @property
    def verdict(self) -> str:
        """For a person."""
        return ("ok" if self.passed else "FAILED") if self.must else ""


@dataclass
class Findings:
    """All that one run of a drill found.

    Args:
        seed: repeats the run.
    """

    seed: int
    columns: Sequence[str] = ()
    rows: list[Sequence[Cell]] = field(default_factory=list)
    """Of a table that shows more than decides."""
    figures: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What a person needs to look into a failure."""

    def tell(self, name: str, value: Cell) -> None:
        """A figure that is only told."""
        self.figures.append(Finding(name, value, "", passed=True))

    def must(self, name: str, value: Cell, must: str, *, passed: bool) -> None:
        """A figure that decides."""
        self.figures.append(Finding(name, value, must, passed))

    @property
    def passed(self) -> bool:
        """Whether every figure is what it must be."""
        return all(one.passed for one in self.figures)

    def text(self) -> str:
        """For a person."""
        figures = [(one.name, one.value, one.must, one.verdict) for one in self.figures]
        blocks = [_aligned([self.columns, *self.rows])] if self.rows else []
        blocks += [_aligned(figures), "\n".join(self.notes)]
        return "\n\n".join(filter(None, blocks))

    def as_json(self) -> dict[str, Any]:
        """For a program."""
        return {
            "seed": self.seed,
            "passed": self.passed,
            "figures": [vars(one) for one in self.figures],
            "table": [dict(zip(self.columns, row, strict=True)) for row in self.rows],
            "notes": self.notes,
        }


def _aligned(rows: Sequence[Sequence[Cell]]) -> str:
    """Columns of one width each; numbers at the right."""
    shown = [[_shown(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    lines = []
    for cells, texts in zip(rows, shown, strict=True):
        padded = [
            text.ljust(width) if isinstance(cell, str) else text.rjust(width)
            for cell, text, width in zip(cells, texts, widths, strict=True)
        ]
        lines.append("  ".join(padded).rstrip())
    return "\n".join(lines)


def _shown(cell: Cell) -> str:
    return f"{cell:.2f}" if isinstance(cell, float) else str(cell)
