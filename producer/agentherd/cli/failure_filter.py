"""Which of the failed jobs: the options that `failed` and `retry` have in common."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from typing import Any

import click

from agentherd.cli.paging import (
    since_option,
    submitted_arguments,
    tenant_option,
    until_option,
)
from agentherd.contract.failures import FailureKind
from agentherd.contract.listing import JobPage
from agentherd.layout import retries
from agentherd.layout.keys import Keys
from agentherd.layout.operations import Operation

_OPTIONS = (
    click.option(
        "--kind",
        "kinds",
        multiple=True,
        type=click.Choice([str(kind) for kind in FailureKind]),
        metavar="KIND",
        help="Only jobs that failed for this reason. Repeatable.",
    ),
    tenant_option,
    since_option,
    until_option,
)


@dataclass(frozen=True, kw_only=True)
class FailureFilter:
    """What a person chose."""

    kinds: tuple[str, ...]
    tenant: str | None
    since: datetime | None
    until: datetime | None

    def __bool__(self) -> bool:
        return bool(self.kinds or self.tenant or self.since or self.until)

    @property
    def arguments(self) -> list[str]:
        """The same choice, for another command line."""
        return [
            *(part for kind in self.kinds for part in ("--kind", kind)),
            *submitted_arguments(self.tenant, self.since, self.until),
        ]

    def page(
        self, keys: Keys, *, limit: int, cursor: str | None, retried: bool = False
    ) -> Operation[JobPage]:
        """One page of the chosen jobs; see `retries.failed_jobs`."""
        return retries.failed_jobs(
            keys,
            kinds=[FailureKind(kind) for kind in self.kinds],
            tenant=self.tenant,
            since=self.since,
            until=self.until,
            limit=limit,
            cursor=cursor,
            retried=retried,
        )


def failure_filter(command: Callable[..., None]) -> Callable[..., None]:
    """The options, given to `command` as its argument `chosen`."""

    @wraps(command)
    def with_filter(
        *args: Any, kinds: Any, tenant: Any, since: Any, until: Any, **rest: Any
    ) -> None:
        chosen = FailureFilter(kinds=kinds, tenant=tenant, since=since, until=until)
        command(*args, chosen=chosen, **rest)

    decorated: Callable[..., None] = with_filter
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated
