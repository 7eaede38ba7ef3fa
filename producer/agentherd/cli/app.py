"""The command `agentherd`: its global options, and its commands, loaded when they are used."""

from importlib import import_module
from typing import Any

import click

from agentherd.cli import plugins
from agentherd.cli.exits import HELP, readable_errors
from agentherd.cli.session import CommandSession

_COMMANDS = {
    "submit": ("submit", "Put a job on the queue."),
    "status": ("status", "Show where a job is."),
    "list": ("listing", "List jobs, the newest first."),
    "result": ("result", "Wait for a job's end and print its answer."),
    "events": ("events", "Show what happened to a job."),
    "transcript": ("transcript", "Show a job's conversation."),
    "cancel": ("cancel", "End jobs, waiting or running."),
    "artifacts": ("artifacts", "List, save or print the files a job kept."),
    "failed": ("failed", "List the jobs that failed for good."),
    "retry": ("retry", "Try failed jobs again."),
    "hosts": ("hosts", "Show the live workers and their gates."),
    "doctor": ("doctor", "Check Redis and this host."),
}
"""Name → module of this package with a function `command`, and the line in the help."""


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is used, and not for the help."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Our commands in the order of a job's life, then the plug-ins'."""
        return [*_COMMANDS, *sorted(plugins.summaries().keys() - _COMMANDS.keys())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now; a plug-in can't replace one of ours."""
        if cmd_name in _COMMANDS:
            module = import_module(f"agentherd.cli.{_COMMANDS[cmd_name][0]}")
            command: click.Command = module.command
            return command
        return plugins.load(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from the tables."""
        summaries = plugins.summaries() | {name: line for name, (_, line) in _COMMANDS.items()}
        with formatter.section("Commands"):
            formatter.write_dl([(name, summaries[name]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; every error on purpose ends as one message and an exit code."""
        with readable_errors():
            return super().invoke(ctx)


@click.group(cls=LazyGroup, epilog=HELP, context_settings={"max_content_width": 100})
@click.version_option(package_name="agentherd", message="agentherd %(version)s")
@click.option(
    "--redis-url",
    metavar="URL",
    help="Redis of the fleet, instead of AGENTHERD_REDIS_URL. A password given here is visible"
    " to every user of this host; the variable is not.",
)
@click.pass_context
def app(ctx: click.Context, redis_url: str | None) -> None:
    """Run Claude agents on your own machines, from a queue."""
    ctx.obj = CommandSession(redis_url)
