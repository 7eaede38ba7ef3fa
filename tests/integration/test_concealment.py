"""What other processes can read of one that had secrets in its environment."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.unprivileged import NOBODY, as_ordinary_user

SECRET = "redis://:secret@host/0"
PROGRAM = """
import os, sys
from agentherd_workers.concealment import conceal_settings, forbid_inspection
os.environ["AGENTHERD_CHANGED"] = "since the start"
conceal_settings()
if "forbid" in sys.argv:
    forbid_inspection()
kept = [name for name in os.environ if name.startswith("AGENTHERD_")]
print("kept", kept, os.environ["OTHER"], flush=True)
sys.stdin.read()
"""


@contextmanager
def running(*arguments: str) -> Iterator[int]:
    """A process that has concealed its settings; its pid."""
    environment = {
        "AGENTHERD_REDIS_URL": SECRET,
        "AGENTHERD_CHANGED": SECRET,
        "OTHER": "stays",
        "AGENTHERD_EMPTY": "",
    }
    process = subprocess.Popen(
        [sys.executable, *as_ordinary_user("python", "-c", PROGRAM, *arguments)[1:]],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "kept [] stays\n"
        yield process.pid
    finally:
        process.communicate()


def test_settings_are_gone_from_the_environment() -> None:
    """Name and value, also of one that was changed since the start; the rest is as it was."""
    with running() as pid:
        shown = Path(f"/proc/{pid}/environ").read_bytes()
    assert b"secret" not in shown
    assert b"AGENTHERD" not in shown
    assert b"OTHER=stays\0" in shown


@pytest.mark.parametrize("name", ["environ", "maps", "mem", "fd"])
def test_inspection_is_forbidden(name: str) -> None:
    """To processes of the same user too; only root may."""
    with running("forbid") as pid:
        reader = subprocess.run(
            ["/bin/ls" if name == "fd" else "/bin/cat", f"/proc/{pid}/{name}"],
            user=NOBODY if os.geteuid() == 0 else None,
            capture_output=True,
            text=True,
            check=False,
        )
    assert reader.returncode != 0
    assert "Permission denied" in reader.stderr
