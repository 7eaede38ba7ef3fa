"""`agentherd worker`: start a worker on this host."""

from typing import Any

import click


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
    create_app(settings).worker_main(arguments)
