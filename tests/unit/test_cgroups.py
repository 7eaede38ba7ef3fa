"""Cgroups of jobs, on trees such as the kernel shows; the real kernel is another test's."""

import os
from pathlib import Path

import pytest

from agentherd_workers.ceilings.cgroups import Cgroups, CgroupsUnavailable, JobCgroup

V2_MOUNT = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
OWN = "sys/fs/cgroup/service"
FILES = {
    "proc/self/cgroup": "0::/service\n",
    "proc/self/mountinfo": f"{V2_MOUNT}\n",
    f"{OWN}/cgroup.controllers": "cpu memory pids\n",
    f"{OWN}/cgroup.subtree_control": "memory pids\n",
    f"{OWN}/cgroup.procs": "",
}
GiB = 1024**3


def tree(root: Path, **changes: str) -> Path:
    """A host with version 2; `changes` by the last part of a file's name."""
    for name, content in FILES.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(changes.get(path.name.rpartition(".")[2], content))
    return root / OWN


def job_in(own: Path) -> JobCgroup:
    """A job's cgroup with the files that a kernel would have made."""
    path = own / "job"
    path.mkdir()
    for name, content in {
        "memory.current": "1000",
        "memory.stat": "anon 600\ninactive_file 300\nactive_file 100",
        "memory.events": "low 0\nmax 7\noom 2\noom_kill 1",
        "pids.events": "max 3",
        "cgroup.procs": "11\n12\n",
    }.items():
        (path / name).write_text(content)
    return JobCgroup(path, path, 2)


def test_limits_are_written(tmp_path: Path) -> None:
    own = tree(tmp_path)
    cgroups = Cgroups(own, own, 2)
    name = own / f"agentherd-{os.getpid()}-1"
    job = cgroups.create("1", memory_bytes=GiB, processes=100)
    assert job.memory == job.pids == name
    assert job.procs_files == (name / "cgroup.procs",)
    assert (name / "memory.max").read_text() == str(GiB)
    assert (name / "pids.max").read_text() == "100"
    assert not (name / "memory.swap.max").exists()  # written where the kernel has it


def test_what_happened_is_read(tmp_path: Path) -> None:
    job = job_in(tree(tmp_path))
    assert job.memory_bytes() == 700
    assert job.oom_kills() == 1
    assert job.forks_refused() == 3
    assert job.members() == [11, 12]


def test_what_an_agent_made_below_belongs_to_it(tmp_path: Path) -> None:
    job = job_in(tree(tmp_path))
    (job.memory / "below").mkdir()
    (job.memory / "below" / "cgroup.procs").write_text("13\n")
    assert sorted(job.members()) == [11, 12, 13]


def test_a_cgroup_that_is_gone_has_nothing(tmp_path: Path) -> None:
    job = JobCgroup(tmp_path / "gone", tmp_path / "gone", 2)
    assert job.memory_bytes() == job.oom_kills() == job.forks_refused() == 0
    assert job.members() == []
    job.remove()


def test_leftovers_of_dead_workers_go(tmp_path: Path) -> None:
    own = tree(tmp_path)
    dead, living = own / "agentherd-999999999-a", own / f"agentherd-{os.getppid()}-a"
    (dead / "below").mkdir(parents=True)
    for path in (living, own / "agentherd-workers", own / "another-999999999-a"):
        path.mkdir()
    assert Cgroups.set_up(tmp_path).version == 2
    assert not dead.exists()
    assert living.exists()
    assert (own / "agentherd-workers").exists()
    assert (own / "another-999999999-a").exists()


def test_missing_controller_is_named(tmp_path: Path) -> None:
    tree(tmp_path, controllers="cpu memory")
    with pytest.raises(CgroupsUnavailable, match="no controller pids"):
        Cgroups.set_up(tmp_path)


def test_no_cgroups_at_all(tmp_path: Path) -> None:
    with pytest.raises(CgroupsUnavailable, match="no cgroup hierarchy"):
        Cgroups.set_up(tmp_path)
