"""`agentherd worker`: start a worker on this host."""

import sys
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from agentherd_workers.celery_app import HerdApp


@click.command(
    context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]},
    epilog="Settings are read from AGENTHERD_* variables. Further arguments go to Celery's worker.",
)
@click.option("--concurrency", type=click.IntRange(1, 1000), help="Agents at once.")
@click.option("--loglevel", default="INFO", show_default=True)
@click.option("--hostname", help="Celery's node name, e.g. w1@%h.")
@click.argument("celery_arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def worker(
    context: click.Context,
    concurrency: int | None,
    loglevel: str,
    hostname: str | None,
    celery_arguments: tuple[str, ...],
) -> None:
    """Run agents on this host, until SIGTERM."""
    from agentherd.errors import InvalidSettings
    from agentherd_workers.celery_app import create_app
    from agentherd_workers.settings import WorkerSettings

    given: dict[str, Any] = {"concurrency": concurrency}
    try:
        settings = WorkerSettings(**{name: value for name, value in given.items() if value})
    except InvalidSettings as error:
        raise click.UsageError(str(error)) from None
    arguments = ["worker", "--loglevel", loglevel, *celery_arguments]
    if hostname:
        arguments += ["--hostname", hostname]
    sys.exit(_run(create_app(settings), arguments))


def _run(app: "HerdApp", arguments: list[str]) -> int | str | None:
    """What Celery's `worker_main` does, but for the exit status, which that keeps to itself."""
    from celery.bin.celery import celery

    celery.params[0].default = app
    status: int | str | None = celery.main(args=arguments, standalone_mode=False)
    return status
