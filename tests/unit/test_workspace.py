"""A job's directory: fresh, private, owned by one attempt, gone at the end whatever was done."""

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from agentherd import Job
from agentherd_workers.removal import remove_tree
from agentherd_workers.workspace import (
    DirectoryInUse,
    Workspace,
    make_root,
)
from support.unprivileged import give_away, ordinary_user

SESSION = str(uuid4())
HOLDER = """
import sys
from pathlib import Path
from agentherd_workers.workspace import Workspace
Workspace.make(Path(sys.argv[1]), "default", sys.argv[2])
print("made", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty workspace root."""
    made = tmp_path / "root"
    make_root(made)
    return made


@pytest.fixture
def other_process(root: Path) -> Iterator[subprocess.Popen[str]]:
    """Another worker that holds the directory of `SESSION`."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(root), SESSION],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "made\n"
        yield process
        process.kill()


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_workspace_is_fresh_private_and_gone_at_the_end(root: Path) -> None:
    workspace = Workspace.make(root, "default", SESSION)
    assert workspace.owned.path == root / "jobs" / f"default.{SESSION}"
    for path in (workspace.owned.path, workspace.cwd, workspace.config, workspace.tmp):
        assert mode(path) == 0o700
    assert list(workspace.cwd.iterdir()) == []
    workspace.remove()
    assert list((root / "jobs").iterdir()) == []


def test_files_are_written_with_their_modes(root: Path) -> None:
    workspace = Workspace.make(root, "default", SESSION)
    job = Job(
        prompt="x",
        files=[
            {"path": "a/b/c.txt", "text": "Grüße"},
            {"path": "a/b/run", "base64": "AAH/", "executable": True},
        ],
    )
    workspace.put(job.files)
    assert (workspace.cwd / "a/b/c.txt").read_text() == "Grüße"
    assert (workspace.cwd / "a/b/run").read_bytes() == b"\0\1\xff"
    assert mode(workspace.cwd / "a/b/c.txt") == 0o600
    assert mode(workspace.cwd / "a/b/run") == 0o700
    workspace.remove()


def test_the_longest_path_that_a_job_may_have_can_be_written(root: Path) -> None:
    path = "/".join(["é" * 127] * 4)
    workspace = Workspace.make(root, "t" * 63, SESSION)
    workspace.put(Job(prompt="x", files={path: "x"}).files)
    assert (workspace.cwd / path).read_text() == "x"
    workspace.remove()


def test_one_attempt_at_a_time_owns_a_directory(root: Path) -> None:
    first = Workspace.make(root, "default", SESSION)
    with pytest.raises(DirectoryInUse):
        Workspace.make(root, "default", SESSION)
    other = Workspace.make(root, "other", SESSION)
    first.remove()
    second = Workspace.make(root, "default", SESSION)
    second.remove()
    other.remove()


def test_a_dead_owners_leftovers_are_replaced(
    root: Path, other_process: "subprocess.Popen[str]"
) -> None:
    leftover = root / "jobs" / f"default.{SESSION}" / "workspace" / "leftover"
    leftover.write_text("x")
    with pytest.raises(DirectoryInUse):
        Workspace.make(root, "default", SESSION)
    other_process.kill()
    other_process.wait()
    workspace = Workspace.make(root, "default", SESSION)
    assert not leftover.exists()
    workspace.remove()


def test_a_lock_whose_file_was_removed_meanwhile_is_not_taken(root: Path) -> None:
    """The owner before unlinks the lock file: a lock on the removed file would be worth nothing."""
    workspace = Workspace.make(root, "default", SESSION)
    lock = workspace.owned.path.with_name(f"{workspace.owned.path.name}.lock")
    workspace.remove()
    again = Workspace.make(root, "default", SESSION)
    with lock.open() as stream, pytest.raises(BlockingIOError):
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    again.remove()


def test_a_child_does_not_inherit_the_ownership(root: Path) -> None:
    workspace = Workspace.make(root, "default", SESSION)
    assert not os.get_inheritable(workspace.owned.lock_fd)
    workspace.remove()


@pytest.mark.parametrize("others_may", [0o777, 0o720])
def test_a_root_that_others_can_write_is_refused(tmp_path: Path, others_may: int) -> None:
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(others_may)
    with pytest.raises(PermissionError, match="must not be writable by others"):
        make_root(root)


def test_a_root_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "root").symlink_to(tmp_path / "real")
    with pytest.raises(PermissionError, match="must be a directory of uid"):
        make_root(tmp_path / "root")


def test_a_tree_without_permissions_is_removed(tmp_path: Path) -> None:
    """As `chmod -R 000 .` and read-only caches leave it; also folders within folders."""
    tree = tmp_path / "tree"
    innermost = tree / "a" / "b" / "c"
    innermost.mkdir(parents=True)
    (innermost / "file").write_text("x")
    (tree / "empty").mkdir()
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o500)
    (tree / "a" / "link").symlink_to(outside)
    give_away(tmp_path)
    for path in (innermost / "file", innermost, innermost.parent, tree / "a", tree / "empty", tree):
        path.chmod(0o000)
    with ordinary_user():
        with pytest.raises(PermissionError):
            list(tree.iterdir())
        remove_tree(tree)
    assert not tree.exists()
    assert mode(outside) == 0o500


def test_a_link_in_place_of_a_directory_is_removed_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o750)
    (outside / "file").touch()
    (tmp_path / "link").symlink_to(outside)
    remove_tree(tmp_path / "link")
    assert not (tmp_path / "link").is_symlink()
    assert (outside / "file").exists()
    assert mode(outside) == 0o750


def test_removing_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    remove_tree(tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []
