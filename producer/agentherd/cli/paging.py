"""What commands that list jobs page by page have in common."""

import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar

import click

from agentherd.cli.parameters import converted
from agentherd.cli.screen import note
from agentherd.cli.times import time_or_age
from agentherd.contract.listing import JobPage
from agentherd.layout.listing import MAX_PAGE

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_LIMIT = 50

tenant_option = click.option("--tenant", metavar="NAME", help="Only this tenant's jobs.")
since_option = click.option(
    "--since",
    callback=converted(time_or_age),
    metavar="TIME",
    help="Submitted at or after; ISO 8601, or an age such as 2h.",
)
until_option = click.option(
    "--until", callback=converted(time_or_age), metavar="TIME", help="Submitted before."
)


def page_options(command: F) -> F:
    """Options `limit` and `cursor`."""
    limit = click.option(
        "--limit", type=click.IntRange(1, MAX_PAGE), default=DEFAULT_LIMIT, show_default=True
    )
    return limit(click.option("--cursor", metavar="CURSOR", help="Of the page before.")(command))


def submitted_arguments(
    tenant: str | None, since: datetime | None, until: datetime | None
) -> list[str]:
    """The same choice, for another command line."""
    return [
        *(("--tenant", tenant) if tenant else ()),
        *(("--since", since.isoformat()) if since else ()),
        *(("--until", until.isoformat()) if until else ()),
    ]


@contextmanager
def checked_cursor(cursor: str | None) -> Iterator[None]:
    """A ValueError inside is about the cursor, where one was given."""
    try:
        yield
    except ValueError as error:
        if cursor is None:
            raise
        raise click.BadParameter(str(error), param_hint="--cursor") from None


def tell_more(command: str, page: JobPage, arguments: list[str], limit: int) -> None:
    """How to see the next page, or that there is nothing."""
    if page.cursor:
        asked = ("--limit", str(limit)) if limit != DEFAULT_LIMIT else ()
        again = shlex.join(["agentherd", command, *arguments, *asked, "--cursor", page.cursor])
        note(f"more jobs: {again}")
    elif not page.jobs:
        note("no such jobs")
