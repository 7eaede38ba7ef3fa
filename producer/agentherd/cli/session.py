"""What every command gets: the settings, and a client for the fleet."""

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import click

from agentherd.cli import parameters
from agentherd.cli.parameters import converted

if TYPE_CHECKING:
    from agentherd.client.blocking import Herd, JobHandle
    from agentherd.settings import HerdSettings

T = TypeVar("T")


class CommandSession:
    """One run of the command line: `click.Context.obj` of every command, plug-ins included."""

    def __init__(self, redis_url: str | None = None) -> None:
        self.redis_url = redis_url
        """`--redis-url`; None: `AGENTHERD_REDIS_URL` or its default. May hold a password."""

    @cached_property
    def settings(self) -> "HerdSettings":
        """Environment and `--redis-url`; raises `InvalidSettings`."""
        from pydantic import SecretStr

        from agentherd.settings import HerdSettings

        overrides: dict[str, Any] = {}
        if self.redis_url is not None:
            overrides["redis_url"] = SecretStr(self.redis_url)
        settings = HerdSettings(**overrides)
        _check_authority(settings.redis_url.get_secret_value())
        return settings

    @cached_property
    def herd(self) -> "Herd":
        """The client; closed when the command ends."""
        from agentherd.client.blocking import Herd
        from agentherd.client.requests import SubmitRules

        settings = self.settings
        herd = Herd(
            settings.redis_url.get_secret_value(),
            timeout_s=settings.timeout_s,
            prefix=settings.prefix,
            rules=SubmitRules(retention_s=settings.retention_s),
        )
        return click.get_current_context().find_root().with_resource(herd)

    def job(self, job_id: str) -> "JobHandle":
        """A handle on a job."""
        return self.herd.job(job_id)


pass_session: Callable[[Callable[..., T]], Callable[..., T]] = click.make_pass_decorator(
    CommandSession
)


def _check_authority(url: str) -> None:
    """Refuse a URL whose password was cut apart, before an error message quotes a piece of it."""
    from agentherd.errors import InvalidSettings

    parts = urlsplit(url)
    try:
        whole = parts.port != 0 and not parts.fragment
    except ValueError:
        whole = False
    if not whole:
        raise InvalidSettings(
            [
                (
                    "redis_url",
                    "no valid host and port; percent-encode special characters of the password",
                )
            ]
        )


job_argument = click.argument("job_id", metavar="JOB", callback=converted(parameters.job_id))
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for a program.")
