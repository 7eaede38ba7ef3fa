"""A whole fleet on loopback: real Redis, simulated model, real worker, real CLI."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from agentherd import Herd
from agentherd_workers.devkit.model_api import ModelServer
from agentherd_workers.devkit.redis_server import RedisServer
from agentherd_workers.devkit.worker_process import WorkerProcess


@dataclass(frozen=True)
class Fleet:
    """The parts, for tests to use and to break."""

    redis: RedisServer
    model: ModelServer
    worker: WorkerProcess
    herd: Herd


@contextmanager
def running_fleet(
    directory: Path,
    *,
    settings: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
    start: bool = True,
) -> Iterator[Fleet]:
    """Start a fleet with one worker; end all of it."""
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer())
        model = stack.enter_context(ModelServer())
        worker = WorkerProcess(
            directory,
            redis_url=redis.url,
            model_url=model.url,
            settings=settings,
            environment=environment,
            arguments=("--without-mingle", "--without-gossip"),
        )
        stack.callback(worker.stop)
        if start:
            worker.start()
        herd = stack.enter_context(Herd(redis.url))
        yield Fleet(redis, model, worker, herd)
