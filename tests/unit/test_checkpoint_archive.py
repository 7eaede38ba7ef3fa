"""A workspace packed and unpacked: all that can come back does, and nothing else."""

import io
import os
import stat
import tarfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from agentherd_workers.checkpoints import survey
from agentherd_workers.checkpoints.archive import (
    CorruptCheckpoint,
    Packed,
    digest,
    pack,
    stays_inside,
    unpack,
)
from agentherd_workers.checkpoints.survey import Interrupted, TooLarge
from agentherd_workers.sizes import MiB
from support.unprivileged import give_away, ordinary_user

LIMIT = 64 * MiB


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """What is packed."""
    path = tmp_path / "workspace"
    path.mkdir()
    return path


@pytest.fixture
def restored(tmp_path: Path) -> Path:
    """What it is unpacked into."""
    path = tmp_path / "restored"
    path.mkdir()
    return path


def packed(
    workspace: Path, *, max_blob_bytes: int = LIMIT, max_content_bytes: int = LIMIT
) -> Packed:
    """The workspace as a blob."""
    return pack(workspace, max_blob_bytes=max_blob_bytes, max_content_bytes=max_content_bytes)


def moved(workspace: Path, restored: Path) -> Packed:
    """Pack and unpack."""
    found = packed(workspace)
    files = unpack(found.blob, restored, sha256=found.sha256, max_content_bytes=found.content_bytes)
    assert files == found.files
    return found


