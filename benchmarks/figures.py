"""A figure: what we measured, what the alternative needs, and whether the target is met."""

from collections.abc import Sequence
from statistics import median
from typing import TypedDict


class Figure(TypedDict):
    """One line of the table. `ratio` is ours by the alternative's."""

    name: str
    unit: str
    ours: float
    alternative: float | None
    ratio: float | None
    target: str
    met: bool | None


def compared(
    name: str,
    unit: str,
    ours: Sequence[float],
    alternative: Sequence[float],
    *,
    at_most: float | None = None,
    at_least: float | None = None,
) -> Figure:
    """Medians over the rounds, and the median of the ratios of each round.

    A round measures both sides one after the other, so its ratio is free of what the rest of
    the machine did in other rounds.
    """
    ratio = median(own / other for own, other in zip(ours, alternative, strict=True))
    return Figure(
        name=name,
        unit=unit,
        ours=_rounded(median(ours)),
        alternative=_rounded(median(alternative)),
        ratio=round(ratio, 3),
        target=_target("ratio", at_most, at_least),
        met=_met(ratio, at_most, at_least),
    )


def absolute(name: str, unit: str, ours: float, *, at_most: float | None = None) -> Figure:
    """A figure that stands alone."""
    return Figure(
        name=name,
        unit=unit,
        ours=_rounded(ours),
        alternative=None,
        ratio=None,
        target=_target("", at_most, None),
        met=_met(ours, at_most, None),
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -(-int(share * 100) * len(ordered) // 100) - 1)]


def table(figures: Sequence[Figure]) -> str:
    """The figures, aligned for a terminal."""
    rows = [("figure", "unit", "ours", "alternative", "ratio", "target", "")]
    rows += [
        (
            figure["name"],
            figure["unit"],
            _shown(figure["ours"]),
            _shown(figure["alternative"]),
            _shown(figure["ratio"]),
            figure["target"],
            {True: "met", False: "MISSED", None: ""}[figure["met"]],
        )
        for figure in figures
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if 2 <= column <= 4 else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _target(what: str, at_most: float | None, at_least: float | None) -> str:
    if at_most is not None:
        return f"{what} <= {at_most:g}".strip()
    return f"{what} >= {at_least:g}".strip() if at_least is not None else ""


def _met(value: float, at_most: float | None, at_least: float | None) -> bool | None:
    if at_most is not None:
        return value <= at_most
    return None if at_least is None else value >= at_least


def _rounded(value: float) -> float:
    return round(value, 3 if abs(value) < 10 else 1)


def _shown(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
