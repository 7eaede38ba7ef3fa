"""The breaker in Redis: who opens it, who may try a job, who closes it."""

import pytest

from agentherd import FailureKind, Herd, Job
from agentherd.contract.hosts import BreakerReport
from agentherd.contract.results import Failure
from agentherd.layout import breaker, records
from agentherd.layout.breaker import JobsOwnFault, StaleRefusal
from agentherd.layout.records import Claim
from support.records import claim

PROBE_MS = 60_000
REFUSED = Failure(kind=FailureKind.AUTHENTICATION, message="invalid x-api-key")


@pytest.fixture
def held(herd: Herd) -> Claim:
    """A job that runs."""
    return claim(herd, herd.submit(Job(prompt="x")).id)


def trip(
    herd: Herd, held: Claim, *, probe_ms: int = PROBE_MS
) -> BreakerReport | JobsOwnFault | StaleRefusal:
    """The API refused the job."""
    return herd.connection.run(
        breaker.trip(herd.keys, held.record, REFUSED, worker="w1", probe_ms=probe_ms)
    )


def look(
    herd: Herd, worker: str = "w2", *, wants: bool = True, probe_ms: int = PROBE_MS
) -> tuple[BreakerReport | None, bool]:
    """A worker looks whether it may take a job."""
    return herd.connection.run(breaker.look(herd.keys, worker, wants=wants, probe_ms=probe_ms))


def close(herd: Herd, held: Claim) -> BreakerReport | None:
    """The model answered the job."""
    claimed_at_ms = held.record.released_at_ms + held.waited_ms
    return herd.connection.run(breaker.close(herd.keys, claimed_at_ms=claimed_at_ms))


def again(herd: Herd, held: Claim) -> Claim:
    """The job goes back to its queue and is taken once more."""
    herd.connection.run(
        records.requeue(herd.keys, held.record, delay_ms=0, reason="refused", refund=True)
    )
    return claim(herd, held.record.job_id)


def test_it_opens_for_all_and_says_why(herd: Herd, held: Claim) -> None:
    assert look(herd) == (None, False)
    assert isinstance(trip(herd, held), BreakerReport)
    report, granted = look(herd)
    assert report is not None
    assert (report.kind, report.message, report.worker) == (
        FailureKind.AUTHENTICATION, "invalid x-api-key", "w1",
    )  # fmt: skip
    assert not granted
    assert report == herd.connection.run(breaker.read(herd.keys))


def test_one_worker_at_a_time_may_try_a_job(herd: Herd, held: Claim) -> None:
    trip(herd, held, probe_ms=0)
    assert not look(herd, wants=False)[1]
    assert [look(herd, worker)[1] for worker in ("w1", "w2", "w3")] == [True, False, False]


def test_another_refusal_keeps_it_open(herd: Herd, held: Claim) -> None:
    first = trip(herd, held, probe_ms=0)
    second = trip(herd, again(herd, held))
    assert isinstance(first, BreakerReport)
    assert isinstance(second, BreakerReport)
    assert second.opened_at_ms == first.opened_at_ms
    assert not look(herd)[1]


def test_an_answer_to_a_job_closes_it(herd: Herd, held: Claim) -> None:
    trip(herd, held)
    assert close(herd, again(herd, held)) is None
    assert look(herd) == (None, False)


def test_an_answer_to_a_job_from_before_proves_nothing(herd: Herd, held: Claim) -> None:
    trip(herd, held)
    older = held.record.released_at_ms - 1000
    assert herd.connection.run(breaker.close(herd.keys, claimed_at_ms=older)) is not None


def test_a_job_refused_after_others_succeeded_is_itself_at_fault(herd: Herd, held: Claim) -> None:
    """Say a model that this key may not use: it must not hold up the fleet twice."""
    trip(herd, held)
    other = claim(herd, herd.submit(Job(prompt="y")).id)
    close(herd, other)
    assert isinstance(trip(herd, again(herd, held)), JobsOwnFault)
    assert look(herd) == (None, False)
    assert isinstance(trip(herd, other), BreakerReport)  # that one was not refused before


def test_who_lost_the_job_opens_nothing(herd: Herd, held: Claim) -> None:
    again(herd, held)
    assert isinstance(trip(herd, held), StaleRefusal)
    assert look(herd) == (None, False)
