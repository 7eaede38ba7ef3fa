"""What all attempts on this host share, decided once at the worker's start."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis

from agentherd.layout.keys import Keys
from agentherd_workers.breaker import Breaker
from agentherd_workers.checkpoints.store import CheckpointStore
from agentherd_workers.confinement import Means
from agentherd_workers.deadlines import Deadlines
from agentherd_workers.settings import WorkerSettings


@dataclass(frozen=True, kw_only=True)
class Host:
    """What attempts on this host share."""

    settings: WorkerSettings
    keys: Keys
    redis: Redis
    launcher: Path
    means: Means
    deadlines: Deadlines
    """Told to the worker's guard."""
    ceilings: Mapping[str, int]
    """RAM of one session, in bytes by queue."""
    breaker: Breaker
    checkpoints: CheckpointStore
    worker: str
