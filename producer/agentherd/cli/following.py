"""Following a job's events until it ends or the person goes away."""

from collections.abc import Iterator

from agentherd.cli.exits import CommandFailed, ExitCode
from agentherd.client.blocking import JobHandle
from agentherd.contract.events import JobEvent
from agentherd.errors import BrokerUnavailable
from agentherd.layout.events import FIRST


def follow(handle: JobHandle, after: str = FIRST) -> Iterator[JobEvent]:
    """The job's events to its end. However it is left, it says how to go on from there.

    Raises:
        CommandFailed: Ctrl-C (the job goes on), or Redis went away.
    """
    position = after
    try:
        for event in handle.events(after):
            position = event.id
            yield event
    except KeyboardInterrupt:
        raise CommandFailed(
            ExitCode.INTERRUPTED,
            f"detached; the job goes on. Follow it again: {_again(handle, position)}",
        ) from None
    except BrokerUnavailable as error:
        raise BrokerUnavailable(f"{error}; follow again: {_again(handle, position)}") from None


def _again(handle: JobHandle, position: str) -> str:
    after = "" if position == FIRST else f" --after {position}"
    return f"agentherd events {handle.id} --follow{after}"
