"""From the options of `submit` to a job."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import pytest
from click.testing import CliRunner

from agentherd.cli.job_options import job_from, job_options
from agentherd.cli.parameters import pair
from agentherd.cli.times import duration, time, time_or_age
from agentherd.contract.job import ForkSession, Job, ResumeSession
from agentherd.errors import InvalidJob

SESSION = "11111111-2222-3333-4444-555555555555"


def job_of(*arguments: str) -> Job:
    """The job that `submit` would send."""
    jobs: list[Job] = []

    @click.command()
    @click.argument("prompt", required=False)
    @job_options
    def collect(prompt: str | None, **options: Any) -> None:
        jobs.append(job_from(prompt, options))

    CliRunner().invoke(collect, arguments, catch_exceptions=False, standalone_mode=False)
    return jobs[0]


def test_every_option_sets_its_field(tmp_path: Path) -> None:
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object"}')
    servers = tmp_path / "mcp.json"
    servers.write_text('{"mcpServers": {"docs": {"command": "serve"}}}')
    agents = tmp_path / "agents.json"
    agents.write_text('{"critic": {"description": "reviews", "prompt": "Be strict."}}')
    job = job_of(
        "Do it", "--model", "m", "--fallback-model", "n", "--effort", "low", "--allow", "Read",
        "--allow", "Bash(git *)", "--disallow", "Write", "--permission-mode", "plan",
        "--system-prompt", "Be brief", "--system-prompt-mode", "replace", "--max-turns", "3",
        "--max-budget-usd", "0.5", "--timeout-s", "10", "--idle-timeout-s", "5",
        "--output-schema", str(schema), "--mcp-config", str(servers), "--subagents", str(agents),
        "--env", "A=b=c", "--tenant", "acme", "--memory", "4g", "--priority", "0",
        "--not-before", "2030-01-01T00:00Z", "--expires-s", "60", "--idempotency-key", "k",
        "--metadata", "team=", "--max-attempts", "2", "--artifact", "out/*", "--resume", SESSION,
    )  # fmt: skip
    assert job == Job(
        prompt="Do it", model="m", fallback_model="n", effort="low",
        allowed_tools=("Read", "Bash(git *)"), disallowed_tools=("Write",), permission_mode="plan",
        system_prompt={"text": "Be brief", "mode": "replace"}, max_turns=3, max_budget_usd=0.5,
        timeout_s=10, idle_timeout_s=5, output_schema={"type": "object"},
        mcp_servers={"docs": {"command": "serve"}},
        subagents={"critic": {"description": "reviews", "prompt": "Be strict."}},
        env={"A": "b=c"}, tenant="acme", memory="4g", priority=0,
        not_before="2030-01-01T00:00Z", expires_s=60, idempotency_key="k",
        metadata={"team": ""}, retry={"max_attempts": 2}, artifacts=("out/*",),
        session=ResumeSession(id=UUID(SESSION)),
    )  # fmt: skip


def test_options_replace_the_fields_of_a_whole_job(tmp_path: Path) -> None:
    base = tmp_path / "job.json"
    base.write_text(
        json.dumps(
            {
                "version": 1,
                "prompt": "from the file",
                "system_prompt": "Be brief",
                "allowed_tools": ["Read"],
                "retry": {"max_attempts": 7, "backoff_s": 1},
                "max_turns": 9,
            }
        )
    )
    job = job_of(
        "--job", str(base), "--allow", "Write", "--max-attempts", "2",
        "--system-prompt-mode", "replace", "--fork", SESSION,
    )  # fmt: skip
    assert (job.prompt, job.max_turns, job.allowed_tools) == ("from the file", 9, ("Write",))
    assert (job.retry.max_attempts, job.retry.backoff_s) == (2, 1)
    assert job.system_prompt is not None
    assert (job.system_prompt.text, job.system_prompt.mode) == ("Be brief", "replace")
    assert isinstance(job.session, ForkSession)
    assert job_of("other", "--job", str(base)).prompt == "other"


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(InvalidJob) as caught:
        job_of("p", "--max-turns", "0", "--tenant", "NO", "--file", str(tmp_path / "absent"))
    fields = [problem.field for problem in caught.value.problems]
    assert fields == [f"--file {tmp_path / 'absent'}", "max_turns", "tenant"]


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("p", "--resume", SESSION, "--fork", SESSION),
        ("p", "--system-prompt-mode", "replace"),
        ("p", "--resume", "not-a-uuid"),
        ("p", "--env", "NAME"),
        ("p", "--metadata", "=value"),
        ("p", "--not-before", "soon"),
        ("p", "--output-schema", "absent.json"),
    ],
)
def test_wrong_usage_is_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(click.UsageError):
        job_of(*arguments)


@pytest.mark.parametrize("content", ["[]", "{", "[" * 100_000])
def test_a_file_without_a_json_object_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(content)
    with pytest.raises(click.UsageError):
        job_of("p", "--job", str(path))


def test_a_mistyped_pair_does_not_repeat_the_secret() -> None:
    with pytest.raises(click.BadParameter) as caught:
        pair("s3cret")
    assert "s3cret" not in str(caught.value)


def test_times_have_a_zone_and_ages_count_back() -> None:
    assert time("2026-01-31T08:00").tzinfo is not None
    earlier, later = time_or_age("2h"), time_or_age("30m")
    assert 5390 < (later - earlier).total_seconds() < 5410
    for text in ("999999999w", "yesterday"):
        with pytest.raises(click.BadParameter):
            time_or_age(text)


@pytest.mark.parametrize(
    ("milliseconds", "shown"), [(4200, "4.2 s"), (200_000, "3 min 20 s"), (7_500_000, "2 h 5 min")]
)
def test_durations_are_for_people(milliseconds: int, shown: str) -> None:
    assert duration(milliseconds) == shown
