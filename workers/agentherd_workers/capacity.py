"""How many agents this host holds."""

import psutil

from agentherd_workers.settings import WorkerSettings


def agents_per_host(host_ram_bytes: int, overhead_bytes: int, session_ceiling_bytes: int) -> int:
    """(host RAM - overhead) / per-session ceiling, rounded down; 0 where none fits."""
    return max(0, (host_ram_bytes - overhead_bytes) // session_ceiling_bytes)


def concurrency(settings: WorkerSettings) -> int:
    """Agents at once: as told, or as many as the RAM holds, one at least."""
    if settings.concurrency is not None:
        return settings.concurrency
    fitting = agents_per_host(
        psutil.virtual_memory().total, settings.overhead_bytes, settings.session_ceiling_bytes
    )
    return max(1, fitting)
