"""Which files are kept: the patterns against a naive reading of them, and hostile workspaces."""

import hashlib
import os
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agentherd_workers.artifacts import MAX_ARTIFACTS, Found, _matcher, collect
from support.unprivileged import give_away, ordinary_user

ALL = 1 << 20


def names(found: Found) -> list[str]:
    return [artifact.name for artifact, _content in found.files]


def tree(root: Path, *paths: str) -> None:
    """Files that hold their own path."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)


@pytest.mark.parametrize(
    ("pattern", "matched", "not_matched"),
    [
        ("a.txt", ["a.txt"], ["b/a.txt", "a.txtx", "xa.txt"]),
        ("*.txt", ["a.txt", ".txt"], ["b/a.txt", "a.txt/b"]),
        ("out/*", ["out/a"], ["out", "out/a/b", "a"]),
        ("out/**", ["out/a", "out/a/b"], ["out", "outer/a"]),
        ("**", ["a", "a/b/c"], []),
        ("**/*.py", ["a.py", "b/c/a.py"], ["a.pyc", "a.py/b"]),
        ("a/**/z", ["a/z", "a/b/z", "a/b/c/z"], ["az", "a/z/y"]),
        ("?.md", ["a.md", "ä.md"], ["ab.md", "/.md"]),
        ("a?b", ["axb"], ["a/b", "ab"]),
        ("[id].tsx", ["[id].tsx"], ["i.tsx"]),
        ("[!a]", ["[!a]"], ["b"]),
        ("a**b", ["ab", "axyb"], ["a/b"]),
        ("a.b", ["a.b"], ["axb"]),
        ("*", ["a\nb"], []),
    ],
)
def test_patterns(pattern: str, matched: Sequence[str], not_matched: Sequence[str]) -> None:
    matches = _matcher(pattern)
    assert [name for name in matched if not matches(name)] == []
    assert [name for name in not_matched if matches(name)] == []


def naively(pattern: list[str], name: list[str]) -> bool:
    """Whether the parts match, by trying everything."""
    if not pattern:
        return not name
    if pattern[0] == "**":
        rest = pattern[1:]
        least = 0 if rest else 1
        return any(naively(rest, name[skip:]) for skip in range(least, len(name) + 1)) or (
            not rest and bool(name)
        )
    return bool(name) and _part(pattern[0], name[0]) and naively(pattern[1:], name[1:])


def _part(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(_part(pattern[1:], text[skip:]) for skip in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and _part(pattern[1:], text[1:])


pattern_parts = st.just("**") | st.text("ab*?[", min_size=1, max_size=4)
name_parts = st.text("ab[", min_size=1, max_size=4)


@given(
    st.lists(pattern_parts, min_size=1, max_size=4), st.lists(name_parts, min_size=1, max_size=4)
)
@example(["**", "**"], ["a"])
@example(["**", "a", "**"], ["a", "a"])
def test_a_pattern_matches_what_a_naive_reading_matches(
    pattern: list[str], name: list[str]
) -> None:
    assert _matcher("/".join(pattern))("/".join(name)) == naively(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("*a" * 200 + "b", "a" * 255),
        ("**/" * 300 + "x", "/".join("a" * 100)),
        ("/".join(["**", "*a*a*a*a*b"] * 20), "/".join(["a" * 50] * 60)),
    ],
)
def test_no_pattern_takes_long(pattern: str, name: str) -> None:
    """A stranger's pattern must not stop the worker, which renews leases meanwhile."""
    matches = _matcher(pattern)
    started_s = time.perf_counter()
    assert not matches(name)
    assert time.perf_counter() - started_s < 1.0


def test_what_matches_is_kept_in_order_with_its_digest(tmp_path: Path) -> None:
    tree(tmp_path, "b.txt", "a.txt", "c/d.txt", "c/e.md", ".hidden.txt")
    found = collect(tmp_path, ["**/*.txt"], ALL)
    assert names(found) == [".hidden.txt", "a.txt", "b.txt", "c/d.txt"]
    for artifact, content in found.files:
        assert content == artifact.name.encode()
        assert artifact.size_bytes == len(content)
        assert artifact.sha256 == hashlib.sha256(content).hexdigest()
    assert (found.too_large, found.refused) == ((), ())


def test_nothing_matches_in_an_empty_workspace(tmp_path: Path) -> None:
    assert collect(tmp_path, ["**"], ALL) == Found((), (), ())


def test_a_workspace_that_the_agent_removed_has_no_artifacts(tmp_path: Path) -> None:
    assert collect(tmp_path / "gone", ["**"], ALL) == Found((), (), ())


def test_a_link_in_place_of_the_workspace_is_not_followed(tmp_path: Path) -> None:
    tree(tmp_path / "outside", "secret")
    (tmp_path / "workspace").symlink_to(tmp_path / "outside")
    assert collect(tmp_path / "workspace", ["**"], ALL) == Found((), (), ())