def contents(tree: Path) -> dict[bytes, tuple[Any, ...]]:
    """Every thing below `tree`: what it is, its mode, its time in ms, what it holds."""
    found: dict[bytes, tuple[Any, ...]] = {}
    for folder, folders, files in os.walk(os.fsencode(tree)):
        for name in (*folders, *files):
            path = os.path.join(folder, name)  # noqa: PTH118 - bytes
            status = os.lstat(path)
            held: bytes | None = None
            if stat.S_ISLNK(status.st_mode):
                held = os.readlink(path)  # noqa: PTH115
            elif stat.S_ISREG(status.st_mode):
                with open(path, "rb") as stream:  # noqa: PTH123
                    held = stream.read()
            place = os.path.relpath(path, os.fsencode(tree))
            found[place] = (status.st_mode, status.st_mtime_ns // 10**6, held)
    return found


# There and back.


def test_files_folders_and_links_come_back_as_they_were(workspace: Path, restored: Path) -> None:
    (workspace / "a" / "empty").mkdir(parents=True)
    (workspace / "a" / "run").write_text("#!/bin/sh\n")
    (workspace / "a" / "run").chmod(0o755)
    (workspace / "big").write_bytes(os.urandom(3 * MiB + 17))
    (workspace / "hole").write_bytes(b"x" + bytes(2 * MiB) + b"y")
    (workspace / "nothing").touch()
    (workspace / "link").symlink_to("a/run")
    (workspace / "a" / "up").symlink_to("../big")
    (workspace / "dangling").symlink_to("not/there/yet")
    os.utime(workspace / "a" / "run", (1e9, 1e9 + 0.25))
    os.utime(workspace / "a", (1e9, 1e9))
    found = moved(workspace, restored)
    assert contents(restored) == contents(workspace)
    assert (found.files, found.left_out) == (7, 0)


def test_a_file_with_several_names_becomes_several_files(workspace: Path, restored: Path) -> None:
    (workspace / "one").write_text("content")
    (workspace / "two").hardlink_to(workspace / "one")
    moved(workspace, restored)
    assert [(restored / name).read_text() for name in ("one", "two")] == ["content"] * 2
    assert (restored / "one").stat().st_nlink == 1


def test_an_empty_workspace_comes_back_empty(workspace: Path, restored: Path) -> None:
    assert moved(workspace, restored).files == 0
    assert not list(restored.iterdir())


_NAMES = st.binary(min_size=1, max_size=12).filter(
    lambda name: not {b"/"[0], 0} & set(name) and name not in (b".", b"..")
)
_TREES = st.recursive(
    st.binary(max_size=600),
    lambda below: st.dictionaries(_NAMES, below, max_size=4),
    max_leaves=12,
)


_EXACT_NS = 1_700_000_000_500_000_000
"""A time that a float holds exactly: tar's are floats, right to a quarter of a microsecond."""


def _make(path: bytes, tree: Any) -> None:
    if isinstance(tree, bytes):
        with open(path, "wb") as stream:  # noqa: PTH123 - a path of bytes
            stream.write(tree)
        os.utime(path, ns=(_EXACT_NS, _EXACT_NS))
        return
    os.mkdir(path)  # noqa: PTH102
    for name, below in tree.items():
        _make(path + b"/" + name, below)


@settings(max_examples=60, deadline=None)
@given(tree=st.dictionaries(_NAMES, _TREES, max_size=4))
def test_any_tree_comes_back(tree: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever the names, also such as are no Unicode."""
    workspace, restored = (tmp_path_factory.mktemp("any") / name for name in ("from", "to"))
    _make(os.fsencode(workspace), tree)
    restored.mkdir()
    moved(workspace, restored)
    assert contents(restored) == contents(workspace)


# What an agent may have made.


def test_what_is_no_file_or_leads_out_is_left_out(workspace: Path, restored: Path) -> None:
    (workspace / "file").write_text("kept")
    os.mkfifo(workspace / "pipe")
    os.mknod(workspace / "socket", 0o600 | stat.S_IFSOCK)
    for name, target in {
        "absolute": "/etc/passwd",
        "up": "../../etc/passwd",
        "hidden": "file/../../../etc/passwd",
    }.items():
        (workspace / name).symlink_to(target)
    found = moved(workspace, restored)
    assert [path.name for path in restored.iterdir()] == ["file"]
    assert (found.files, found.left_out) == (1, 5)


def test_setuid_is_not_kept(workspace: Path, restored: Path) -> None:
    (workspace / "tool").touch()
    (workspace / "tool").chmod(0o6755)
    moved(workspace, restored)
    assert stat.S_IMODE((restored / "tool").stat().st_mode) == 0o755


def test_closed_files_and_folders_are_stored_and_stay_closed(
    workspace: Path, restored: Path, tmp_path: Path
) -> None:
    """An agent may close them, against its own user too."""
    (workspace / "folder").mkdir()
    (workspace / "folder" / "file").write_text("kept")
    give_away(tmp_path)
    for path in (workspace / "folder" / "file", workspace / "folder"):
        path.chmod(0)
    with ordinary_user():
        found = packed(workspace)
    unpack(found.blob, restored, sha256=found.sha256, max_content_bytes=LIMIT)
    for tree in (workspace, restored):
        assert stat.S_IMODE((tree / "folder").stat().st_mode) == 0
        (tree / "folder").chmod(0o700)
        assert stat.S_IMODE((tree / "folder" / "file").stat().st_mode) == 0
        (tree / "folder" / "file").chmod(0o600)
        assert (tree / "folder" / "file").read_text() == "kept"


def test_what_is_too_deep_is_left_out(workspace: Path, restored: Path) -> None:
    """By the number of folders, and by the length of the path."""
    for name in ("d", "d" * 250):
        fd = os.open(workspace, os.O_RDONLY)
        for _ in range(300):
            os.mkdir(name, dir_fd=fd)
            below = os.open(name, os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        os.close(fd)
    (workspace / "file").write_text("kept")
    found = moved(workspace, restored)
    assert (restored / "file").read_text() == "kept"
    assert found.left_out == 2
    assert (restored / Path(*["d"] * 200)).is_dir()


def test_a_workspace_that_is_gone_or_a_link_is_empty(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    for name in ("gone", "link"):
        assert packed(tmp_path / name).files == 0


def test_files_that_change_meanwhile_do_not_break_it(workspace: Path, tmp_path: Path) -> None:
    """They vanish, grow, shrink and become something else while they are packed."""
    over = threading.Event()

    (workspace / "steady").write_text("kept")

    def churn() -> None:
        step = 0
        while not over.is_set():
            step += 1
            (workspace / "file").write_bytes(b"x" * (step * 977 % 70_000))
            os.truncate(workspace / "file", step * 13 % 999)
            folder = workspace / "folder"
            folder.mkdir(exist_ok=True)
            (folder / "file").write_bytes(b"y" * (step * 331 % 5_000))
            (folder / "file").unlink()
            (folder / "file").symlink_to("../file")
            (folder / "file").unlink()
            folder.rmdir()

    churning = threading.Thread(target=churn)
    churning.start()
    try:
        blobs = [packed(workspace) for _ in range(100)]
    finally:
        over.set()
        churning.join()
    for number, found in enumerate(blobs):
        restored = tmp_path / f"restored{number}"
        restored.mkdir()
        unpack(found.blob, restored, sha256=found.sha256, max_content_bytes=LIMIT)
        assert (restored / "steady").read_text() == "kept"


# Limits.


def test_packing_stops_at_the_cap(workspace: Path) -> None:
    (workspace / "noise").write_bytes(os.urandom(2 * MiB))
    with pytest.raises(TooLarge, match="1 MiB compressed"):
        packed(workspace, max_blob_bytes=MiB)
    assert packed(workspace, max_blob_bytes=3 * MiB).files == 1


def test_packing_stops_at_the_uncompressed_limit(workspace: Path) -> None:
    """A hole takes no disk, and much time."""
    os.truncate(os.open(workspace / "hole", os.O_CREAT | os.O_WRONLY), 2**40)
    with pytest.raises(TooLarge, match="8 MiB of files"):
        packed(workspace, max_content_bytes=8 * MiB)
    with pytest.raises(TooLarge, match="8 MiB of files"):
        survey.survey(workspace, max_content_bytes=8 * MiB)


def test_a_look_stops_at_too_many_entries(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "MAX_ENTRIES", 3)
    for name in "abcd":
        (workspace / name).touch()
    with pytest.raises(TooLarge, match="more than 3 files"):
        survey.survey(workspace, max_content_bytes=LIMIT)


def test_it_ends_when_told_to(workspace: Path) -> None:
    (workspace / "file").touch()
    with pytest.raises(Interrupted):
        pack(workspace, max_blob_bytes=LIMIT, max_content_bytes=LIMIT, interrupted=lambda: True)
    with pytest.raises(Interrupted):
        survey.survey(workspace, max_content_bytes=LIMIT, interrupted=lambda: True)


# Blobs that are not ours.


def blob_of(*members: tarfile.TarInfo, content: bytes = b"") -> bytes:
    """A blob with such members, each regular one of this content."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member in members:
            if member.isreg():
                member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return zstandard.compress(raw.getvalue())


def member(
    name: str,
    kind: bytes = tarfile.REGTYPE,
    target: str = "",
    pax_headers: dict[str, str] | None = None,
) -> tarfile.TarInfo:
    """A member of an archive."""
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.pax_headers = kind, target, pax_headers or {}
    return made


HOSTILE = {
    "absolute": [member("/etc/cron.d/x")],
    "upwards": [member("../x")],
    "upwards within": [member("a", tarfile.DIRTYPE), member("a/../../x")],
    "link out": [member("a", tarfile.SYMTYPE, "../outside")],
    "absolute link": [member("a", tarfile.SYMTYPE, "/etc")],
    "through a link": [member("a", tarfile.SYMTYPE, "b"), member("a/x")],
    "hard link": [member("a"), member("b", tarfile.LNKTYPE, "a")],
    "device": [member("a", tarfile.CHRTYPE)],
    "pipe": [member("a", tarfile.FIFOTYPE)],
    "twice": [member("a"), member("a")],
    "link and file": [member("a", tarfile.SYMTYPE, "b"), member("a")],
    "no folder": [member("a/b")],
    "below a file": [member("a"), member("a/b")],
    "long": [member("a" * 3001)],
    "NUL": [member("a", pax_headers={"path": "a\0b"})],
    "hole": [member("a", pax_headers={"GNU.sparse.map": "0,1", "GNU.sparse.size": "99"})],
    "less than nothing": [member("a", pax_headers={"size": "-1024"})],
    "long header": [member("/".join("a" * 50_000))],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_never_stored_is_refused(case: str, tmp_path: Path, restored: Path) -> None:
    blob = blob_of(*HOSTILE[case])
    with pytest.raises(CorruptCheckpoint):
        unpack(blob, restored, sha256=digest(blob), max_content_bytes=LIMIT)
    assert [path.name for path in tmp_path.iterdir()] == ["restored"]


def test_another_blob_than_stored_is_refused_unread(workspace: Path, restored: Path) -> None:
    (workspace / "file").touch()
    found = packed(workspace)
    with pytest.raises(CorruptCheckpoint, match="digest"):
        unpack(found.blob + b"x", restored, sha256=found.sha256, max_content_bytes=LIMIT)
    assert not list(restored.iterdir())


@pytest.mark.parametrize("cut", [0, 1, 10, 0.5, 0.99])
def test_half_a_blob_is_refused(workspace: Path, restored: Path, cut: float) -> None:
    (workspace / "file").write_bytes(os.urandom(100_000))
    blob = packed(workspace).blob
    part = blob[: int(cut if cut >= 1 else cut * len(blob))]
    with pytest.raises(CorruptCheckpoint):
        unpack(part, restored, sha256=digest(part), max_content_bytes=LIMIT)


@settings(max_examples=100, deadline=None)
@given(noise=st.binary(max_size=2000), compressed=st.booleans())
def test_noise_is_refused(
    noise: bytes, compressed: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    blob = zstandard.compress(noise) if compressed else noise
    with pytest.raises(CorruptCheckpoint):
        unpack(blob, tmp_path_factory.mktemp("to"), sha256=digest(blob), max_content_bytes=LIMIT)


def test_a_bomb_is_refused(restored: Path) -> None:
    """1 GiB of nothing in 100 KB."""
    blob = blob_of(member("bomb"), content=bytes(256 * MiB))
    with pytest.raises(CorruptCheckpoint, match="more bytes"):
        unpack(blob, restored, sha256=digest(blob), max_content_bytes=8 * MiB)
    assert sum(path.stat().st_blocks for path in restored.iterdir()) == 0


# Whether anything changed.


def fingerprint(workspace: Path) -> int:
    return survey.survey(workspace, max_content_bytes=LIMIT).fingerprint


def test_the_same_files_have_the_same_fingerprint(workspace: Path) -> None:
    (workspace / "folder").mkdir()
    (workspace / "folder" / "file").write_text("x")
    before = fingerprint(workspace)
    packed(workspace)
    assert fingerprint(workspace) == before


def test_looking_into_closed_folders_is_no_change(workspace: Path, tmp_path: Path) -> None:
    (workspace / "folder").mkdir()
    (workspace / "folder" / "file").write_text("x")
    give_away(tmp_path)
    (workspace / "folder" / "file").chmod(0)
    (workspace / "folder").chmod(0)
    with ordinary_user():
        before = fingerprint(workspace)
        assert packed(workspace).files == 1
        assert fingerprint(workspace) == before
    (workspace / "folder").chmod(0o700)


def test_every_change_changes_it(workspace: Path) -> None:
    """Also one that puts size and time back."""
    path = workspace / "file"

    def put(text: str) -> None:
        path.write_text(text)
        os.utime(path, (1, 1))

    changes: list[Callable[[], object]] = [
        partial(put, "one"),
        partial(put, "two"),
        partial(path.chmod, 0o640),
        partial(path.rename, workspace / "other"),
        partial(path.symlink_to, "other"),
        (workspace / "folder").mkdir,
        path.unlink,
    ]
    seen = {fingerprint(workspace)}
    for count, change in enumerate(changes, start=2):
        change()
        seen.add(fingerprint(workspace))
        assert len(seen) == count


@pytest.mark.parametrize(
    ("target", "depth", "inside"),
    [
        ("a", 0, True),
        ("./a//b/", 0, True),
        ("..", 1, True),
        ("../../x", 2, True),
        ("../x", 0, False),
        ("../../x", 1, False),
        ("/x", 5, False),
        ("a/..", 3, False),
        (".", 0, True),
    ],
)
def test_links_that_stay_inside(target: str, depth: int, inside: bool) -> None:
    assert stays_inside(target, depth) is inside
