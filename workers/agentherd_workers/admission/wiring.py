"""The admission of this host, made from its settings."""

from collections.abc import Collection, Mapping

from agentherd.contract.job import DEFAULT_MEMORY
from agentherd.layout.keys import Keys
from agentherd_workers.admission.capacity import Capacity, NoCapacity
from agentherd_workers.admission.gate import Gate, Limits
from agentherd_workers.admission.ledger import Ledger
from agentherd_workers.admission.memory import HostMemory
from agentherd_workers.breaker import Breaker
from agentherd_workers.settings import WorkerSettings


def capacity_of(settings: WorkerSettings, memory: HostMemory) -> Capacity:
    """What this host holds."""
    return Capacity(
        host_ram=memory.limit(),
        overhead_bytes=settings.overhead_bytes,
        ceilings={DEFAULT_MEMORY: settings.session_ceiling_bytes, **settings.memory_classes},
    )


def slots_of(settings: WorkerSettings, capacity: Capacity) -> int:
    """Jobs at once in this worker: as told, or as many as fit."""
    return settings.concurrency or max(1, capacity.slots)


def classes_of(
    settings: WorkerSettings, capacity: Capacity, consumed: Collection[str]
) -> dict[str, int]:
    """The ceilings of the classes that a worker serves which consumes these queues.

    Raises:
        NoCapacity: there is none.
    """
    capacity.check()
    keys = Keys(settings.prefix)
    classes = {name: size for name, size in capacity.served.items() if keys.queue(name) in consumed}
    if not classes:
        raise NoCapacity(
            f"not one agent of {', '.join(sorted(consumed))} fits, which it shall consume;"
            f" this host can serve {', '.join(map(keys.queue, capacity.served))}"
        )
    return classes


def make_gate(
    settings: WorkerSettings,
    capacity: Capacity,
    memory: HostMemory,
    *,
    slots: int,
    classes: Mapping[str, int],
) -> Gate:
    """The gate of this worker process; the host's workers share one book.

    Raises:
        OSError: the book can't be kept.
    """
    keys = Keys(settings.prefix)
    return Gate(
        Limits(
            budget_bytes=capacity.budget_bytes,
            slots=slots,
            min_free_disk_bytes=settings.job_disk_bytes,
            max_pressure_percent=settings.max_pressure_percent,
            patience_s=settings.class_patience_s,
        ),
        {keys.queue(name): size for name, size in classes.items()},
        Ledger(settings.workspace_root / "ledger"),
        memory,
        settings.workspace_root,
        breaker=Breaker(settings.breaker_probe_s),
    )
