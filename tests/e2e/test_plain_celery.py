"""A service with Celery alone: it knows the task's name, the queue, and a JSON object."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery

from agentherd import EventKind, FailureKind, Job, JobHandle, JobState
from agentherd.contract.wire import job_from_wire
from agentherd_workers.devkit import scripts
from agentherd_workers.devkit.model_api import Step
from support.fleet import Fleet, await_event, events_so_far
from support.plain_celery import followed_events, plain_celery, send
from support.waiting import wait_until


@pytest.fixture(scope="module")
def fleet_options() -> dict[str, Any]:
    """One slot, so that order shows."""
    return {"settings": {"concurrency": "1"}}


@pytest.fixture(scope="module")
def celery(fleet: Fleet) -> Iterator[Celery]:
    """The service's app."""
    with plain_celery(fleet.redis) as app:
        yield app


def document(*steps: Step, **fields: Any) -> dict[str, Any]:
    """A job as JSON."""
    prompt = scripts.script("Do it.", *steps)
    return {"prompt": prompt, "allowed_tools": ["Bash"], **fields}


def waits_for(path: Path) -> Step:
    """A tool that ends once `path` is there."""
    return scripts.bash(f"until [ -e {path} ]; do read -t 0.05 < <(sleep 1); done")


def test_result_is_a_dict(celery: Celery) -> None:
    """`.get()` returns the whole `JobResult` as JSON."""
    sent = send(celery, document(scripts.text("done")))
    result = sent.get(timeout=60)
    assert sent.state == "SUCCESS"
    assert (result["job_id"], result["state"], result["text"]) == (sent.id, "succeeded", "done")
    assert result["usage"]["output_tokens"] == 5


def test_states_while_it_runs(fleet: Fleet, celery: Celery, tmp_path: Path) -> None:
    """STARTED, then SUCCESS; the record and its events are there as for any job."""
    go = tmp_path / "go"
    sent = send(celery, document(waits_for(go), scripts.text("done"), metadata={"from": "celery"}))
    wait_until(lambda: sent.state == "STARTED", "it has started", 30)
    handle = fleet.herd.job(sent.id)
    wait_until(lambda: _has_record(handle), "it has a record")
    await_event(handle, EventKind.TOOL_STARTED)
    assert handle.record().metadata == {"from": "celery"}
    go.touch()
    assert sent.get(timeout=60)["text"] == "done"
    assert handle.result(10).text == "done"


def test_failure_raises_with_a_readable_text(celery: Celery) -> None:
    """Job, state, reason and message, without our classes."""
    sent = send(celery, document(scripts.error(400)))
    with pytest.raises(Exception, match=f"job {sent.id}: failed, bad_request: API Error: 400"):
        sent.get(timeout=60)
    assert sent.state == "FAILURE"


def test_position_instead_of_keyword(celery: Celery) -> None:
    """The job may be the task's one argument."""
    arguments = [document(scripts.text("done"))]
    sent = celery.send_task("agentherd.run", args=arguments, queue="agents")
    assert sent.get(timeout=60)["text"] == "done"


