"""A worker's host, for tests of what it does to Redis: no agent ever starts there."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from redis.asyncio import Redis

from agentherd.layout.keys import Keys
from agentherd_workers.breaker import Breaker
from agentherd_workers.checkpoints.store import CheckpointStore
from agentherd_workers.confinement import Means
from agentherd_workers.deadlines import Deadlines
from agentherd_workers.host import Host
from agentherd_workers.isolation import Isolation
from agentherd_workers.processes import Marks
from agentherd_workers.settings import WorkerSettings

NOWHERE = Path("/nonexistent")


@contextmanager
def made_host(redis: Redis, keys: Keys, root: Path, *, worker: str = "w1@host") -> Iterator[Host]:
    """A host without a CLI.

    Args:
        root: of workspaces; nothing is written there.
    """
    with closing(Deadlines()) as deadlines:
        yield Host(
            settings=WorkerSettings(workspace_root=root),
            keys=keys,
            redis=redis,
            launcher=NOWHERE,
            means=Means(
                isolation=Isolation.PROCESS,
                cgroups=None,
                marks=Marks(),
                cli=NOWHERE,
                readable=(),
            ),
            deadlines=deadlines,
            ceilings={},
            breaker=Breaker(),
            checkpoints=CheckpointStore(redis, keys, None, ttl_ms=60_000),
            worker=worker,
        )
