"""What the real CLI ends in, and what that means for the job: one row of the table a test.

All jobs go out at once and run beside each other. Each may be tried twice without a pause,
so that `attempts` says whether its failure is one that another attempt may cure.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest

from agentherd import (
    EventKind,
    FailureKind,
    Job,
    JobHandle,
    JobState,
    ResumeSession,
    RetryPolicy,
    StdioServer,
)
from agentherd_workers.devkit import scripts
from agentherd_workers.devkit.model_api import Step
from support.fleet import Fleet, events_so_far

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
TWICE = RetryPolicy(max_attempts=2, backoff_s=0)
FOR_EVER = 99
HANGING_TOOL = scripts.bash("read -t 60 < <(sleep 60)")


@dataclass(frozen=True)
class Case:
    """How the CLI is brought to an end, and what must come of it."""

    steps: tuple[Step, ...]
    kind: FailureKind | None
    message: str = ""
    """Part of the failure's message, for a person to act on."""
    state: JobState = JobState.FAILED
    attempts: int = 1
    turns: int = 1
    cost: bool | None = False
    """The run was paid for, in part or whole. None: the network's race decides."""
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def job(self) -> Job:
        """The scripted job."""
        chosen: dict[str, Any] = {"allowed_tools": ["Bash"], "retry": TWICE, **self.options}
        return Job(prompt=scripts.script("Do it.", *self.steps), **chosen)


def api_error(
    status: int, kind: FailureKind, part: str, *, attempts: int = 1, **error: Any
) -> Case:
    """The API answers `status` for ever; `part` of the failure's message is asserted."""
    step = scripts.error(status, times=FOR_EVER, **error)
    return Case((step,), kind, part, attempts=attempts, turns=attempts)


