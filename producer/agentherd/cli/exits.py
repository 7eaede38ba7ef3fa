"""Exit codes, and how an error becomes one of them and a line on stderr."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import IO, Any

import click

from agentherd.cli.untrusted import printable


class ExitCode(IntEnum):
    """What `agentherd` tells a shell."""

    OK = 0
    UNSUCCESSFUL = 1
    """The job ended without success, `doctor` found a failure, or stored data is damaged."""
    USAGE = 2
    """Wrong usage or invalid input; nothing was sent."""
    NOT_FOUND = 3
    """No such job or artifact."""
    UNAVAILABLE = 4
    """Redis is not available."""
    NOT_ENDED = 5
    """The job has not ended yet."""
    INTERRUPTED = 130
    """Ctrl-C."""


HELP = """\b
Exit codes:
  0    success
  1    the job ended without success, doctor found a failure, stored data is damaged
  2    wrong usage or invalid input
  3    no such job or artifact
  4    Redis is not available
  5    the job has not ended yet
  130  interrupted"""


class CommandFailed(click.ClickException):
    """A command ends here, with a message for a person and a code for a shell."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        """What click exits with."""
        return self.code

    def show(self, file: IO[Any] | None = None) -> None:
        """Write the message to stderr. It may quote an agent or a worker."""
        click.echo(f"agentherd: {printable(self.message)}", file=file, err=True)


@contextmanager
def readable_errors() -> Iterator[None]:
    """Translate what agentherd and Redis raise into `CommandFailed`."""
    from redis.exceptions import RedisError

    from agentherd import errors

    try:
        yield
    except (errors.InvalidJob, errors.InvalidSettings) as error:
        raise CommandFailed(ExitCode.USAGE, _problems(error)) from None
    except (errors.JobNotFound, errors.ArtifactNotFound) as error:
        raise CommandFailed(ExitCode.NOT_FOUND, str(error)) from None
    except errors.BrokerUnavailable as error:
        raise CommandFailed(ExitCode.UNAVAILABLE, _one_line(error)) from None
    except RedisError as error:
        message = f"Redis refused a command: {_one_line(error)}"
        raise CommandFailed(ExitCode.UNAVAILABLE, message) from None
    except errors.ResultTimeout as error:
        raise CommandFailed(ExitCode.NOT_ENDED, str(error)) from None
    except errors.JobFailed as error:
        raise CommandFailed(ExitCode.UNSUCCESSFUL, str(error)) from None
    except (errors.IdempotencyConflict, errors.SessionBusy, errors.NotRetryable) as error:
        raise CommandFailed(ExitCode.USAGE, str(error)) from None
    except errors.AgentherdError as error:
        raise CommandFailed(ExitCode.UNSUCCESSFUL, str(error)) from None
    except KeyboardInterrupt:
        raise CommandFailed(ExitCode.INTERRUPTED, "interrupted") from None


def _problems(error: Any) -> str:
    lines = [f"{field}: {message}" for field, message in error.problems]
    return lines[0] if len(lines) == 1 else "\n  ".join([f"{len(lines)} problems", *lines])


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
