"""The jobs of `agentherd demo`: what a real model is asked, and what counts as expected."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from agentherd import Failure, FailureKind, JobResult, JobState, Usage
from agentherd_workers.devkit.demo import expectations
from agentherd_workers.devkit.demo.code_base import FAILING_TEST
from agentherd_workers.devkit.demo.jobs import most_usd, parts
from agentherd_workers.devkit.demo.outcome import Outcome

PATCH = b"--- a/pricing.py\n+++ b/pricing.py\n@@ -1 +1 @@\n-wrong\n+right\n"
ORDER = {"items": [{"quantity": 3}, {"quantity": 2}], "express": True}
OVER_BUDGET = Failure(kind=FailureKind.BUDGET_EXCEEDED, message="over")
CRASH = Failure(kind=FailureKind.CRASHED, message="gone")


def outcome(state: JobState = JobState.SUCCEEDED, **result: Any) -> Outcome:
    """A job that left everything that any expectation wants."""
    chosen = {
        "text": f"{FAILING_TEST} failed",
        "structured_output": ORDER,
        "usage": Usage(cost_usd=0.1),
        **result,
    }
    return Outcome(
        result=JobResult(job_id="j", session_id="s", state=state, **chosen),
        conversation=({"n": 1}, {"n": 2}),
        subagents={"subagents/a": 3},
        transcript_bytes=100,
        files={"fix.patch": PATCH, "tests.txt": b"Ran 2 tests\n\nOK\n"},
    )


BEFORE = replace(outcome(), conversation=({"n": 1},))
GOOD = outcome()
OVERSPENT = outcome(JobState.FAILED, failure=OVER_BUDGET)


@pytest.mark.parametrize("simulated", [True, False])
def test_only_the_simulated_model_gets_a_script(simulated: bool) -> None:
    """A real model is asked in words; one prompt has no script for either."""
    scripted = ["<script>" in part.job.prompt for part in parts(simulated=simulated)]
    assert scripted == ([True] * 4 + [False] if simulated else [False] * 5)


def test_the_words_are_the_same_for_both() -> None:
    """What the simulated model shows is what the real one is asked."""
    for ours, real in zip(parts(simulated=True), parts(simulated=False), strict=True):
        assert ours.job.prompt.split("\n\n<script>")[0] == real.job.prompt


def test_budgets_are_small() -> None:
    """All of it costs less than two dollars; the job that must fail, a cent."""
    chosen = parts(simulated=False)
    assert most_usd(chosen) == pytest.approx(sum(one.job.max_budget_usd for one in chosen))
    assert most_usd(chosen) < 2
    assert min(part.job.max_budget_usd for part in chosen) == 0.01


@pytest.mark.parametrize(
    ("expectation", "left"),
    [
        (expectations.fixes_the_test, GOOD),
        (expectations.fills_the_form, GOOD),
        (expectations.exceeds_its_budget, OVERSPENT),
        (expectations.remembers, GOOD),
        (expectations.delegates, GOOD),
    ],
)
def test_the_expected_is_accepted(expectation: expectations.Expectation, left: Outcome) -> None:
    """No problem is found where there is none."""
    assert list(expectation(left, BEFORE)) == []


@pytest.mark.parametrize(
    ("expectation", "left", "problem"),
    [
        (expectations.fixes_the_test, outcome(JobState.FAILED, failure=CRASH), "crashed: gone"),
        (expectations.fixes_the_test, outcome(session_degraded=True), "could not be stored"),
        (expectations.fixes_the_test, replace(GOOD, files={}), "not a diff"),
        (
            expectations.fixes_the_test,
            replace(GOOD, files={"fix.patch": PATCH, "tests.txt": b"FAILED (failures=1)\n"}),
            "the tests fail",
        ),
        (expectations.fills_the_form, outcome(structured_output=None), "five pieces"),
        (
            expectations.fills_the_form,
            outcome(structured_output=ORDER | {"express": False}),
            "urgent",
        ),
        (expectations.exceeds_its_budget, GOOD, "ended as succeeded"),
        (
            expectations.exceeds_its_budget,
            outcome(JobState.FAILED, failure=OVER_BUDGET, usage=Usage()),
            "no cost",
        ),
        (expectations.remembers, outcome(text="I don't know"), "does not name"),
        (expectations.remembers, replace(GOOD, conversation=({"n": 7},)), "does not begin"),
        (expectations.remembers, BEFORE, "nothing was added"),
        (expectations.delegates, replace(GOOD, subagents={}), "no subagent"),
    ],
)
def test_the_unexpected_is_named(
    expectation: Callable[..., Any], left: Outcome, problem: str
) -> None:
    """Each thing that can be wrong, in words."""
    assert problem in "; ".join(expectation(left, BEFORE))
