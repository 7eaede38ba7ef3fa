"""What the peaks of ended jobs support."""

from hypothesis import given
from hypothesis import strategies as st

from agentherd_workers.admission.capacity import Capacity
from agentherd_workers.admission.memory import MemoryLimit
from agentherd_workers.history import SLACK, percentile, recommendation
from agentherd_workers.sizes import GiB, MiB

PEAKS = st.lists(st.integers(1, 64 * GiB), min_size=1, max_size=300).map(sorted)
CAPACITY = Capacity(
    host_ram=MemoryLimit(17 * GiB, "a test"), overhead_bytes=GiB, ceilings={"default": 2 * GiB}
)


@given(PEAKS, st.integers(1, 100))
def test_a_percentile_is_the_least_value_that_so_many_do_not_exceed(
    peaks: list[int], percent: int
) -> None:
    value = percentile(peaks, percent)
    assert value in peaks
    assert sum(peak <= value for peak in peaks) * 100 >= percent * len(peaks)
    assert sum(peak < value for peak in peaks) * 100 < percent * len(peaks)


@given(PEAKS)
def test_the_percentiles_are_in_order(peaks: list[int]) -> None:
    found = recommendation("default", peaks, CAPACITY)
    assert peaks[0] <= found.p50_bytes <= found.p95_bytes <= found.p99_bytes <= found.max_bytes
    assert found.max_bytes == peaks[-1]
    assert found.jobs == len(peaks)


@given(PEAKS)
def test_the_ceiling_is_a_tenth_above_the_p99_and_may_be_set(peaks: list[int]) -> None:
    found = recommendation("default", peaks, CAPACITY)
    assert found.supported_bytes >= max(found.p99_bytes * SLACK - 1, 128 * MiB)
    assert found.supported_bytes <= max(found.p99_bytes * SLACK + 64 * MiB, 128 * MiB)
    assert found.supported_bytes % (64 * MiB) == 0
    assert found.agents * found.supported_bytes <= 16 * GiB
    assert (found.agents + 1) * found.supported_bytes > 16 * GiB


def test_a_worked_example() -> None:
    found = recommendation("default", [300 * MiB] * 98 + [900 * MiB, 4 * GiB], CAPACITY)
    assert found.cells() == (
        "default", "100", "300 MiB", "300 MiB", "900 MiB", "4 GiB", "2 GiB", "1 GiB", "16",
    )  # fmt: skip
    assert found.as_json()["supported_bytes"] == GiB
