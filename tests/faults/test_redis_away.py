"""Redis out of reach, restarted, or of another opinion on who owns the job."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentherd import EventKind, Job, JobHandle, JobResult, JobState
from agentherd.layout import records
from agentherd_workers.devkit import scripts
from agentherd_workers.devkit.model_api import Step
from agentherd_workers.devkit.proxy import Proxy
from agentherd_workers.devkit.redis_server import RedisServer
from support.fleet import Fleet, await_event, events_so_far, living, processes_of, running_fleet
from support.waiting import wait_until

LEASE_S = 4.0


@dataclass(frozen=True)
class Rig:
    """A fleet whose worker reaches Redis through a proxy."""

    fleet: Fleet
    proxy: Proxy


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """One for the module: each test leaves Redis in reach."""
    with RedisServer(appendonly=True) as redis, Proxy(redis.port) as proxy:
        options: dict[str, Any] = {
            "settings": {"lease_s": str(LEASE_S), "concurrency": "4"},
            "redis_url": f"redis://127.0.0.1:{proxy.port}/0",
        }
        with running_fleet(tmp_path_factory.mktemp("fleet"), redis=redis, **options) as fleet:
            yield Rig(fleet, proxy)


@pytest.fixture
def fleet(rig: Rig) -> Fleet:
    """The rig's fleet."""
    return rig.fleet


def job_of(*steps: Step) -> Job:
    """A scripted job."""
    return Job(prompt=scripts.script("Do it.", *steps), allowed_tools=("Bash",))


def waits_for(path: Path) -> Step:
    """A tool that ends once `path` is there."""
    return scripts.bash(f"until [ -e {path} ]; do read -t 0.05 < <(sleep 1); done")


def running(fleet: Fleet, *steps: Step) -> JobHandle:
    """A job whose first tool runs."""
    handle = fleet.herd.submit(job_of(*steps))
    await_event(handle, EventKind.TOOL_STARTED)
    return handle


def taken_over(fleet: Fleet, handle: JobHandle) -> records.Claim:
    """Do what happens to a job whose lease has run out: another worker claims it."""
    run = fleet.herd.connection.run
    given = records.requeue(
        fleet.herd.keys, handle.record(), delay_ms=0, reason="lease expired", refund=False
    )
    assert run(given)
    claim = run(records.claim(fleet.herd.keys, handle.id, "default", "other", 60_000))
    assert isinstance(claim, records.Claim)
    return claim


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_redis_out_of_reach_for_a_lease_ends_the_agent(rig: Rig, fault: str) -> None:
    """Another worker owns the job by then: it dies, and nothing of it arrives any more."""
    handle = running(rig.fleet, scripts.bash("read -t 60 < <(sleep 60)"), scripts.text("never"))
    agent = processes_of(handle)

    getattr(rig.proxy, fault)()
    wait_until(lambda: not living(agent), "the agent is dead", LEASE_S + 2)
    owner = taken_over(rig.fleet, handle)
    events = [event.id for event in handle.events(follow=False)]
    rig.proxy.restore()

    assert rig.fleet.herd.submit(job_of(scripts.text("done"))).result(60).succeeded
    assert [event.id for event in handle.events(follow=False)] == events
    record = handle.record()
    assert (record.state, record.worker, record.fence) == (JobState.RUNNING, "other", owner.fence)


def test_short_absence_changes_nothing(rig: Rig, tmp_path: Path) -> None:
    """The agent works on while Redis is away; what it did is written when it is back."""
    go = tmp_path / "go"
    handle = running(rig.fleet, waits_for(go), scripts.bash("echo second"), scripts.text("done"))
    rig.proxy.cut()
    go.touch()
    session_id = rig.fleet.herd.job(handle.id).record().session_id
    wait_until(lambda: _answers(rig.fleet, session_id) == 3, "the agent has its last answer")
    rig.proxy.restore()

    result = handle.result(30)

    assert (result.state, result.text, result.attempts) == (JobState.SUCCEEDED, "done", 1)
    assert not result.session_degraded
    kinds = [event.kind for event in handle.events()]
    assert kinds.count(EventKind.TOOL_STARTED) == kinds.count(EventKind.TOOL_FINISHED) == 2
    assert "echo second" in str(handle.transcript())


def test_restart_of_redis_changes_nothing(fleet: Fleet, tmp_path: Path) -> None:
    """With its data on disk Redis may restart under a job; the worker takes jobs as before."""
    go = tmp_path / "go"
    handle = running(fleet, waits_for(go), scripts.text("done"))
    fleet.redis.restart()
    go.touch()
    result = handle.result(30)
    assert (result.state, result.text, result.attempts) == (JobState.SUCCEEDED, "done", 1)
    assert fleet.herd.submit(job_of(scripts.text("next"))).result(30).succeeded


def test_job_owned_by_another_ends_the_agent(fleet: Fleet) -> None:
    """A newer fencing token: the agent is killed, and the other's result stands."""
    handle = running(fleet, scripts.bash("read -t 60 < <(sleep 60)"), scripts.text("never"))
    agent = processes_of(handle)
    owner = taken_over(fleet, handle).record
    wait_until(lambda: not living(agent), "the agent is dead", LEASE_S)
    result = JobResult(
        job_id=handle.id, state=JobState.SUCCEEDED, text="theirs", session_id=owner.session_id
    )
    finish = records.finish(fleet.herd.keys, owner, result, retention_ms=60_000)
    assert fleet.herd.connection.run(finish)
    # As dropped, or as ended where the other was faster.
    ends = (f"{handle.id}: message dropped", f"{handle.id}] succeeded")
    wait_until(lambda: any(end in fleet.worker.output() for end in ends), "it gave up", 60)
    assert handle.result(10).text == "theirs"


def test_job_taken_away_and_given_back_runs_once(fleet: Fleet, tmp_path: Path) -> None:
    """The same worker gets it again while its first agent is still ending: one at a time."""
    marker = tmp_path / "begun"
    tool = scripts.bash(f"[ -e {marker} ] || {{ touch {marker}; read -t 60 < <(sleep 60); }}")
    handle = running(fleet, tool, scripts.text("done"))
    wait_until(marker.exists, "the tool hangs")
    first = processes_of(handle)
    requeue = records.requeue(
        fleet.herd.keys, handle.record(), delay_ms=0, reason="by a test", refund=False
    )
    assert fleet.herd.connection.run(requeue)
    await_event(handle, EventKind.AGENT_READY, count=2)
    assert not living(first)
    result = handle.result(30)
    again = [event.data["reason"] for event in events_so_far(handle, EventKind.REQUEUED)]
    assert again == ["by a test"]
    assert (result.state, result.text, result.attempts) == (JobState.SUCCEEDED, "done", 2)


def _answers(fleet: Fleet, session_id: str) -> int:
    """Requests of the session that the model answered."""
    return sum(session_id in str(one.body.get("metadata")) for one in fleet.model.requests)
