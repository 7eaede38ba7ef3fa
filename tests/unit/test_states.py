"""The transition table: properties that hold whatever states are added."""

import re

import pytest

from agentherd import JobState
from agentherd.contract.states import LIVE, TERMINAL, TRANSITIONS
from agentherd.layout.operations import script_source

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


@pytest.mark.parametrize(
    ("script", "source", "targets"),
    [
        ("claim", JobState.QUEUED, {JobState.RUNNING}),
        ("release", JobState.SCHEDULED, {JobState.QUEUED}),
        ("requeue", JobState.RUNNING, {JobState.QUEUED, JobState.SCHEDULED}),
    ],
)
def test_scripts_make_the_moves_of_the_table(
    script: str, source: JobState, targets: set[JobState]
) -> None:
    text = script_source(script)
    assert re.findall(r"~= '([a-z]+)'", text) == [source]
    assert set(re.findall(r"HSET', KEYS\[1\],\s+'state', '([a-z]+)'", text)) == targets
    assert targets <= TRANSITIONS[source]


def test_a_running_job_never_expires() -> None:
    assert JobState.EXPIRED not in TRANSITIONS[JobState.RUNNING]
