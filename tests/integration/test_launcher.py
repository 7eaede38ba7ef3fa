"""What the launcher does between the worker and the CLI, with real processes."""

import os
import resource
import subprocess
from pathlib import Path

import pytest

from agentherd_workers import syscall_filter
from agentherd_workers.ceilings.cgroups import Cgroups, CgroupsUnavailable
from agentherd_workers.processes import Marks
from agentherd_workers.supervisor import write_launcher
from support.waiting import wait_until

TAKES_OFF_MARK = """
import ctypes, resource, os
limit = resource.RLIMIT_RTTIME
for value in (1000, 0, resource.RLIM_INFINITY):
    try:
        resource.setrlimit(limit, (value, value))
    except (OSError, ValueError):
        continue
    raise SystemExit("set it")
for number in {"x86_64": (160, 302), "aarch64": (164, 261)}[os.uname().machine]:
    new = (ctypes.c_ulong * 2)(1000, 1000)
    pointer = ctypes.cast(new, ctypes.c_void_p)
    libc = ctypes.CDLL(None)
    libc.syscall(number, limit, pointer) if number in (160, 164) else libc.syscall(
        number, 0, limit, pointer, None
    )
print(resource.getrlimit(limit)[1], resource.getrlimit(resource.RLIMIT_NOFILE)[1])
resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
"""


def launched(directory: Path, *command: str, **told: str) -> "subprocess.CompletedProcess[str]":
    """Run a command through the launcher to its end."""
    environment = {
        "AGENTHERD_KEEP": "",
        "AGENTHERD_PARENT_PID": str(os.getpid()),
        "AGENTHERD_COMMAND": "\n".join(command),
        "AGENTHERD_LIMITS": "",
        **{f"AGENTHERD_{name.upper()}": value for name, value in told.items()},
    }
    return subprocess.run(
        [write_launcher(directory)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )


def test_environment_is_what_is_kept(tmp_path: Path) -> None:
    """Also a long one; what is not named goes, the launcher's own instructions too."""
    ended = launched(tmp_path, "/usr/bin/env", keep="AGENTHERD_LONG", long="x" * 100_000)
    names = {line.partition("=")[0] for line in ended.stdout.splitlines()}
    assert names - {"PWD"} == {"AGENTHERD_LONG", "AGENTHERD_SPAWNED_MS"}  # sh sets PWD
    assert "x" * 100_000 in ended.stdout


def test_nothing_starts_when_the_worker_is_gone(tmp_path: Path) -> None:
    ended = launched(tmp_path, "/bin/echo", "started", parent_pid="1")
    assert ended.stdout == ""
    assert ended.stderr.strip() == "agentherd: the worker is gone"


def test_limits_hold(tmp_path: Path) -> None:
    limits = f"{resource.RLIMIT_CORE}=0,{resource.RLIMIT_FSIZE}=4096"
    ended = launched(tmp_path, "/bin/sh", "-c", "ulimit -Hc; ulimit -Hf", limits=limits)
    assert ended.stdout.split() == ["0", "8"]  # blocks of 512


def test_the_mark_can_not_be_taken_off(tmp_path: Path) -> None:
    """Neither through libc nor by a call of the kernel, also not by root; other limits can."""
    mark = Marks().new()
    script = tmp_path / "takes_off_mark.py"
    script.write_text(TAKES_OFF_MARK)
    ended = launched(
        tmp_path,
        "/usr/bin/python3",
        str(script),
        limits=f"{resource.RLIMIT_RTTIME}={mark}",
        filter=syscall_filter.fixing_limit(resource.RLIMIT_RTTIME).hex(),
    )
    left, files, fewer = ended.stdout.split()
    assert int(left) == mark
    assert int(files) > 100
    assert fewer == "100"


def test_an_unknown_machine_has_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its numbers are not ours; nothing is refused by mistake."""
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert syscall_filter.fixing_limit(resource.RLIMIT_RTTIME) == b""


def test_a_filter_the_kernel_refuses_is_no_start(tmp_path: Path) -> None:
    ended = launched(tmp_path, "/bin/echo", "started", filter="00" * 8)
    assert ended.stdout == ""
    assert "agentherd: no seccomp filter: Invalid argument" in ended.stderr


def test_the_directory_of_a_resumed_session_is_shown(tmp_path: Path) -> None:
    """Before the file system is closed, where bubblewrap can still make the place for it."""
    ended = launched(
        tmp_path,
        "/bin/echo",
        "--proc",
        "/proc",
        "--remount-ro",
        "/",
        "--",
        "/cli",
        bind="1",
        keep="CLAUDE_CONFIG_DIR",
    )
    assert ended.returncode != 0  # without the directory
    command = ["/bin/echo", "--remount-ro", "/", "--", "/cli"]
    environment = {
        "AGENTHERD_KEEP": "",
        "AGENTHERD_PARENT_PID": str(os.getpid()),
        "AGENTHERD_COMMAND": "\n".join(command),
        "AGENTHERD_LIMITS": "",
        "AGENTHERD_BIND": "1",
        "CLAUDE_CONFIG_DIR": "/resumed",
    }
    shown = subprocess.check_output([write_launcher(tmp_path), "more"], env=environment, text=True)
    assert shown.split() == ["--bind", "/resumed", "/resumed", *command[1:], "more"]


# Under cgroups, where they can be had here.


@pytest.fixture
def cgroups() -> Cgroups | None:
    """Those of this host."""
    try:
        return Cgroups.set_up()
    except CgroupsUnavailable:
        return None


def test_it_goes_into_its_cgroup(tmp_path: Path, cgroups: Cgroups | None) -> None:
    """Where cgroups can't be had, it goes into none and starts all the same."""
    if cgroups is None:
        assert launched(tmp_path, "/bin/echo", "started", cgroups="").stdout == "started\n"
        return
    job = cgroups.create("test", memory_bytes=1 << 28, processes=50)
    try:
        names = ",".join(map(str, job.procs_files))
        ended = launched(tmp_path, "/bin/cat", "/proc/self/cgroup", cgroups=names)
        assert ended.stdout.count(job.memory.name) == len(job.procs_files)
        assert job.memory_bytes() < 1 << 28
        assert job.oom_kills() == job.forks_refused() == 0
        refused = launched(
            tmp_path,
            "/bin/sh",
            "-c",
            "for i in $(seq 60); do sleep 30 >&- 2>&- & done",
            cgroups=names,
        )
        assert refused.returncode != 0
        assert job.forks_refused() > 0
        assert len(job.members()) > 40
        for pid in job.members():
            os.kill(pid, 9)
        wait_until(lambda: not job.members(), "they are gone")
    finally:
        job.remove()
    assert not job.memory.exists()
    assert not job.pids.exists()
