"""The transition table: properties that hold whatever states are added."""

import pytest

from agentherd import JobState
from agentherd.contract.states import LIVE, TERMINAL, TRANSITIONS, sources_of

BEGINNINGS = {JobState.SCHEDULED, JobState.QUEUED}
"""What submit.lua writes."""


def reachable_from(starts: set[JobState]) -> set[JobState]:
    found, pending = set(starts), list(starts)
    while pending:
        for state in TRANSITIONS[pending.pop()] - found:
            found.add(state)
            pending.append(state)
    return found


def test_the_table_has_every_state() -> None:
    assert TRANSITIONS.keys() == set(JobState)
    assert set().union(*TRANSITIONS.values()) <= set(JobState)


def test_terminal_and_live_divide_the_states() -> None:
    assert {JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED} <= TERMINAL
    assert {JobState.TIMED_OUT, JobState.EXPIRED} <= TERMINAL
    assert {JobState.SCHEDULED, JobState.QUEUED, JobState.RUNNING} == LIVE
    assert set(JobState) == LIVE | TERMINAL
    assert not LIVE & TERMINAL


@pytest.mark.parametrize("state", sorted(TERMINAL))
def test_no_way_leads_out_of_a_terminal_state(state: JobState) -> None:
    assert TRANSITIONS[state] == frozenset()
    assert reachable_from({state}) == {state}


def test_every_state_is_reached_from_a_submit() -> None:
    assert reachable_from(BEGINNINGS) == set(JobState)


@pytest.mark.parametrize("state", sorted(LIVE))
def test_every_live_state_can_end(state: JobState) -> None:
    assert reachable_from({state}) & TERMINAL


@pytest.mark.parametrize("target", list(JobState))
def test_sources_are_the_transitions_read_backwards(target: JobState) -> None:
    sources = sources_of(target)
    assert set(sources) == {state for state in JobState if target in TRANSITIONS[state]}
    assert list(sources) == [state for state in JobState if state in sources]
    assert not TERMINAL & set(sources)


def test_only_a_queued_job_starts() -> None:
    assert sources_of(JobState.RUNNING) == (JobState.QUEUED,)


def test_a_running_job_never_expires() -> None:
    assert JobState.RUNNING not in sources_of(JobState.EXPIRED)
