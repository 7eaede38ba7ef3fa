"""Every example runs as it stands."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agentherd_workers.devkit import scripts
from agentherd_workers.devkit.model_api import Step
from support.fleet import Fleet
from support.programs import REPOSITORY, run_program

EXAMPLES = sorted((REPOSITORY / "examples").glob("*.py"))


def _answers_by_itself(output: str) -> bool:
    return output == "You said: List the files here.\n"


def _answers_each(output: str) -> bool:
    return all(f"What is {number} squared?" in output for number in (3, 4, 5)) and (
        "system-reminder" not in output
    )


def _writes_a_haiku(output: str) -> bool:
    return "→ Write" in output and "haiku.txt 11 bytes" in output


EXPECTED: dict[str, Callable[[str], bool]] = {
    "async_service.py": _answers_each,
    "plain_celery.py": _answers_by_itself,
    "submit_and_follow.py": _writes_a_haiku,
}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(fleet: Fleet, path: Path) -> None:
    """It ends well, says what it should, and nothing on stderr."""
    arguments: list[str] = []
    if path.name == "submit_and_follow.py":
        arguments = [scripts.script("Write.", _haiku(), scripts.text("written"))]
    ended = run_program(fleet.redis.url, "python", path, *arguments)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert EXPECTED[path.name](ended.stdout), ended.stdout


def _haiku() -> Step:
    # The CLI wants an absolute path, which the job's author can't know.
    return scripts.write_file("haiku.txt", "white sheep")
