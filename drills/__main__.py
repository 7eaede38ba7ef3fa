"""`python -m drills NAME …`: run drills, print their tables, exit with 1 if one failed."""

import json
import sys
from pathlib import Path
from typing import Protocol

import click

from drills import admission, chaos, supervision
from drills.findings import Findings


class Drill(Protocol):
    """What a drill's module offers."""

    def __call__(self, *, seed: int | None, rounds: int | None) -> Findings:
        """Run it."""


DRILLS: dict[str, Drill] = {
    "admission": admission.drill,
    "chaos": chaos.drill,
    "supervision": supervision.drill,
}
BUILD = Path("build")


@click.command()
@click.argument("names", nargs=-1, type=click.Choice(sorted(DRILLS)))
@click.option("--seed", type=int, help="Of a run to be repeated; random by default.")
@click.option(
    "--rounds",
    type=click.IntRange(min=1),
    help="Rounds, or jobs; the drill's own number by default.",
)
def main(names: tuple[str, ...], seed: int | None, rounds: int | None) -> None:
    """Run the named drills, or all of them."""
    failed = []
    BUILD.mkdir(exist_ok=True)
    for name in names or sorted(DRILLS):
        findings = DRILLS[name](seed=seed, rounds=rounds)
        click.echo(f"\n{name}, seed {findings.seed}")
        click.echo(findings.text())
        (BUILD / f"drill-{name}.json").write_text(json.dumps(findings.as_json(), indent=2))
        if not findings.passed:
            failed.append(name)
    if failed:
        click.echo(f"failed: {', '.join(failed)}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
