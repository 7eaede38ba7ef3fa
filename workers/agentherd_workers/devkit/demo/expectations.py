"""How each job of the demo must end. An expectation yields what is not as it should be.

Each is given what the job left, and what the job left whose session it goes on with.
"""

from collections.abc import Callable, Iterator

from agentherd import FailureKind
from agentherd_workers.devkit.demo.code_base import FAILING_TEST
from agentherd_workers.devkit.demo.outcome import Outcome

Expectation = Callable[[Outcome, Outcome | None], Iterator[str]]


def fixes_the_test(left: Outcome, _before: Outcome | None) -> Iterator[str]:
    """The patch is a diff of the right file, and the tests pass with it."""
    yield from _succeeds(left)
    added = [line for line in _text(left, "fix.patch").splitlines() if line.startswith("+")]
    if "+++ b/pricing.py" not in added or len(added) < 2:
        yield "fix.patch is not a diff of pricing.py"
    if _text(left, "tests.txt").split()[-1:] != ["OK"]:
        yield "tests.txt does not end in OK: the tests fail"


def fills_the_form(left: Outcome, _before: Outcome | None) -> Iterator[str]:
    """The mail's facts are in the structured output. The worker has checked the schema."""
    yield from _succeeds(left)
    order = left.result.structured_output or {}
    if sum(item["quantity"] for item in order.get("items", ())) != 5:
        yield "the structured output does not hold the five pieces that the mail orders"
    if order.get("express") is not True:
        yield "the structured output does not say that the order is urgent"


def exceeds_its_budget(left: Outcome, _before: Outcome | None) -> Iterator[str]:
    """Stopped for its cost, which is known."""
    failure = left.result.failure
    if failure is None or failure.kind is not FailureKind.BUDGET_EXCEEDED:
        yield f"ended as {failure.kind if failure else left.result.state}, not for its budget"
    if left.result.usage.cost_usd <= 0:
        yield "no cost is recorded"


def remembers(left: Outcome, before: Outcome | None) -> Iterator[str]:
    """The earlier conversation came back first, and the answer is from it."""
    yield from _succeeds(left)
    earlier = before.conversation if before else ()
    if not earlier or left.conversation[: len(earlier)] != earlier:
        yield "the session does not begin with the earlier job's conversation"
    if len(left.conversation) <= len(earlier):
        yield "nothing was added to the session"
    if FAILING_TEST not in (left.result.text or ""):
        yield f"the answer does not name {FAILING_TEST}, which the earlier job had seen"


def delegates(left: Outcome, _before: Outcome | None) -> Iterator[str]:
    """A subagent worked, and its conversation was kept."""
    yield from _succeeds(left)
    if not left.subagents:
        yield "no subagent has left a transcript"


def _succeeds(left: Outcome) -> Iterator[str]:
    result = left.result
    if not result.succeeded:
        failure = result.failure
        yield f"{result.state}, {failure.kind}: {failure.message}" if failure else result.state
    if result.session_degraded:
        yield "part of the transcript could not be stored"


def _text(left: Outcome, name: str) -> str:
    return left.files.get(name, b"").decode(errors="replace")
