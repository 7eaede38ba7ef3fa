"""A throwaway directory per job, and one per worker. janitor.py removes what dead workers left.

    <root>/workers/<mark>/              a worker's: the launcher script, the SDK's temp files
    <root>/jobs/<tenant>.<session id>/  a job's: workspace/ config/ tmp/

Named by session, so that a session finds the same path when it is resumed, on any host.
Beside each stands a `.lock` file; who holds its lock owns the directory. Ownership ends with
the process, so age never matters.
"""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from agentherd.contract.files import InputFile
from agentherd_workers.file_lock import try_lock
from agentherd_workers.removal import remove_tree


class DirectoryInUse(OSError):
    """Another attempt on this host still holds the directory."""


@dataclass(frozen=True)
class OwnedDirectory:
    """A directory that is ours until `remove`, or until this process ends."""

    path: Path
    lock_fd: int

    @classmethod
    def make(cls, path: Path) -> "OwnedDirectory":
        """A fresh, empty directory, mode 0700; leftovers of a dead owner are removed.

        Raises:
            DirectoryInUse: its owner lives.
        """
        lock_fd = try_lock(lock_path(path))
        if lock_fd is None:
            raise DirectoryInUse(f"{path} belongs to another attempt that is still ending")
        remove_tree(path)
        path.mkdir(mode=0o700)
        return cls(path, lock_fd)

    def remove(self) -> None:
        """Remove it with all that is in it, then its lock."""
        remove_tree(self.path)
        lock_path(self.path).unlink(missing_ok=True)
        os.close(self.lock_fd)


@dataclass(frozen=True)
class Workspace:
    """The directories of one job."""

    owned: OwnedDirectory

    @classmethod
    def make(cls, root: Path, tenant: str, session_id: str) -> "Workspace":
        """Fresh directories under `root`; raises `DirectoryInUse`."""
        workspace = cls(OwnedDirectory.make(root / "jobs" / f"{tenant}.{session_id}"))
        for directory in (workspace.cwd, workspace.config, workspace.tmp):
            directory.mkdir(mode=0o700)
        return workspace

    @property
    def cwd(self) -> Path:
        """Where the agent works."""
        return self.owned.path / "workspace"

    @property
    def config(self) -> Path:
        """The CLI's HOME and CLAUDE_CONFIG_DIR."""
        return self.owned.path / "config"

    @property
    def tmp(self) -> Path:
        """The agent's TMPDIR."""
        return self.owned.path / "tmp"

    def put(self, files: tuple[InputFile, ...]) -> None:
        """Write the job's input files. Their paths were checked; no link is followed."""
        for file in files:
            target = self.cwd / file.path
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            mode = 0o700 if file.executable else 0o600
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
            with open(os.open(target, flags, mode), "wb") as stream:  # noqa: PTH123 - a descriptor
                stream.write(file.content)

    def remove(self) -> None:
        """Remove everything."""
        self.owned.remove()


def make_root(root: Path) -> None:
    """Make the root's folders.

    Raises:
        OSError: it can't be made, or is not a directory of this user alone.
    """
    for folder in (root, root / "jobs", root / "workers"):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = root.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise PermissionError(f"workspace root {root} must be a directory of uid {os.geteuid()}")
    if status.st_mode & 0o022:
        raise PermissionError(f"workspace root {root} must not be writable by others: chmod 700")


def make_worker_directory(root: Path, mark: int) -> OwnedDirectory:
    """This worker's own directory, named after what its agents carry; see `processes.Marks`."""
    return OwnedDirectory.make(root / "workers" / f"{mark:x}")


def lock_path(path: Path) -> Path:
    """The file whose lock says who owns the directory `path`."""
    return path.with_name(f"{path.name}.lock")
