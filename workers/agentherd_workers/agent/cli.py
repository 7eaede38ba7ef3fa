"""Finding the `claude` executable that this host runs."""

import os
import subprocess
from pathlib import Path

import claude_agent_sdk


class CliMissing(FileNotFoundError):
    """There is no CLI to run, or it can't be executed. Says what to change."""


def find_cli(chosen: Path | None) -> Path:
    """The CLI: the chosen one, else the one that claude-agent-sdk carries.

    Raises:
        CliMissing: it is not there, or not executable.
    """
    cli = chosen or Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
    if not cli.is_file():
        hint = "AGENTHERD_CLI_PATH" if chosen else "a platform wheel of claude-agent-sdk"
        raise CliMissing(f"no claude CLI at {cli}; check {hint}")
    if not os.access(cli, os.X_OK):
        raise CliMissing(f"the claude CLI at {cli} is not executable: chmod +x it")
    return cli


def cli_version(cli: Path) -> str:
    """What the CLI says of itself, e.g. `2.1.331`.

    Raises:
        CliMissing: it does not run here.
    """
    try:
        answer = subprocess.run(
            [cli, "--version"],
            env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "DISABLE_AUTOUPDATER": "1"},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise CliMissing(f"the claude CLI at {cli} does not run here: {error}") from error
    return answer.stdout.split()[0] if answer.stdout.split() else "unknown"
