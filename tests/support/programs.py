"""Running what a user would run, against a fleet."""

import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def run_program(
    redis_url: str, *command: str | Path, text: str | None = None, timeout_s: float = 60.0
) -> "subprocess.CompletedProcess[str]":
    """Run a program of this environment to its end, with nothing of ours but the fleet's URL."""
    program, *arguments = command
    path = Path(sys.executable).with_name(str(program))
    return subprocess.run(
        [path, *arguments],
        env={"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "AGENTHERD_REDIS_URL": redis_url},
        input=text,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
