"""`python -m agentherd_workers.devkit.model_api`: the simulated model in its own process."""

import signal
import sys
import threading

import click

from agentherd_workers.devkit.model_api.server import ModelServer


@click.command()
@click.option("--port", default=0, show_default=True, help="0: any free one.")
def main(port: int) -> None:
    """Print the URL, then serve until SIGTERM."""
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    with ModelServer(port=port) as model:
        click.echo(model.url)
        sys.stdout.flush()
        ended.wait()


main()
