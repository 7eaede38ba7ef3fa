"""How far a job is kept from the host and from other jobs: `process` or `bubblewrap`."""

import ctypes
import os
import shutil
import subprocess
from enum import StrEnum
from pathlib import Path
from typing import Literal

from agentherd_workers.workspace import Workspace

IsolationChoice = Literal["auto", "process", "bubblewrap"]

_PROBE_S = 10.0
_PR_SET_NO_NEW_PRIVS = 38
_SYSTEM_PATHS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
"""Programs and libraries; read-only inside."""
_ETC = (
    "alternatives", "bash.bashrc", "ca-certificates", "ca-certificates.conf", "debian_version",
    "fonts", "gai.conf", "group", "host.conf", "hosts", "inputrc", "ld.so.cache", "ld.so.conf",
    "ld.so.conf.d", "localtime", "locale.alias", "locale.conf", "magic", "mime.types",
    "nsswitch.conf", "os-release", "passwd", "pki", "profile", "protocols", "resolv.conf", "rpc",
    "services", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone",
)  # fmt: skip
"""What of /etc is shown: the rest may hold secrets, and root's files would be readable."""
_INSIDE_ID = 1000
"""The agent's user and group id inside, so that it is not root even where the worker is."""


class Isolation(StrEnum):
    """What stands between a job and the host."""

    PROCESS = "process"
    """A clean environment, a directory and ceilings of its own; the same user and files."""
    BUBBLEWRAP = "bubblewrap"
    """Namespaces: other processes and the host's files can't be seen, nor outlived."""


class IsolationUnavailable(RuntimeError):
    """The level that was asked for can't be had here. Says why."""


def choose_isolation(choice: IsolationChoice) -> Isolation:
    """The level for this host; `auto` takes the strongest that runs.

    Raises:
        IsolationUnavailable: bubblewrap was asked for and does not run here.
    """
    if choice == "process":
        return Isolation.PROCESS
    problem = bubblewrap_problem()
    if problem is None:
        return Isolation.BUBBLEWRAP
    if choice == "bubblewrap":
        raise IsolationUnavailable(f"isolation by bubblewrap can't be had here: {problem}")
    return Isolation.PROCESS


def bubblewrap_problem() -> str | None:
    """Why bubblewrap does not run here; None: it does."""
    bwrap = find_bubblewrap()
    if bwrap is None:
        return "bwrap is not installed (Debian's package: bubblewrap)"
    try:
        probe = subprocess.run(
            [*_namespaces(bwrap), "--", "/bin/true"],
            env={},
            capture_output=True,
            text=True,
            timeout=_PROBE_S,
            check=False,
            preexec_fn=_forbid_new_privileges,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if probe.returncode == 0:
        return None
    return " ".join(probe.stderr.split()) or f"bwrap ended with {probe.returncode}"


def find_bubblewrap() -> str | None:
    """The path of `bwrap`."""
    return shutil.which("bwrap", path="/usr/local/bin:/usr/bin:/bin")


def command_for(
    isolation: Isolation, workspace: Workspace, cli: Path, readable: tuple[Path, ...]
) -> list[str]:
    """What the launcher becomes; the CLI's arguments follow.

    Args:
        readable: further files and directories of the host that agents may read.
    """
    if isolation is Isolation.PROCESS:
        return [str(cli)]
    bwrap = find_bubblewrap()
    if bwrap is None:
        raise IsolationUnavailable("bwrap went away since the worker started")
    command = _namespaces(bwrap)
    # What is written elsewhere would be RAM that neither the disk's ceiling nor PSS sees.
    for path in ("/tmp", "/dev/shm"):  # noqa: S108
        command += ["--bind", str(workspace.tmp), path]
    for shown in (*readable, cli):
        command += ["--ro-bind", str(shown), str(shown)]
    directory = str(workspace.owned.path)
    command += ["--bind", directory, directory]
    return [*command, "--remount-ro", "/dev", "--remount-ro", "/", "--", str(cli)]


def _namespaces(bwrap: str) -> list[str]:
    """The namespaces and the system, without anything of a job."""
    command = [
        bwrap,
        "--die-with-parent", "--new-session",
        "--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts",
        "--unshare-cgroup-try",
        "--uid", str(_INSIDE_ID), "--gid", str(_INSIDE_ID),
        "--hostname", "agent",
    ]  # fmt: skip
    for path in _SYSTEM_PATHS:
        if os.path.islink(path):  # noqa: PTH114 - strings throughout
            command += ["--symlink", os.readlink(path), path]  # noqa: PTH115
        else:
            command += ["--ro-bind-try", path, path]
    for name in _ETC:
        command += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    return [*command, "--proc", "/proc", "--dev", "/dev", "--dir", "/run"]


def _forbid_new_privileges() -> None:
    """As in the launcher, where a setuid bwrap gains nothing (prctl(2))."""
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
