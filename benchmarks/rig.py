"""The parts that benchmarks share: one model process, one fleet."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from agentherd import Herd
from agentherd_workers.devkit.redis_server import RedisServer
from agentherd_workers.devkit.worker_process import WorkerProcess
from agentherd_workers.processes import die_with_parent


@dataclass(frozen=True)
class Fleet:
    """A fleet with one worker, ready."""

    redis: RedisServer
    worker: WorkerProcess
    herd: Herd


@contextmanager
def model_process() -> Iterator[str]:
    """The simulated model's URL; in a process of its own, so that no side shares its GIL."""
    with subprocess.Popen(
        [sys.executable, "-m", "agentherd_workers.devkit.model_api"],
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"]},
        preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call
    ) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


@contextmanager
def running_fleet(model_url: str, *, concurrency: int) -> Iterator[Fleet]:
    """A Redis and a worker of their own; ended with all they made."""
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="agentherd-bench-"))
        redis = stack.enter_context(RedisServer())
        worker = WorkerProcess(
            Path(directory),
            redis_url=redis.url,
            model_url=model_url,
            settings={"concurrency": str(concurrency)},
        )
        stack.enter_context(worker)
        yield Fleet(redis, worker, stack.enter_context(Herd(redis.url)))
