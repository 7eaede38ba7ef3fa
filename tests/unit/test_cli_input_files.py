"""`--file SRC[:DEST]` and `artifacts --output DIR`: what may enter and leave by name."""

import os
from pathlib import Path

import pytest

from agentherd.cli import input_files as module
from agentherd.cli.exits import CommandFailed
from agentherd.cli.input_files import input_files
from agentherd.cli.saving import plan_targets, save


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory to send files from, and the current one."""
    (tmp_path / "src" / "deep").mkdir(parents=True)
    (tmp_path / "src" / "a.py").write_text("a")
    (tmp_path / "src" / "deep" / "b.bin").write_bytes(b"\xff\x00")
    (tmp_path / "src" / "deep" / "b.bin").chmod(0o700)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def paths_of(spec: str) -> list[str]:
    """Where the files of one option go."""
    files, problems = input_files([spec])
    assert not problems
    return [file["path"] for file in files]


def test_where_files_go(project: Path) -> None:
    assert paths_of("src/a.py") == ["src/a.py"]
    assert paths_of("./src/a.py") == ["src/a.py"]
    assert paths_of(str(project / "src" / "a.py")) == ["a.py"]
    assert paths_of("src/../src/a.py") == ["a.py"]
    assert paths_of("src/a.py:main.py") == ["main.py"]
    assert paths_of("src/a.py:lib/") == ["lib/a.py"]
    assert paths_of("src") == ["src/a.py", "src/deep/b.bin"]
    assert paths_of("src:.") == ["a.py", "deep/b.bin"]
    assert paths_of("src:lib") == ["lib/a.py", "lib/deep/b.bin"]
    (project / "odd:name").write_text("x")
    assert paths_of("odd:name") == ["odd:name"]


def test_bytes_and_the_executable_bit_are_kept(project: Path) -> None:
    (text, binary), _ = input_files([str(project / "src")])
    assert (text["text"], text["executable"]) == ("a", False)
    assert (binary["base64"], binary["executable"]) == ("/wA=", True)


def test_links_pipes_and_absent_files_are_refused(project: Path) -> None:
    (project / "src" / "link").symlink_to("/etc/passwd")
    os.mkfifo(project / "pipe")
    files, problems = input_files(["src", "pipe", "absent"])
    assert [problem.field for problem in problems] == ["--file src", "--file pipe", "--file absent"]
    assert "symbolic link" in problems[0].message
    assert "neither" in problems[1].message
    assert not any("passwd" in file["path"] for file in files)


def test_sizes_are_bounded_before_everything_is_read(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_FILES_BYTES", 2)
    _, problems = input_files(["src"])
    assert "exceed 2 bytes" in problems[0].message
    monkeypatch.setattr(module, "MAX_FILES", 0)
    _, problems = input_files(["src/a.py"])
    assert "more than 0 files" in problems[0].message


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a/../../x", "", "link/x", "a\\b", "~/x", "a\x1bb"]
)
def test_a_name_that_would_leave_the_directory_is_refused(tmp_path: Path, name: str) -> None:
    target = tmp_path / "out"
    target.mkdir()
    (target / "link").symlink_to(tmp_path)
    with pytest.raises(CommandFailed, match="would leave"):
        plan_targets(target, ["fine.txt", name], force=True)
    assert not (target / "fine.txt").exists()


def test_a_file_is_replaced_only_by_force(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(CommandFailed, match="--force"):
        plan_targets(tmp_path, ["a"], force=False)
    with pytest.raises(FileExistsError):
        save(tmp_path / "a", b"new", force=False)
    save(plan_targets(tmp_path, ["a"], force=True)["a"], b"new", force=True)
    assert (tmp_path / "a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_link_in_the_place_is_replaced_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    root = tmp_path / "out"
    root.mkdir()
    (root / "a").symlink_to(outside)
    save(plan_targets(root, ["a"], force=True)["a"], b"new", force=True)
    assert outside.read_text() == "mine"
    assert not (root / "a").is_symlink()
