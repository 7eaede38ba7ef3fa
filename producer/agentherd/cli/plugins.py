"""Commands that other distributions add by entry points of the group `agentherd.commands`."""

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points

import click

from agentherd.cli.exits import CommandFailed, ExitCode

GROUP = "agentherd.commands"
WORKER_COMMANDS: Mapping[str, str] = {
    "worker": "Run agents from the queue on this host.",
    "capacity": "Show how many agents this host holds, and why.",
    "demo": "Run real jobs against a simulated model.",
}
"""What `agentherd-workers` adds; named here so that a lone producer can say how to get it."""


def commands() -> dict[str, EntryPoint]:
    """The installed plug-in commands, not loaded."""
    return {entry.name: entry for entry in entry_points(group=GROUP)}


def summaries() -> dict[str, str]:
    """Name → one line of help, of installed and of installable commands. Loads nothing."""
    added = {
        name: f"From {entry.dist.name}." if entry.dist else "A plug-in."
        for name, entry in commands().items()
    }
    return {**added, **WORKER_COMMANDS}


def load(name: str) -> click.Command | None:
    """The command, or one that says what to install; None: nobody knows it."""
    entry = commands().get(name)
    if entry is None:
        return _not_installed(name) if name in WORKER_COMMANDS else None
    try:
        command = entry.load()
    except (ImportError, AttributeError) as error:
        raise CommandFailed(
            ExitCode.USAGE, f"the command {name} ({entry.value}) can't be loaded: {error}"
        ) from error
    if not isinstance(command, click.Command):
        raise CommandFailed(ExitCode.USAGE, f"{entry.value} is not a click command")
    return command


def _not_installed(name: str) -> click.Command:
    def explain() -> None:
        raise CommandFailed(
            ExitCode.USAGE, f"`agentherd {name}` needs: pip install agentherd-workers"
        )

    return click.Command(
        name,
        callback=lambda **_: explain(),
        params=[click.Argument(["rest"], nargs=-1, type=click.UNPROCESSED)],
        add_help_option=False,
        context_settings={"ignore_unknown_options": True},
    )
