"""`python -m benchmarks [NAME…]`: measure, print the table, write build/bench.json."""

import json
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, table
from benchmarks.machine import facts

NAMES = ("submit", "latency", "fleet", "session_store", "memory")
OUTPUT = Path("build/bench.json")


def main(names: list[str]) -> None:
    """Run the named benchmarks, or all."""
    if unknown := set(names) - set(NAMES):
        sys.exit(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(NAMES)}")
    report: dict[str, Any] = {"machine": facts(), "benchmarks": {}}
    figures: list[Figure] = []
    for name in names or NAMES:
        print(f"{name} … ", end="", flush=True)
        start_s = time.perf_counter()
        results: dict[str, Any] = import_module(f"benchmarks.{name}").measure()
        print(f"{time.perf_counter() - start_s:.0f} s")
        report["benchmarks"][name] = results
        figures += results["figures"]
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps(report, indent=2) + "\n")
    print(f"\n{table(figures)}\n")
    print(", ".join(f"{name} {value}" for name, value in report["machine"].items()))
    print(f"All rounds: {OUTPUT}")


if __name__ == "__main__":
    main(sys.argv[1:])
