"""A fleet of a drill's own: a Redis, a simulated model, workers that come and go."""

import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from agentherd import Herd
from agentherd_workers.devkit.model_api import ModelServer
from agentherd_workers.devkit.redis_server import RedisServer
from agentherd_workers.devkit.worker_process import WorkerProcess

T = TypeVar("T")
_POLL_S = 0.01
_LOG_CHARS = 2000
_START_S = 60.0
"""On a host that is busy with other things too."""


class DrillBroken(RuntimeError):
    """The drill could not do what it was about to do. Says what, and what was seen."""


@dataclass(frozen=True)
class Fleet:
    """What all workers of one host share."""

    redis: RedisServer
    model: ModelServer
    herd: Herd
    directory: Path
    settings: Mapping[str, str]
    chance: random.Random
    """What this fleet leaves to chance."""
    started: list[WorkerProcess] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """Of the workspaces."""
        return self.directory / "workspaces"

    @property
    def temp(self) -> Path:
        """The workers' TMPDIR."""
        return self.directory / "tmp"

    def start_worker(self, *, redis_url: str | None = None, **settings: str) -> WorkerProcess:
        """One more worker; it may reach Redis by another way than directly."""
        worker = WorkerProcess(
            self.directory,
            redis_url=redis_url or self.redis.url,
            model_url=self.model.url,
            settings={**self.settings, **settings},
            environment={"TMPDIR": str(self.temp)},
            arguments=(
                *("--without-mingle", "--without-gossip"),
                *("--hostname", f"w{len(self.started)}@%h"),
            ),
        )
        self.started.append(worker)
        return worker.start(_START_S)


@contextmanager
def fleet(
    chance: random.Random, settings: Mapping[str, str], *, appendonly: bool = False
) -> Iterator[Fleet]:
    """Without workers yet; those that were started are stopped.

    Args:
        appendonly: Redis keeps its data over a restart.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="agentherd-")))
        redis = stack.enter_context(RedisServer(appendonly=appendonly))
        model = stack.enter_context(ModelServer())
        herd = stack.enter_context(Herd(redis.url))
        made = Fleet(redis, model, herd, directory, settings, chance)
        made.temp.mkdir()
        try:
            yield made
        except BaseException as error:
            for worker in made.started:
                worker.kill()  # its job may have no end
            if made.started:
                log = made.started[-1].output()
                error.add_note(f"The last worker's log ends with:\n{log[-_LOG_CHARS:]}")
            raise
        for worker in made.started:
            worker.stop()


def await_(condition: Callable[[], T], what: str, timeout_s: float) -> T:
    """Poll `condition` until it is true; return its value.

    Raises:
        DrillBroken: it was still false after `timeout_s`.
    """
    deadline_s = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() > deadline_s:
            raise DrillBroken(f"not within {timeout_s:g} s: {what}")
        time.sleep(_POLL_S)
    return value
