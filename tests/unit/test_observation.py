"""What an exception of the SDK is taken for."""

import pytest
from claude_agent_sdk import CLINotFoundError, ProcessError
from redis.exceptions import TimeoutError as RedisTimeoutError

from agentherd import FailureKind
from agentherd.layout.transcripts import CorruptTranscript
from agentherd_workers.agent.outcome import Ending, Observed, verdict
from agentherd_workers.agent.run import observation_of


def wrapped(cause: Exception) -> RuntimeError:
    """As the SDK reports a store that failed while a session was loaded."""
    error = RuntimeError("SessionStore.load() failed during resume materialization")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "ending", "kind", "retryable"),
    [
        (wrapped(RedisTimeoutError("no answer")), Ending.STORE_AWAY, FailureKind.INTERNAL, True),
        (
            wrapped(CorruptTranscript("block 3 is missing")),
            Ending.STORE_CORRUPT,
            FailureKind.SESSION_CORRUPT,
            False,
        ),
        (RuntimeError("an option"), Ending.REJECTED, FailureKind.CONFIGURATION, False),
        (CLINotFoundError("gone"), Ending.NOT_FOUND, FailureKind.CONFIGURATION, False),
        (
            Exception("Control request timeout: initialize"),
            Ending.START_TIMEOUT,
            FailureKind.START_TIMEOUT,
            True,
        ),
    ],
    ids=["store away", "store corrupt", "rejected", "not found", "start timeout"],
)
def test_an_exception_and_what_it_means(
    error: Exception, ending: Ending, kind: FailureKind, retryable: bool
) -> None:
    seen = observation_of(error)
    assert seen["ending"] is ending
    failure = verdict(Observed(**seen)).failure
    assert failure is not None
    assert (failure.kind, failure.retryable) == (kind, retryable)


@pytest.mark.parametrize(
    ("ready", "kind"), [(False, FailureKind.CONFIGURATION), (True, FailureKind.CRASHED)]
)
def test_an_exit_by_1_blames_the_options_only_before_the_cli_was_ready(
    ready: bool, kind: FailureKind
) -> None:
    seen = observation_of(ProcessError("exited", exit_code=1))
    failure = verdict(Observed(ready=ready, **seen)).failure
    assert failure is not None
    assert failure.kind is kind