CASES = {
    # Our own deadlines. First, so that they wait while the others run.
    "wall timeout while a tool runs": Case(
        (HANGING_TOOL,), FailureKind.WALL_TIMEOUT, "timeout_s",
        state=JobState.TIMED_OUT, turns=3, cost=True, options={"timeout_s": 15},
    ),
    "wall timeout while the model hangs": Case(
        (scripts.hang(),), FailureKind.WALL_TIMEOUT, "timeout_s",
        state=JobState.TIMED_OUT, turns=2, options={"timeout_s": 15},
    ),
    "idle timeout while the model hangs, again and again": Case(
        (scripts.hang("during"),), FailureKind.IDLE_TIMEOUT, "idle_timeout_s", attempts=2,
        state=JobState.TIMED_OUT, turns=4, cost=True, options={"idle_timeout_s": 12},
    ),
    "the model hangs once": Case(
        (scripts.bash("echo 1"), scripts.hang(), scripts.text("done")), None, attempts=2,
        state=JobState.SUCCEEDED, turns=4, cost=True, options={"idle_timeout_s": 12},
    ),
    "a tool is silent for longer than the idle timeout": Case(
        (scripts.bash("read -t 14 < <(sleep 60)"), scripts.text("done")), None,
        state=JobState.SUCCEEDED, turns=2, cost=True, options={"idle_timeout_s": 12},
    ),
    # The agent ends by itself.
    "success": Case(
        (scripts.bash("echo hi"), scripts.text("done")), None,
        state=JobState.SUCCEEDED, turns=2, cost=True,
    ),
    "structured output": Case(
        (scripts.structured({"n": 1}),), None,
        state=JobState.SUCCEEDED, turns=2, cost=True, options={"output_schema": SCHEMA},
    ),
    "structured output missing": Case(
        (scripts.text("no"), scripts.text("still no")), FailureKind.INVALID_OUTPUT,
        "without structured output", turns=2, cost=True, options={"output_schema": SCHEMA},
    ),
    "structured output never fits": Case(
        tuple(scripts.structured({"n": f"word {number}"}) for number in range(8)),
        FailureKind.INVALID_OUTPUT, "n: must be integer",
        turns=6, cost=True, options={"output_schema": SCHEMA},
    ),
    # The CLI asks once more by itself.
    "refusal": Case(
        (scripts.refusal(), scripts.refusal(), scripts.refusal()), FailureKind.REFUSED,
        "safeguards", turns=2, cost=True,
    ),
    "refusal, then an answer": Case(
        (scripts.refusal(), scripts.text("done")), None,
        state=JobState.SUCCEEDED, turns=2, cost=True,
    ),
    "max_turns": Case(
        tuple(scripts.bash(f"echo {number}") for number in range(4)), FailureKind.MAX_TURNS,
        "turns (2)", turns=3, cost=True, options={"max_turns": 2},
    ),
    "budget": Case(
        (scripts.tools(scripts.call("Bash", command="echo"), output_tokens=100_000),),
        FailureKind.BUDGET_EXCEEDED, "budget ($0.5)", cost=True, options={"max_budget_usd": 0.5},
    ),
    "answers are cut off again and again": Case(
        (scripts.text("and", stop_reason="max_tokens"),) * 8, FailureKind.BAD_REQUEST,
        "output token maximum", turns=4, cost=True,
    ),
    # The API: what another attempt may cure.
    "429": api_error(429, FailureKind.RATE_LIMITED, "429", attempts=2),
    "500": api_error(500, FailureKind.MODEL_UNAVAILABLE, "500", attempts=2),
    "529": api_error(529, FailureKind.MODEL_UNAVAILABLE, "529", attempts=2),
    "cut before the answer": Case(
        (scripts.drop("before", times=FOR_EVER),), FailureKind.MODEL_UNAVAILABLE, "ECONNRESET",
        attempts=2, turns=2,
    ),
    "cut during the answer": Case(
        (scripts.drop("during", times=FOR_EVER),), FailureKind.MODEL_UNAVAILABLE, "ECONNRESET",
        attempts=2, turns=2, cost=None,
    ),
    "500 once": Case(
        (scripts.bash("echo 1"), scripts.error(500), scripts.text("done")), None,
        state=JobState.SUCCEEDED, attempts=2, turns=3, cost=True,
    ),
    # The API: what fails for good. What it refuses to all jobs is in test_hold_ups.py.
    "404, unknown model": api_error(404, FailureKind.BAD_REQUEST, "model"),
    "400": api_error(400, FailureKind.BAD_REQUEST, "400", message="messages: wrong"),
    "413": api_error(413, FailureKind.BAD_REQUEST, "too large"),
    "prompt too long": api_error(
        400, FailureKind.BAD_REQUEST, "Prompt is too long",
        message="prompt is too long: 210000 tokens > 200000 maximum",
    ),
    # The CLI refuses what it is told, and ends with exit code 1 and no result.
    "CLI rejects an option": Case(
        (scripts.text("never"),), FailureKind.CONFIGURATION, "root",
        turns=0, options={"permission_mode": "bypassPermissions"},
    ),
    "MCP server does not start": Case(
        (scripts.text("without it"),), None, state=JobState.SUCCEEDED, cost=True,
        options={"mcp_servers": {"gone": StdioServer(command="/nonexistent")}},
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def fleet_options() -> dict[str, Any]:
    """The CLI's own retries are off: they take minutes, and come before ours."""
    return {
        "settings": {"concurrency": "6", "pass_env": '["CLAUDE_CODE_MAX_RETRIES"]'},
        "environment": {"CLAUDE_CODE_MAX_RETRIES": "0"},
    }


@pytest.fixture(scope="module")
def handles(fleet: Fleet) -> dict[str, JobHandle]:
    """Every case's job, submitted."""
    return {name: fleet.herd.submit(case.job) for name, case in CASES.items()}


@pytest.mark.parametrize("name", CASES)
def test_outcome(name: str, handles: dict[str, JobHandle]) -> None:
    """State, reason, attempts, turns and cost are as the table says."""
    case = CASES[name]
    result = handles[name].result(90)
    failure = result.failure
    assert (result.state, failure and failure.kind) == (case.state, case.kind), failure
    assert case.message in (failure.message if failure else "")
    assert (result.attempts, result.turns) == (case.attempts, case.turns)
    if case.cost is not None:
        assert (result.usage.cost_usd > 0) is case.cost
    assert not result.session_degraded


@pytest.mark.parametrize("name", CASES)
def test_last_event_says_the_same(name: str, handles: dict[str, JobHandle]) -> None:
    """A follower learns from the last event what the result says, and sees every attempt."""
    result = handles[name].result(90)
    events = list(handles[name].events())
    assert events[-1].kind is EventKind.ENDED
    assert events[-1].data["state"] == result.state
    assert events[-1].data["failure_kind"] == (result.failure.kind if result.failure else None)
    kinds = [event.kind for event in events]
    assert kinds.count(EventKind.STARTED) == result.attempts
    assert kinds.count(EventKind.REQUEUED) == result.attempts - 1


def test_structured_output_is_returned(handles: dict[str, JobHandle]) -> None:
    """What fits the schema is in the result."""
    assert handles["structured output"].result(90).structured_output == {"n": 1}


def test_budget_is_overshot_by_one_response_at_most(handles: dict[str, JobHandle]) -> None:
    """The CLI looks at the budget after a response; the result says what was really spent."""
    spent = handles["budget"].result(90).usage
    assert spent.cost_usd > 0.5
    assert spent.output_tokens == 100_000


def test_usage_adds_up_over_attempts(handles: dict[str, JobHandle]) -> None:
    """Two responses of 10 and 5 tokens, one in each attempt."""
    usage = handles["500 once"].result(90).usage
    assert (usage.input_tokens, usage.output_tokens) == (20, 10)
    assert sum(model.output_tokens for model in usage.by_model.values()) == 10


def test_retry_goes_on_with_the_conversation(fleet: Fleet, handles: dict[str, JobHandle]) -> None:
    """The second attempt shows the model the first one's tool call, and repeats nothing."""
    result = handles["500 once"].result(90)
    assert len(events_so_far(handles["500 once"], EventKind.TOOL_STARTED)) == 1
    last = [one for one in fleet.model.requests if result.session_id in str(one.body["metadata"])]
    assert "echo 1" in str(last[-1].body["messages"])
    assert "was interrupted" in last[-1].prompt


@pytest.mark.parametrize(
    ("name", "higher"),
    [("max_turns", {"max_turns": 20}), ("budget", {"max_budget_usd": 20})],
)
def test_session_of_a_limited_job_goes_on_with_a_higher_limit(
    fleet: Fleet, handles: dict[str, JobHandle], name: str, higher: dict[str, Any]
) -> None:
    """Reaching a limit loses nothing: a job that resumes the session may go on."""
    session_id = handles[name].result(90).session_id
    chosen = Case((scripts.text("finished"),), None, options=higher).job
    job = chosen.model_copy(update={"session": ResumeSession(id=session_id)})
    result = fleet.herd.submit(job).result(60)
    assert (result.state, result.text) == (JobState.SUCCEEDED, "finished")
    assert result.session_id == session_id


@pytest.mark.parametrize("name", [name for name in CASES if "timeout" in name])
def test_session_of_a_timed_out_job_is_kept(name: str, handles: dict[str, JobHandle]) -> None:
    """A deadline ends the run, not the conversation."""
    handles[name].result(90)
    assert any(entry.get("type") == "user" for entry in handles[name].transcript())