def test_a_file_that_matches_twice_is_kept_once(tmp_path: Path) -> None:
    tree(tmp_path, "a.txt")
    assert names(collect(tmp_path, ["a.txt", "*", "**"], ALL)) == ["a.txt"]


def test_links_pipes_and_sockets_are_refused_and_never_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    tree(outside, "secret", "folder/secret")
    workspace = tmp_path / "workspace"
    tree(workspace, "good")
    (workspace / "link").symlink_to(outside / "secret")
    (workspace / "folder").symlink_to(outside / "folder")
    (workspace / "loop").symlink_to(workspace)
    (workspace / "dangling").symlink_to("nowhere")
    os.mkfifo(workspace / "pipe")
    found = collect(workspace, ["**"], ALL)
    assert names(found) == ["good"]
    assert found.refused == ("dangling", "folder", "link", "loop", "pipe")


def test_names_that_are_not_unicode_are_refused(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"bad-\xff")).write_text("x")
    tree(tmp_path, "good")
    found = collect(tmp_path, ["*"], ALL)
    assert names(found) == ["good"]
    assert found.refused == ("bad-\udcff",)


def test_what_exceeds_the_cap_is_named_and_the_rest_is_kept(tmp_path: Path) -> None:
    for name, size_bytes in {"a": 60, "b": 50, "c": 40, "d": 1}.items():
        (tmp_path / name).write_bytes(b"x" * size_bytes)
    found = collect(tmp_path, ["*"], 100)
    assert names(found) == ["a", "c"]
    assert found.too_large == (("b", 50), ("d", 1))


@given(st.lists(st.integers(0, 40), max_size=8), st.integers(0, 100))
def test_the_cap_holds_for_all_together(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], cap_bytes: int
) -> None:
    workspace = tmp_path_factory.mktemp("workspace")
    for number, size_bytes in enumerate(sizes):
        (workspace / f"{number}").write_bytes(b"x" * size_bytes)
    found = collect(workspace, ["*"], cap_bytes)
    assert sum(artifact.size_bytes for artifact, _ in found.files) <= cap_bytes
    assert len(found.files) + len(found.too_large) == len(sizes)


def test_a_huge_sparse_file_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(1 << 40)
    found = collect(tmp_path, ["*"], 100)
    assert found.too_large == (("huge", 1 << 40),)


def test_files_that_the_agent_made_unreadable_are_kept(tmp_path: Path) -> None:
    tree(tmp_path, "locked", "closed/file", "open")
    give_away(tmp_path)
    (tmp_path / "locked").chmod(0o000)
    (tmp_path / "closed").chmod(0o000)
    with ordinary_user():
        with pytest.raises(PermissionError):
            (tmp_path / "locked").read_text()
        found = collect(tmp_path, ["**"], ALL)
    assert names(found) == ["closed/file", "locked", "open"]


def test_files_that_can_be_listed_and_not_entered_are_refused(tmp_path: Path) -> None:
    tree(tmp_path, "listed/file", "listed/folder/file", "open")
    give_away(tmp_path)
    (tmp_path / "listed").chmod(0o400)
    with ordinary_user():
        assert list((tmp_path / "listed").iterdir())
        found = collect(tmp_path, ["**"], ALL)
    (tmp_path / "listed").chmod(0o700)
    assert names(found) == ["open"]
    assert found.refused == ("listed/file",)


def test_the_first_by_name_are_kept_where_there_are_too_many(tmp_path: Path) -> None:
    for number in range(MAX_ARTIFACTS + 5):
        (tmp_path / f"{number:05}").touch()
    for number in range(MAX_ARTIFACTS + 5):
        (tmp_path / f"link{number}").symlink_to("nowhere")
    found = collect(tmp_path, ["*"], ALL)
    assert names(found) == [f"{number:05}" for number in range(MAX_ARTIFACTS)]
    assert found.left_out == 5
    excess = found.excess(ALL)
    assert excess is not None
    assert f"the limit is {MAX_ARTIFACTS} artifacts, and 5 more were not kept" in excess


def test_what_fits_has_no_excess(tmp_path: Path) -> None:
    tree(tmp_path, "a")
    assert collect(tmp_path, ["*"], ALL).excess(ALL) is None


def test_a_message_names_a_few_of_many(tmp_path: Path) -> None:
    for number in range(50):
        (tmp_path / f"{number}").write_text("x")
    excess = collect(tmp_path, ["*"], 0).excess(0)
    assert excess is not None
    assert "0 (1 bytes), 1 (1 bytes)" in excess
    assert "and 30 others" in excess


def test_memory_does_not_grow_with_files_that_do_not_match(tmp_path: Path) -> None:
    for number in range(20_000):
        (tmp_path / f"{number}.tmp").touch()
    tracemalloc.start()
    try:
        assert collect(tmp_path, ["*.txt"], ALL) == Found((), (), ())
        _now, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Keeping an entry for each file takes 7 MiB and more; other threads allocate meanwhile.
    assert peak_bytes < 2 * 1024 * 1024
