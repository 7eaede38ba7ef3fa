"""`agentherd` as a person runs it, against a worker that works."""

import json
from pathlib import Path
from typing import Any

import pytest

from agentherd import JobState
from agentherd_workers.devkit import scripts
from agentherd_workers.devkit.model_api import Step
from support.fleet import Fleet
from support.programs import run_program

SCHEMA = '{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}'


def submit(fleet: Fleet, *steps: Step, options: tuple[str | Path, ...] = ()) -> Any:
    """`agentherd submit --follow`, its prompt on stdin."""
    prompt = scripts.script("Do it.", *steps)
    return run_program(
        fleet.redis.url, "agentherd", "submit", "-", "--follow", *options, text=prompt
    )


def test_follow_for_a_person(fleet: Fleet) -> None:
    """The answer alone is on stdout; progress and summary are on stderr."""
    ended = submit(
        fleet, scripts.bash("echo hi"), scripts.text("done"), options=("--allow", "Bash")
    )
    assert (ended.returncode, ended.stdout) == (0, "done\n")
    assert 'tool_started: Bash {"command": "echo hi"}' in ended.stderr
    assert "tool_finished: ok: hi" in ended.stderr
    assert "succeeded in" in ended.stderr


def test_follow_for_a_program(fleet: Fleet) -> None:
    """A JSON object a line: submitted, each event, the result."""
    ended = submit(fleet, scripts.text("done"), options=("--json",))
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    assert ended.returncode == 0
    assert [line["type"] for line in lines][:1] == ["submitted"]
    assert {line["type"] for line in lines[1:-1]} == {"event"}
    assert lines[-1]["type"] == "result"
    assert (lines[-1]["state"], lines[-1]["text"]) == ("succeeded", "done")
    assert lines[-1]["job_id"] == lines[0]["job_id"]


def test_structured_output_is_printed_as_json(fleet: Fleet, tmp_path: Path) -> None:
    """Ready for `jq`."""
    schema = tmp_path / "schema.json"
    schema.write_text(SCHEMA)
    ended = submit(fleet, scripts.structured({"n": 7}), options=("--output-schema", schema))
    assert (ended.returncode, json.loads(ended.stdout)) == (0, {"n": 7})


@pytest.mark.parametrize(
    ("step", "options", "line"),
    [
        (scripts.bash("touch x"), ("--max-turns", "1", "--allow", "Bash"), "failed, max_turns"),
        (scripts.error(400), (), "failed, bad_request"),
        (scripts.hang(), ("--timeout-s", "2"), "timed_out, wall_timeout"),
        (scripts.text("x"), ("--env", "NOT_ALLOWED=1"), "failed, invalid_job"),
    ],
    ids=["max_turns", "bad_request", "wall_timeout", "invalid_job"],
)
def test_exit_code_of_a_job_that_fails(
    fleet: Fleet, step: Step, options: tuple[str, ...], line: str
) -> None:
    """1, with the reason as the last line."""
    ended = submit(fleet, step, options=options)
    assert ended.returncode == 1
    assert line in ended.stderr.splitlines()[-1] or line in ended.stderr
    assert "Traceback" not in ended.stderr


def test_invalid_job_is_not_submitted(fleet: Fleet) -> None:
    """2, and every problem at once."""
    ended = submit(fleet, scripts.text("x"), options=("--max-turns", "0", "--priority", "10"))
    assert ended.returncode == 2
    assert "max_turns" in ended.stderr
    assert "priority" in ended.stderr


def test_files_in_and_out(fleet: Fleet, tmp_path: Path) -> None:
    """A file goes in, the agent works on it, and what it made is saved."""
    (tmp_path / "numbers.txt").write_text("3\n1\n2\n")
    ended = submit(
        fleet,
        scripts.bash("mkdir out; sort numbers.txt > out/sorted.txt"),
        scripts.text("sorted"),
        options=(
            "--file", f"{tmp_path}/numbers.txt", "--artifact", "out/*", "--allow", "Bash",
            "--job-id", "sorting",
        ),
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    saved = run_program(
        fleet.redis.url, "agentherd", "artifacts", "sorting", "--output", tmp_path / "saved"
    )
    assert saved.returncode == 0, saved.stderr
    assert (tmp_path / "saved" / "out" / "sorted.txt").read_text() == "1\n2\n3\n"


def test_transcript_tells_the_conversation(fleet: Fleet) -> None:
    """For a person, and as the raw entries."""
    ended = submit(
        fleet,
        scripts.bash("echo in the transcript"),
        scripts.text("and the answer"),
        options=("--allow", "Bash", "--job-id", "told"),
    )
    assert ended.returncode == 0, ended.stderr
    told = run_program(fleet.redis.url, "agentherd", "transcript", "told")
    assert "echo in the transcript" in told.stdout
    assert "and the answer" in told.stdout
    raw = run_program(fleet.redis.url, "agentherd", "transcript", "told", "--jsonl")
    kinds = [json.loads(line).get("type") for line in raw.stdout.splitlines()]
    assert "assistant" in kinds


def test_result_waits_and_says_how_it_went(fleet: Fleet) -> None:
    """Submit without `--follow` prints the id, for the other commands."""
    prompt = scripts.script("Do it.", scripts.text("done"))
    submitted = run_program(fleet.redis.url, "agentherd", "submit", "-", text=prompt)
    job_id = submitted.stdout.strip()
    assert fleet.herd.job(job_id).result(30).state is JobState.SUCCEEDED
    result = run_program(fleet.redis.url, "agentherd", "result", job_id)
    assert (result.returncode, result.stdout) == (0, "done\n")