@pytest.mark.parametrize(
    ("job", "part"),
    [
        ({"prompt": "x", "promt": "y"}, "promt: no such field"),
        ({"prompt": ""}, "prompt"),
        ({}, "prompt"),
        ({"version": 99, "prompt": "x"}, "99 is unknown here"),
        ("just text", "must be a JSON object, not str"),
        (None, "prompt"),
        ([1, 2], "must be a JSON object, not list"),
        ({"prompt": "x" * 600_000}, "prompt"),
        ({"prompt": "x", "env": {"PATH": "/evil"}}, "PATH"),
        ({"prompt": "x", "env": {"OTHER": "1"}}, "AGENTHERD_JOB_ENV_ALLOW"),
        ({"prompt": "x", "files": [{"path": "../up", "text": ""}]}, "files"),
        ({"prompt": "x", "memory": "4000g"}, "memory"),
        ({"prompt": "x", "tenant": "No Such"}, "tenant"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_invalid_job_fails_once(fleet: Fleet, celery: Celery, job: Any, part: str) -> None:
    """Failed as invalid, in both worlds; the worker takes the next job as if nothing had been."""
    sent = send(celery, job)
    with pytest.raises(Exception, match="invalid_job"):
        sent.get(timeout=30)
    result = fleet.herd.job(sent.id).result(10)
    assert result.failure is not None
    assert result.failure.kind is FailureKind.INVALID_JOB
    assert part in result.failure.message
    assert len(result.failure.message) < 5000
    assert send(celery, document(scripts.text("next"))).get(timeout=60)["text"] == "next"


def test_further_arguments_are_refused(fleet: Fleet, celery: Celery) -> None:
    """Nothing that the sender meant is dropped silently."""
    kwargs = {"job": document(scripts.text("x")), "timeout": 3}
    sent = celery.send_task("agentherd.run", kwargs=kwargs, queue="agents")
    with pytest.raises(Exception, match="invalid_job"):
        sent.get(timeout=30)


def test_task_without_a_job_fails(fleet: Fleet, celery: Celery) -> None:
    """A message without a job names a record; where there is none, who waits is told so."""
    sent = celery.send_task("agentherd.run", queue="agents")
    with pytest.raises(Exception, match="no job in the message, and no record"):
        sent.get(timeout=30)


def test_taken_idempotency_key_never_hangs(fleet: Fleet, celery: Celery) -> None:
    """The same job again has the first one's result; another one under the key fails."""
    job = document(scripts.text("once"), idempotency_key="k")
    first = send(celery, job)
    assert first.get(timeout=60)["text"] == "once"
    assert send(celery, job).get(timeout=30)["job_id"] == first.id
    other = send(celery, document(scripts.text("other"), idempotency_key="k"))
    with pytest.raises(Exception, match=f"taken by job {first.id}, which has other content"):
        other.get(timeout=30)


def test_same_id_runs_once(fleet: Fleet, celery: Celery) -> None:
    """However often a message comes, and whatever it says then."""
    job_id = str(uuid4())
    first = send(celery, document(scripts.text("first")), task_id=job_id)
    second = send(celery, document(scripts.text("second")), task_id=job_id)
    assert first.get(timeout=60)["text"] == "first"
    last = send(celery, document(scripts.text("last")))
    last.get(timeout=60)
    assert second.get(timeout=60)["text"] == "first"
    assert len(events_so_far(fleet.herd.job(job_id), EventKind.STARTED)) == 1


def test_id_that_can_not_name_a_job(fleet: Fleet, celery: Celery) -> None:
    """It would name another key in Redis than a record."""
    sent = send(celery, document(scripts.text("x")), task_id="a:b c")
    with pytest.raises(Exception, match="job_id"):
        sent.get(timeout=30)
    assert not fleet.herd.connection.redis.keys("agentherd:job:a:b*")


def test_busy_session_fails_the_second(fleet: Fleet, celery: Celery, tmp_path: Path) -> None:
    """Two agents can't share one transcript."""
    go = tmp_path / "go"
    session = {"kind": "new", "id": str(uuid4())}
    holder = fleet.herd.submit(_job(waits_for(go), scripts.text("done"), session=session))
    sent = send(celery, document(scripts.text("x"), session=session))
    await_event(holder, EventKind.TOOL_STARTED)
    busy = f"session_busy: .* in use by job {holder.id}"
    with fleet.another_worker(), pytest.raises(Exception, match=busy):
        sent.get(timeout=30)
    go.touch()
    assert holder.result(30).state is JobState.SUCCEEDED


def test_nobody_is_shown_the_prompt(fleet: Fleet, celery: Celery, tmp_path: Path) -> None:
    """Neither who follows Celery's events, as Flower does, nor who inspects the worker."""
    go = tmp_path / "go"
    prompt = "Look here. " + "x" * 100 + " my secret"
    job = document(waits_for(go), scripts.text("done"), model="sonnet")
    job["prompt"] = prompt + job["prompt"]
    with followed_events(celery) as events:
        sent = send(celery, job)
        wait_until(lambda: sent.state == "STARTED", "it has started", 30)
        [active] = (celery.control.inspect(timeout=5).active() or {}).values()
        go.touch()
        sent.get(timeout=30)
        wait_until(lambda: "task-succeeded" in {event["type"] for event in events}, "all events")
    received = next(event for event in events if event["type"] == "task-received")
    assert json.loads(received["kwargs"]) == {
        "tenant": None, "model": "sonnet", "prompt": f"{prompt[:79]}…",
    }  # fmt: skip
    assert active[0]["kwargs"] == received["kwargs"]
    assert "my secret" not in str(events) + str(active) + fleet.worker.output()


def test_priority(fleet: Fleet, celery: Celery, tmp_path: Path) -> None:
    """0 goes before 9, whoever came first, and whether from Celery or from `Herd`."""
    go = tmp_path / "go"
    blocker = fleet.herd.submit(_job(waits_for(go), scripts.text("done")))
    await_event(blocker, EventKind.TOOL_STARTED)
    last = fleet.herd.submit(_job(scripts.text("x"), priority=9))
    by_celery = send(celery, document(scripts.text("x")), priority=6)
    first = fleet.herd.submit(_job(scripts.text("x"), priority=0))
    go.touch()
    handles = [first, fleet.herd.job(by_celery.id), last]
    wait_until(lambda: _has_record(handles[1]), "Celery's job has a record", 30)
    started = [handle.result(60).started_at_ms for handle in handles]
    assert started == sorted(started, key=lambda at_ms: at_ms or 0)


def _job(*steps: Step, **fields: Any) -> Job:
    return job_from_wire(document(*steps, **fields))


def _has_record(handle: JobHandle) -> bool:
    return bool(handle.herd.connection.redis.exists(handle.herd.keys.job(handle.id)))
