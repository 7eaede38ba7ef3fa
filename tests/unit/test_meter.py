"""One job measured by the watchdog: real processes and files, and what is made of the numbers."""

import os
from pathlib import Path

import pytest

from agentherd_workers.ceilings import tree
from agentherd_workers.ceilings.cgroups import JobCgroup
from agentherd_workers.ceilings.meter import Ceiling, Exceeded, JobMeter
from agentherd_workers.sizes import MiB

ME = [os.getpid()]
WIDE = Ceiling(memory_bytes=1 << 40, processes=100, disk_bytes=1 << 40)


class Numbers:
    """What /proc says, and how often it was asked for the dear one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rss_bytes = self.pss_bytes = 0
        self.pss_looks = 0
        monkeypatch.setattr(tree, "rss_bytes", lambda _pids: self.rss_bytes)
        monkeypatch.setattr(tree, "pss_bytes", self._pss)

    def _pss(self, _pids: object) -> int:
        self.pss_looks += 1
        return self.pss_bytes


@pytest.fixture
def numbers(monkeypatch: pytest.MonkeyPatch) -> Numbers:
    """In place of /proc's memory."""
    return Numbers(monkeypatch)


def cgroup(path: Path, **files: str) -> JobCgroup:
    """A job's cgroup of version 2 with these files."""
    path.mkdir()
    for name, content in files.items():
        (path / name.replace("_", ".", 1)).write_text(content)
    return JobCgroup(path, path, 2)


def test_peaks_stay(numbers: Numbers, tmp_path: Path) -> None:
    meter = JobMeter(WIDE, tmp_path, None)
    for size in (100 * MiB, 300 * MiB, 50 * MiB):
        numbers.rss_bytes = numbers.pss_bytes = size
        assert meter.sample(ME) is None
    assert meter.memory_bytes == 50 * MiB
    assert meter.resources.peak_memory_bytes == 300 * MiB
    assert meter.resources.peak_processes == 1
    assert meter.resources.cpu_s > 0


def test_shared_pages_do_not_count_for_each(numbers: Numbers, tmp_path: Path) -> None:
    numbers.rss_bytes, numbers.pss_bytes = 900 * MiB, 200 * MiB
    ceiling = Ceiling(memory_bytes=512 * MiB, processes=100, disk_bytes=MiB)
    assert JobMeter(ceiling, tmp_path, None).sample(ME) is None


def test_pss_is_looked_at_when_it_matters(numbers: Numbers, tmp_path: Path) -> None:
    """It costs a millisecond a process: not at each sample, but near the ceiling and on growth."""
    ceiling = Ceiling(memory_bytes=1000 * MiB, processes=100, disk_bytes=MiB)
    meter = JobMeter(ceiling, tmp_path, None)
    looks = []
    for size_mib in (200, 201, 210, 240, 241, 750, 751):
        numbers.rss_bytes = numbers.pss_bytes = size_mib * MiB
        meter.sample(ME)
        looks.append(numbers.pss_looks)
    assert looks == [1, 1, 1, 2, 2, 3, 4]


@pytest.mark.parametrize(
    ("ceiling", "what"),
    [
        (Ceiling(memory_bytes=MiB, processes=100, disk_bytes=1 << 40), Exceeded.MEMORY),
        (Ceiling(memory_bytes=1 << 40, processes=0, disk_bytes=1 << 40), Exceeded.PROCESSES),
        (Ceiling(memory_bytes=1 << 40, processes=100, disk_bytes=MiB), Exceeded.DISK),
    ],
)
def test_each_ceiling(tmp_path: Path, ceiling: Ceiling, what: Exceeded) -> None:
    """By what this process really takes; the text names what it is, and the ceiling."""
    (tmp_path / "file").write_bytes(b"x" * 2 * MiB)
    excess = JobMeter(ceiling, tmp_path, None).sample(ME)
    assert excess is not None
    assert excess.what is what
    assert "ceiling" in excess.detail


def test_a_kill_by_the_kernel_counts_without_a_sample(tmp_path: Path) -> None:
    """What it killed is gone by the time we look; it had the ceiling at least."""
    killed = cgroup(tmp_path / "job", memory_events="oom_kill 1", memory_current="1000")
    ceiling = Ceiling(memory_bytes=512 * MiB, processes=100, disk_bytes=1 << 40)
    meter = JobMeter(ceiling, tmp_path, killed)
    excess = meter.sample([])
    assert excess is not None
    assert excess.what is Exceeded.MEMORY
    assert meter.resources.peak_memory_bytes == 512 * MiB


def test_refused_forks_count(tmp_path: Path) -> None:
    refused = cgroup(tmp_path / "job", pids_events="max 2")
    excess = JobMeter(WIDE, tmp_path, refused).sample(ME)
    assert excess is not None
    assert excess.what is Exceeded.PROCESSES


def test_nothing_is_left_of_no_process(tmp_path: Path) -> None:
    """A job whose processes are gone takes nothing, and keeps its peaks."""
    meter = JobMeter(WIDE, tmp_path, None)
    meter.sample(ME)
    peak = meter.resources
    assert meter.sample([]) is None
    assert meter.resources == peak


def test_pss_of_a_real_process_is_between_nothing_and_rss() -> None:
    assert 0 < tree.pss_bytes(ME) <= tree.rss_bytes(ME)
    assert tree.pss_bytes([2**22 + 1]) == tree.rss_bytes([2**22 + 1]) == 0
    assert tree.cpu_s([2**22 + 1]) == 0
