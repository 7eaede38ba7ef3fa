"""What the repository must not hold, and rules that must really be enforced."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
RUFF = Path(sys.executable).with_name("ruff")
INDEX_HOST = re.compile(
    rb"(?:py" rb"pi\.org|pythonhosted\.org|index-url|artifactory|devpi|nexus\.|/simple/?\b)"
)
"""Hosts of package indexes, and options that name one."""


def files() -> list[Path]:
    """Every file that is, or could be, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    paths = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def test_there_are_files() -> None:
    names = {path.relative_to(ROOT).as_posix() for path in files()}
    assert {"pyproject.toml", "requirements/dev.txt", "producer/agentherd/errors.py"} <= names
    assert not [name for name in names if name.startswith(".venv") or "__pycache__" in name]


def test_no_file_names_a_path_of_this_machine() -> None:
    """Where the repository stands now, wherever that is."""
    here = re.escape(str(ROOT).encode())
    pattern = re.compile(here + rb"\b|/r[o]ot/\.")
    assert [path for path in files() if pattern.search(path.read_bytes())] == []


def test_no_file_names_a_package_index() -> None:
    found = [path for path in files() if INDEX_HOST.search(path.read_bytes())]
    assert [path for path in found if path != Path(__file__)] == []


@pytest.mark.parametrize(
    ("place", "statement", "allowed"),
    [
        ("producer/agentherd/client", "import claude_agent_sdk", False),
        ("producer/agentherd/client", "from claude_agent_sdk import query", False),
        ("producer/agentherd/cli", "import agentherd_workers.settings", False),
        ("producer/agentherd/layout", "from agentherd_workers import pool", False),
        ("producer/agentherd/contract", "import pickle", False),
        ("producer/agentherd/client", "import json", True),
        ("workers/agentherd_workers", "import claude_agent_sdk", False),
        ("workers/agentherd_workers/devkit", "from claude_agent_sdk import query", False),
        ("workers/agentherd_workers/agent", "import claude_agent_sdk", True),
        ("workers/agentherd_workers/agent", "import agentherd_workers.settings", True),
        ("workers/agentherd_workers", "from pickle import loads", False),
    ],
)
def test_banned_imports_are_really_banned(place: str, statement: str, allowed: bool) -> None:
    ended = subprocess.run(
        [RUFF, "check", "--select", "TID251", "--stdin-filename", f"{place}/snippet.py", "-"],
        cwd=ROOT,
        input=f"{statement}\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ended.returncode == 0) == allowed, ended.stdout
    assert allowed or "TID251" in ended.stdout
