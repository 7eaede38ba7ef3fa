"""One worker's view of the fleet's breaker: when a job may be taken, and what the gate says."""

from pathlib import Path

import pytest

from agentherd import FailureKind, JobState
from agentherd.contract.hosts import BreakerReport
from agentherd.contract.results import Failure
from agentherd_workers.admission.gate import Gate, GateReason, Limits
from agentherd_workers.admission.ledger import Ledger
from agentherd_workers.admission.memory import HostMemory
from agentherd_workers.agent.outcome import Verdict
from agentherd_workers.breaker import Breaker, concerns_all
from agentherd_workers.sizes import MiB

REFUSED = BreakerReport(
    kind=FailureKind.AUTHENTICATION,
    message="invalid x-api-key",
    worker="w1:1",
    opened_at_ms=1,
    next_probe_ms=2,
)


class Clock:
    """Time that a test moves."""

    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(30, clock_s=clock)


def test_closed_at_first(breaker: Breaker) -> None:
    assert (breaker.refusal(), breaker.report) == (None, None)


def test_open_it_says_why_in_the_apis_words(breaker: Breaker) -> None:
    breaker.note(REFUSED)
    assert "authentication: invalid x-api-key" in (breaker.refusal() or "")
    assert "every 30 s" in (breaker.refusal() or "")
    breaker.note(None)
    assert breaker.refusal() is None


def test_a_probe_is_one_job(breaker: Breaker) -> None:
    breaker.note(REFUSED)
    breaker.allow_probe()
    assert breaker.refusal() is None
    breaker.job_taken()
    assert breaker.refusal() is not None


def test_a_probe_that_no_job_used_ends_when_the_next_worker_may_try(
    breaker: Breaker, clock: Clock
) -> None:
    breaker.note(REFUSED)
    breaker.allow_probe()
    clock.now_s = 29.9
    assert breaker.refusal() is None
    clock.now_s = 30.0
    assert breaker.refusal() is not None


def test_a_probe_does_not_outlast_the_closing(breaker: Breaker) -> None:
    breaker.note(REFUSED)
    breaker.allow_probe()
    breaker.note(None)
    breaker.note(REFUSED)
    assert breaker.refusal() is not None


@pytest.mark.parametrize("kind", FailureKind)
def test_only_key_and_account_concern_all_jobs(kind: FailureKind) -> None:
    ended = Verdict(JobState.FAILED, Failure(kind=kind, message="m"))
    assert concerns_all(ended) is (kind in ("authentication", "billing"))
    assert not concerns_all(Verdict(JobState.SUCCEEDED))


def test_the_gate_is_closed_but_for_the_probe(tmp_path: Path, breaker: Breaker) -> None:
    limits = Limits(
        budget_bytes=100 * MiB, slots=8, min_free_disk_bytes=0, max_pressure_percent=100.0
    )
    ledger = Ledger(tmp_path / "ledger")
    gate = Gate(limits, {"agents": MiB}, ledger, HostMemory(), tmp_path, breaker=breaker)
    breaker.note(REFUSED)
    assert gate.offer(["agents"]) == []
    assert gate.state.reason is GateReason.BREAKER
    assert "invalid x-api-key" in gate.state.detail
    gate.release("no job")  # a closed gate is looked at again at once
    breaker.allow_probe()
    assert gate.offer(["agents"]) == ["agents"]
    gate.arrived("agents")
    gate.admit("agents", lambda _name: None)
    assert gate.offer(["agents"]) == []
    ledger.close()
