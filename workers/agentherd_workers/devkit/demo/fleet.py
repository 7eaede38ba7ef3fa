"""The demo's own fleet on loopback: a Redis, a model, one worker. Nothing of it outlives it."""

import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from agentherd_workers.devkit.model_api import ModelServer
from agentherd_workers.devkit.redis_server import RedisServer
from agentherd_workers.devkit.worker_process import WorkerFailed, WorkerProcess

AGENTS_AT_ONCE = 4
REAL_MODEL = "haiku"
"""Alias of the model that the real API is asked for: the cheapest that does all five jobs."""


@dataclass(frozen=True)
class Fleet:
    """What is running."""

    redis: RedisServer
    model: ModelServer | None
    """None: the real API."""
    worker: WorkerProcess


@contextmanager
def running_fleet(api_key_file: Path | None) -> Iterator[Fleet]:
    """Start everything; end everything, whatever happens.

    Args:
        api_key_file: of the real API, read by the worker alone; None: a simulated model.
    """
    with ExitStack() as stack:
        directory = stack.enter_context(_new_directory())
        # With a password: who else is on this host must not get agents run as this user.
        redis = stack.enter_context(RedisServer(password=secrets.token_urlsafe(16)))
        model = None if api_key_file else stack.enter_context(ModelServer())
        worker = WorkerProcess(
            Path(directory),
            redis_url=redis.url,
            model_url=model.url if model else None,
            api_key_file=api_key_file,
            settings=_settings(real=model is None),
            # There is no other worker to talk to; without trying, it starts a second earlier.
            arguments=("--without-mingle", "--without-gossip"),
        )
        yield stack.enter_context(_running(Fleet(redis, model, worker)))


def _new_directory() -> "tempfile.TemporaryDirectory[str]":
    # Of a killed worker, a tool may still be writing there when it goes.
    return tempfile.TemporaryDirectory(prefix="agentherd-demo-", ignore_cleanup_errors=True)


def _settings(*, real: bool) -> dict[str, str]:
    # The agents run the code base's tests with the Python that runs this.
    path = f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin"
    model = {"model": REAL_MODEL} if real else {}
    return {"concurrency": str(AGENTS_AT_ONCE), "path": path, **model}


@contextmanager
def _running(fleet: Fleet) -> Iterator[Fleet]:
    worker = fleet.worker
    try:
        worker.start()
        yield fleet
    except BaseException:
        # Cold shutdown: agents are ended now and not when they have finished.
        if worker.returncode is None:
            with suppress(WorkerFailed):
                os.kill(worker.pid, signal.SIGQUIT)
        raise
    finally:
        worker.stop()
