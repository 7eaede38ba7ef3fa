"""How many agents this host holds: (host RAM - overhead) / per-session ceiling. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass

from agentherd.contract.job import DEFAULT_MEMORY
from agentherd_workers.admission.memory import MemoryLimit
from agentherd_workers.sizes import size_text


class NoCapacity(RuntimeError):
    """Not one agent fits this host. Says which number to change."""


def agents_per_host(host_ram_bytes: int, overhead_bytes: int, ceiling_bytes: int) -> int:
    """(host RAM - overhead) / ceiling, rounded down; 0 where none fits."""
    return max(0, (host_ram_bytes - overhead_bytes) // ceiling_bytes)


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """The arithmetic for one host."""

    host_ram: MemoryLimit
    overhead_bytes: int
    ceilings: Mapping[str, int]
    """RAM one agent may take, in bytes by memory class."""

    @property
    def budget_bytes(self) -> int:
        """What all ceilings together may come to."""
        return max(0, self.host_ram.size_bytes - self.overhead_bytes)

    def agents(self, memory: str) -> int:
        """How many agents of one memory class fit when no other runs."""
        return agents_per_host(self.host_ram.size_bytes, self.overhead_bytes, self.ceilings[memory])

    @property
    def served(self) -> dict[str, int]:
        """The ceilings of the classes that fit at least once."""
        return {memory: size for memory, size in self.ceilings.items() if self.agents(memory) > 0}

    @property
    def slots(self) -> int:
        """Agents at once if all are of the class with the least ceiling."""
        return max((self.agents(memory) for memory in self.ceilings), default=0)

    def check(self) -> None:
        """Raise `NoCapacity` where not even the least ceiling fits."""
        if self.slots > 0:
            return
        least = min(self.ceilings, key=lambda memory: self.ceilings[memory])
        name = "SESSION_CEILING_BYTES" if least == DEFAULT_MEMORY else "MEMORY_CLASSES"
        raise NoCapacity(
            f"not one agent fits: ({size_text(self.host_ram.size_bytes)} of RAM by"
            f" {self.host_ram.source} - {size_text(self.overhead_bytes)} overhead)"
            f" / {size_text(self.ceilings[least])} a session is 0;"
            f" lower AGENTHERD_OVERHEAD_BYTES or AGENTHERD_{name}, or give it more RAM"
        )
