"""agents per host = (host RAM - overhead) / per-session ceiling, and the sizes it is told."""

import json

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from agentherd import InvalidSettings
from agentherd_workers.admission.capacity import Capacity, NoCapacity, agents_per_host
from agentherd_workers.admission.memory import MemoryLimit
from agentherd_workers.settings import WorkerSettings
from agentherd_workers.sizes import GiB, MiB, size_text

TiB = 1024 * GiB
RAM = st.integers(0, 16 * TiB)
OVERHEAD = st.integers(0, TiB)
CEILING = st.integers(1, 512 * GiB)
CEILINGS = st.dictionaries(
    st.sampled_from(["default", "2g", "4g", "8g", "64g"]), CEILING, min_size=1
)


def capacity(ram: int, overhead: int, **ceilings: int) -> Capacity:
    """Of a host with so much RAM."""
    return Capacity(host_ram=MemoryLimit(ram, "a test"), overhead_bytes=overhead, ceilings=ceilings)


@given(RAM, OVERHEAD, CEILING)
def test_never_exceeds_and_one_more_never_fits(ram: int, overhead: int, ceiling: int) -> None:
    agents = agents_per_host(ram, overhead, ceiling)
    assert agents >= 0
    assert agents * ceiling <= max(0, ram - overhead)
    assert (agents + 1) * ceiling > ram - overhead


@given(RAM, RAM, OVERHEAD, CEILING)
def test_more_ram_never_holds_fewer(ram: int, more: int, overhead: int, ceiling: int) -> None:
    less = agents_per_host(ram, overhead, ceiling)
    assert agents_per_host(ram + more, overhead, ceiling) >= less
    assert agents_per_host(ram, overhead + more, ceiling) <= less


@given(RAM, OVERHEAD, CEILINGS)
def test_the_classes_that_fit_are_served(ram: int, overhead: int, ceilings: dict[str, int]) -> None:
    found = capacity(ram, overhead, **ceilings)
    for memory, ceiling in ceilings.items():
        assert (memory in found.served) == (ceiling <= found.budget_bytes)
        assert found.agents(memory) * ceiling <= found.budget_bytes
    assert found.slots == max(found.agents(memory) for memory in ceilings)


@given(RAM, OVERHEAD, CEILINGS)
def test_no_capacity_exactly_where_nothing_fits(
    ram: int, overhead: int, ceilings: dict[str, int]
) -> None:
    found = capacity(ram, overhead, **ceilings)
    if min(ceilings.values()) <= found.budget_bytes:
        found.check()
    else:
        with pytest.raises(NoCapacity, match="lower AGENTHERD_OVERHEAD_BYTES"):
            found.check()


def test_no_capacity_shows_the_arithmetic_and_what_to_change() -> None:
    with pytest.raises(NoCapacity) as error:
        capacity(1536 * MiB, GiB, default=GiB, **{"2g": 2 * GiB}).check()
    assert str(error.value) == (
        "not one agent fits: (1536 MiB of RAM by a test - 1 GiB overhead) / 1 GiB a session is 0;"
        " lower AGENTHERD_OVERHEAD_BYTES or AGENTHERD_SESSION_CEILING_BYTES, or give it more RAM"
    )


def test_no_capacity_names_the_classes_where_one_of_them_is_least() -> None:
    with pytest.raises(NoCapacity, match="AGENTHERD_MEMORY_CLASSES"):
        capacity(GiB, GiB, default=8 * GiB, **{"2g": 2 * GiB}).check()


def test_the_worked_example_of_the_documentation() -> None:
    found = capacity(
        16 * GiB, GiB, default=1536 * MiB, **{"4g": 4 * GiB, "8g": 8 * GiB, "16g": 16 * GiB}
    )
    assert {memory: found.agents(memory) for memory in found.ceilings} == {
        "default": 10, "4g": 3, "8g": 1, "16g": 0,
    }  # fmt: skip
    assert list(found.served) == ["default", "4g", "8g"]


@pytest.mark.parametrize(
    ("written", "size_bytes"),
    [
        ("1.5GiB", 1536 * MiB),
        ("1536 MiB", 1536 * MiB),
        (" 2 gib ", 2 * GiB),
        ("2GB", 2_000_000_000),
        ("2g", 2_000_000_000),
        ("268435456", 256 * MiB),
        (268435456, 256 * MiB),
        ("268435456B", 256 * MiB),
    ],
)
def test_sizes_of_settings(written: str | int, size_bytes: int) -> None:
    settings = WorkerSettings(session_ceiling_bytes=written)
    assert settings.session_ceiling_bytes == size_bytes


@pytest.mark.parametrize(
    "written",
    [
        "1,5GiB",
        "1.5.5GiB",
        "2 bananas",
        "12Mbit",
        "1e9",
        "-1",
        "",
        "GiB",
        "0x10",
        "1 GiB 2",
        "٣GiB",
    ],
)
@pytest.mark.parametrize("name", ["overhead_bytes", "session_ceiling_bytes", "job_disk_bytes"])
def test_odd_sizes_are_refused_and_told_how_to_write_them(
    name: str, written: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"AGENTHERD_{name.upper()}", written)
    with pytest.raises(InvalidSettings) as error:
        WorkerSettings()
    [problem] = error.value.problems
    assert problem.field == f"AGENTHERD_{name.upper()}"
    assert problem.message == f"{written!r} is no size; write such as `1536MiB`, `1.5 GiB`, `2GB`"


def test_a_ceiling_too_small_for_any_agent_is_refused() -> None:
    with pytest.raises(InvalidSettings) as error:
        WorkerSettings(session_ceiling_bytes="1 MiB")
    assert error.value.problems[0].message == "1 MiB is too little; at least 128 MiB"


def test_memory_classes_come_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTHERD_MEMORY_CLASSES", json.dumps({"3g": "3.5GiB"}))
    assert WorkerSettings().memory_classes == {"3g": 3584 * MiB}


@pytest.mark.parametrize("classes", [{"big": "2GiB"}, {"2g": "2,5GiB"}, {"2g": "1MiB"}])
def test_odd_memory_classes_are_refused(classes: dict[str, str]) -> None:
    with pytest.raises(InvalidSettings, match="AGENTHERD_MEMORY_CLASSES"):
        WorkerSettings(memory_classes=classes)


@given(st.integers(1, 64 * GiB))
def test_a_size_as_text_is_the_size_to_the_mib(size_bytes: int) -> None:
    assume(size_bytes >= MiB)
    read = int(WorkerSettings(overhead_bytes=size_text(size_bytes)).overhead_bytes)
    assert abs(read - size_bytes) <= MiB // 2
