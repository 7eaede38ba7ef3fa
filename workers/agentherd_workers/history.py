"""Which ceiling the peaks of ended jobs support."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agentherd.client.blocking import Herd
from agentherd.contract.results import Resources
from agentherd.layout.keys import Keys
from agentherd.layout.operations import Command, Operation
from agentherd_workers.admission.capacity import Capacity, agents_per_host
from agentherd_workers.settings import LEAST_CEILING_BYTES
from agentherd_workers.sizes import MiB, size_text

SLACK = 1.1
"""A ceiling is this much above the p99: a peak between two samples is missed."""
_STEP_BYTES = 64 * MiB


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The peaks of one memory class, and what they support."""

    memory: str
    jobs: int
    p50_bytes: int
    p95_bytes: int
    p99_bytes: int
    max_bytes: int
    ceiling_bytes: int
    """As set now."""
    supported_bytes: int
    agents: int
    """That this host would hold at that ceiling."""

    def as_json(self) -> dict[str, Any]:
        """For a program."""
        return asdict(self)

    def cells(self) -> tuple[str, ...]:
        """For a table."""
        sizes = (
            self.p50_bytes,
            self.p95_bytes,
            self.p99_bytes,
            self.max_bytes,
            self.ceiling_bytes,
            self.supported_bytes,
        )
        return (self.memory, str(self.jobs), *map(size_text, sizes), str(self.agents))


def recommend(herd: Herd, capacity: Capacity) -> list[Recommendation]:
    """One for each memory class of which a job has ended."""
    found = []
    for memory in capacity.ceilings:
        peaks = herd.connection.run(_peaks(herd.keys, memory))
        memory_bytes = sorted(peak.peak_memory_bytes for peak in peaks if peak.peak_memory_bytes)
        if memory_bytes:
            found.append(recommendation(memory, memory_bytes, capacity))
    return found


def percentile(values: Sequence[int], percent: int) -> int:
    """The least value that so many percent of the sorted values do not exceed (nearest rank)."""
    rank = -(-len(values) * percent // 100)
    return values[max(rank, 1) - 1]


def recommendation(memory: str, peaks: Sequence[int], capacity: Capacity) -> Recommendation:
    """What the sorted peaks of a class support."""
    p99_bytes = percentile(peaks, 99)
    wanted_bytes = max(int(p99_bytes * SLACK), LEAST_CEILING_BYTES)
    supported = -(-wanted_bytes // _STEP_BYTES) * _STEP_BYTES
    return Recommendation(
        memory=memory,
        jobs=len(peaks),
        p50_bytes=percentile(peaks, 50),
        p95_bytes=percentile(peaks, 95),
        p99_bytes=p99_bytes,
        max_bytes=peaks[-1],
        ceiling_bytes=capacity.ceilings[memory],
        supported_bytes=supported,
        agents=agents_per_host(capacity.host_ram.size_bytes, capacity.overhead_bytes, supported),
    )


def _peaks(keys: Keys, memory: str) -> Operation[list[Resources]]:
    rows = yield Command("LRANGE", keys.peaks(keys.queue(memory)), 0, -1)
    return [Resources.model_validate(json.loads(row)) for row in rows]
