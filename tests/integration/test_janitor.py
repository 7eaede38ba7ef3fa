"""The janitor: what dead workers left goes, processes included; what is the living's stays."""

import os
import subprocess
from pathlib import Path

import pytest

from agentherd_workers.janitor import sweep_leftovers
from agentherd_workers.processes import Marks, is_alive
from agentherd_workers.workspace import (
    OwnedDirectory,
    Workspace,
    lock_path,
    make_root,
    make_worker_directory,
)
from support.marking import carry
from support.unprivileged import give_away, ordinary_user
from support.waiting import wait_until


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty workspace root."""
    made = tmp_path / "root"
    make_root(made)
    return made


def agent(mark: int) -> "subprocess.Popen[bytes]":
    """A process of an attempt."""
    return subprocess.Popen(["/bin/sleep", "60"], preexec_fn=carry(mark))  # noqa: PLW1509 - one call


def let_die(directory: OwnedDirectory) -> None:
    """Its lock ends as it does with a process."""
    os.close(directory.lock_fd)


def test_directories_of_the_dead_go_and_those_of_the_living_stay(root: Path) -> None:
    mine = make_worker_directory(root, Marks().worker)
    job = Workspace.make(root, "default", "living").owned
    dead = Workspace.make(root, "default", "dead").owned
    let_die(dead)
    orphan = root / "jobs" / "default.orphan"
    orphan.mkdir()
    lock_path(root / "jobs" / "default.only-a-lock").touch()

    removed = sweep_leftovers(root)

    assert removed == [dead.path, root / "jobs" / "default.only-a-lock", orphan]
    assert sorted((root / "jobs").iterdir()) == [job.path, lock_path(job.path)]
    assert sorted((root / "workers").iterdir()) == [mine.path, lock_path(mine.path)]
    assert sweep_leftovers(root) == []
    job.remove()
    mine.remove()


def test_agents_of_a_dead_worker_are_killed(root: Path) -> None:
    """As when a worker and its guard are killed together."""
    dead, alive = Marks(), Marks()
    let_die(make_worker_directory(root, dead.worker))
    mine = make_worker_directory(root, alive.worker)
    with agent(dead.new()) as left, agent(alive.new()) as running, agent(Marks().new()) as strange:
        assert sweep_leftovers(root) == [root / "workers" / f"{dead.worker:x}"]
        assert not is_alive(left.pid)
        assert running.poll() is None
        assert strange.poll() is None, "of a worker with another root"
        running.kill()
        strange.kill()
    mine.remove()


def test_what_a_dead_workers_agent_writes_meanwhile_goes_too(root: Path) -> None:
    """It is killed before its directory is removed."""
    marks = Marks()
    let_die(make_worker_directory(root, marks.worker))
    job = Workspace.make(root, "default", "dead").owned
    let_die(job)
    busy = "i=0; while mkdir -p d$((i % 50)) && : > d$((i % 50))/$i; do i=$((i + 1)); done"
    with subprocess.Popen(
        ["/bin/sh", "-c", busy],
        cwd=job.path,
        preexec_fn=carry(marks.new()),  # noqa: PLW1509 - one call
    ) as process:
        wait_until(lambda: list(job.path.iterdir()), "it writes")
        sweep_leftovers(root)
        assert not is_alive(process.pid)
    assert not list((root / "jobs").iterdir())


def test_what_can_not_be_removed_is_left_and_hinders_nothing(root: Path, tmp_path: Path) -> None:
    """It goes the next time."""
    stubborn, other = root / "jobs" / "stubborn", root / "workers" / "other"
    for path in (stubborn, other):
        path.mkdir()
        lock_path(path).touch()
    give_away(tmp_path)
    (root / "jobs").chmod(0o500)
    with ordinary_user():
        assert sweep_leftovers(root) == [other]
        (root / "jobs").chmod(0o700)
        assert sweep_leftovers(root) == [stubborn]
