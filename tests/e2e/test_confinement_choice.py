"""What a worker makes of a host that can't confine agents as it was told to."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentherd.checks import CheckStatus
from agentherd_workers.devkit.worker_process import WorkerFailed
from agentherd_workers.doctor import host_checks
from support.fleet import Fleet, running_fleet
from support.isolation import require
from support.unprivileged import as_ordinary_user, give_away
from support.waiting import wait_until

WORKER = ("celery", "-A", "agentherd_workers.app", "worker")
HIDE_BUBBLEWRAP = """
import os, sys
start = 'for path in /usr/bin/bwrap /usr/local/bin/bwrap; do'
start += ' [ ! -e $path ] || mount --bind /dev/null $path; done; exec "$@"'
user = [] if os.geteuid() == 0 else ["--map-root-user"]
os.execv("/usr/bin/unshare", ["unshare", "--mount", *user, "sh", "-c", start, "sh", *sys.argv[1:]])
"""
"""In a mount namespace of its own: nothing of the host changes."""
WITHOUT_BUBBLEWRAP = (
    "python", "-c", HIDE_BUBBLEWRAP, str(Path(sys.executable).with_name("celery")), *WORKER[1:]
)  # fmt: skip


@contextmanager
def worker(directory: Path, command: tuple[str, ...], **settings: str) -> Iterator[Fleet]:
    """A fleet whose worker is still to be started."""
    own = directory / "-".join(settings.values())
    own.mkdir()
    directory.chmod(0o711)
    with running_fleet(own, command=command, settings=settings, start=False) as fleet:
        give_away(own)
        yield fleet


def refusal_of(fleet: Fleet) -> str:
    """The line of a worker that does not start."""
    with pytest.raises(WorkerFailed):
        fleet.worker.start()
    output = fleet.worker.output()
    assert "Traceback" not in output
    (line,) = [line for line in output.splitlines() if "agentherd worker:" in line]
    return line


def choice_of(fleet: Fleet) -> tuple[str, str]:
    """What a worker started with: isolation, and who holds its ceilings."""
    fleet.worker.start()
    (report,) = wait_until(fleet.herd.workers, "the worker announces itself")
    return report.isolation, report.ceiling_enforcement


def test_cgroups_that_can_not_be_had(tmp_path: Path) -> None:
    """Asked for, an error that says why; else the watchdog holds the ceilings."""
    command = as_ordinary_user(*WORKER)
    with worker(tmp_path, command, ceiling_enforcement="cgroup") as fleet:
        line = refusal_of(fleet)
        assert "no cgroup can be made for a job" in line
        assert "Permission denied" in line
    with worker(tmp_path, command, ceiling_enforcement="auto") as fleet:
        assert choice_of(fleet)[1] == "watchdog"


def test_bubblewrap_that_is_not_there(tmp_path: Path) -> None:
    """Asked for, an error that names the package; else the next best."""
    with worker(tmp_path, WITHOUT_BUBBLEWRAP, isolation="bubblewrap") as fleet:
        assert "bwrap is not installed (Debian's package: bubblewrap)" in refusal_of(fleet)
    with worker(tmp_path, WITHOUT_BUBBLEWRAP, isolation="auto") as fleet:
        assert choice_of(fleet)[0] == "process"


def test_auto_takes_bubblewrap_where_it_runs(tmp_path: Path) -> None:
    """The strongest level is the default."""
    require("bubblewrap")
    with worker(tmp_path, as_ordinary_user(*WORKER), isolation="auto") as fleet:
        assert choice_of(fleet)[0] == "bubblewrap"


@pytest.mark.parametrize(
    ("setting", "value", "check", "says"),
    [
        ("ISOLATION", "bubblewrap", "isolation", "bubblewrap: other jobs"),
        ("ISOLATION", "process", "isolation", "process; bubblewrap would run"),
        ("CEILING_ENFORCEMENT", "watchdog", "ceilings", "held by the watchdog, as set"),
        ("CEILING_ENFORCEMENT", "auto", "ceilings", "held by the "),
    ],
)
def test_doctor_says_which(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    setting: str,
    value: str,
    check: str,
    says: str,
) -> None:
    """And warns of the weaker isolation."""
    require("bubblewrap")
    monkeypatch.setenv("AGENTHERD_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("AGENTHERD_WORKSPACE_ROOT", str(tmp_path / "root"))
    monkeypatch.setenv(f"AGENTHERD_{setting}", value)
    (found,) = [one for one in host_checks() if one.name == check]
    assert found.detail.startswith(says)
    if value == "process":
        assert found.status is CheckStatus.WARNING
