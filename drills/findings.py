"""What a drill found: figures, each with what it must be."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Finding:
    """One figure."""

    name: str
    value: float | int | str
    must: str
    """What it must be, in words; empty where it is only told."""
    passed: bool


@dataclass
class Findings:
    """All figures of one run of a drill."""

    seed: int
    rows: list[Finding] = field(default_factory=list)

    def tell(self, name: str, value: float | str) -> None:
        """A figure that is only told."""
        self.rows.append(Finding(name, value, "", passed=True))

    def must(self, name: str, value: float | str, must: str, *, passed: bool) -> None:
        """A figure that decides."""
        self.rows.append(Finding(name, value, must, passed))

    @property
    def passed(self) -> bool:
        """Whether every figure is what it must be."""
        return all(row.passed for row in self.rows)

    def table(self) -> str:
        """For a person."""
        width = max(len(row.name) for row in self.rows)
        lines = []
        for row in self.rows:
            value = f"{row.value:.3g}" if isinstance(row.value, float) else str(row.value)
            outcome = ("ok" if row.passed else "FAILED") if row.must else ""
            lines.append(f"{row.name:<{width}}  {value:>12}  {row.must:<28}  {outcome}".rstrip())
        return "\n".join(lines)

    def as_json(self) -> dict[str, Any]:
        """For a program."""
        return {
            "seed": self.seed,
            "passed": self.passed,
            "findings": [vars(row) for row in self.rows],
        }
