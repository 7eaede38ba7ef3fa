"""How much a directory takes: what counts, what is found, and what looking costs."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentherd_workers.ceilings import disk
from agentherd_workers.ceilings.disk import DiskMeter, sizes
from agentherd_workers.sizes import MiB
from support.unprivileged import give_away, ordinary_user

LITTLE = 64 * 1024
"""More than folders and file systems' own blocks."""


def used(directory: Path) -> int:
    """All of it."""
    return sum(sizes(directory))


def fill(path: Path, size_bytes: int = MiB) -> None:
    """A file that takes so much."""
    path.write_bytes(b"x" * size_bytes)


def test_a_file_with_several_names_counts_once(tmp_path: Path) -> None:
    fill(tmp_path / "file")
    for name in "abc":
        (tmp_path / name).hardlink_to(tmp_path / "file")
    assert MiB <= used(tmp_path) < MiB + LITTLE


def test_a_hole_counts_nothing(tmp_path: Path) -> None:
    with (tmp_path / "hole").open("wb") as stream:
        stream.truncate(100 * MiB)
    assert used(tmp_path) < LITTLE


def test_empty_files_and_folders_count(tmp_path: Path) -> None:
    """Each takes an inode."""
    for number in range(50):
        (tmp_path / f"file{number}").touch()
        (tmp_path / f"folder{number}").mkdir()
    assert used(tmp_path) >= 100 * 4096


def test_no_link_is_followed(tmp_path: Path) -> None:
    directory = tmp_path / "directory"
    directory.mkdir()
    fill(tmp_path / "outside")
    (directory / "file").symlink_to(tmp_path / "outside")
    (directory / "folder").symlink_to(tmp_path)
    (directory / "loop").symlink_to(directory)
    assert used(directory) < LITTLE


def test_deeper_than_a_path_can_be(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    for _ in range(60):
        os.mkdir("d" * 200, dir_fd=fd)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    with open("file", "wb", opener=lambda name, flags: os.open(name, flags, dir_fd=fd)) as stream:
        stream.write(b"x" * MiB)
    os.close(fd)
    assert used(tmp_path) >= MiB


def test_closed_folders_are_looked_into_and_stay_closed(tmp_path: Path) -> None:
    """An agent may close them, against its own user too."""
    inner = tmp_path / "closed" / "open" / "inner"
    inner.mkdir(parents=True)
    fill(inner / "file")
    give_away(tmp_path)
    for folder in (inner, tmp_path / "closed"):
        folder.chmod(0)
    with ordinary_user():
        assert used(tmp_path) >= MiB
    assert (tmp_path / "closed").stat().st_mode & 0o777 == 0
    (tmp_path / "closed").chmod(0o700)
    assert inner.stat().st_mode & 0o777 == 0


def test_what_vanishes_meanwhile_counts_nothing(tmp_path: Path) -> None:
    """Files come and go while they are counted."""
    over = threading.Event()

    def churn() -> None:
        while not over.is_set():
            folder = tmp_path / "folder"
            folder.mkdir()
            for number in range(20):
                (folder / f"{number}").touch()
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()

    churning = threading.Thread(target=churn)
    churning.start()
    try:
        totals = [used(tmp_path) for _ in range(300)]
    finally:
        over.set()
        churning.join()
    assert max(totals) <= 40 * 4096


def test_nothing_there_takes_nothing(tmp_path: Path) -> None:
    assert used(tmp_path / "gone") == 0
    assert DiskMeter(tmp_path / "gone", MiB).used_bytes() == 0


# Cost.


class Clock:
    """A clock that moves when told to."""

    now_s = 1000.0

    def monotonic(self) -> float:
        """As `time.monotonic`."""
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that the meter reads."""
    clock = Clock()
    monkeypatch.setattr(disk, "time", clock)
    monkeypatch.setattr(disk, "_free_bytes", lambda _directory: 100 * MiB)
    return clock


def test_it_looks_every_two_seconds(tmp_path: Path, clock: Clock) -> None:
    meter = DiskMeter(tmp_path, 100 * MiB)
    assert meter.used_bytes() == 0
    fill(tmp_path / "file")
    clock.now_s += 1.9
    assert meter.used_bytes() == 0
    clock.now_s += 0.2
    assert meter.used_bytes() >= MiB


def test_it_looks_at_once_when_the_disk_fills(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    meter = DiskMeter(tmp_path, 80 * MiB)
    assert meter.used_bytes() == 0
    fill(tmp_path / "file")
    monkeypatch.setattr(disk, "_free_bytes", lambda _directory: 89 * MiB)
    assert meter.used_bytes() >= MiB


def test_the_last_look_is_not_left_out(tmp_path: Path, clock: Clock) -> None:
    meter = DiskMeter(tmp_path, 100 * MiB)
    meter.used_bytes()
    fill(tmp_path / "file")
    assert meter.used_bytes(last=True) >= MiB


def test_a_long_look_is_spread_over_calls(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it has found so far counts; once done, it rests for long."""

    def slow(_directory: Path) -> Iterator[int]:
        for _ in range(10):
            clock.now_s += 0.04
            yield MiB

    monkeypatch.setattr(disk, "sizes", slow)
    meter = DiskMeter(tmp_path, 100 * MiB)
    assert [meter.used_bytes() // MiB for _ in range(5)] == [2, 4, 6, 8, 10]
    assert meter.used_bytes() == 10 * MiB  # the look is over
    begun_s = clock.now_s
    clock.now_s += 7  # 0.4 s took a look; a twentieth of the time is 8 s
    meter.used_bytes()
    assert clock.now_s == begun_s + 7
    clock.now_s += 1.5
    meter.used_bytes()
    assert clock.now_s > begun_s + 8.5
