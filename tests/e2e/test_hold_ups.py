"""What can't be run holds nothing up: poison in a queue, an API that refuses the fleet's key."""

import json
from base64 import b64encode
from typing import Any

import pytest
from click.testing import CliRunner

from agentherd import EventKind, FailureKind, Job, JobState
from agentherd.cli.app import app
from agentherd.contract.hosts import GateReport
from agentherd.contract.states import TERMINAL
from agentherd.layout import breaker, poison
from agentherd.layout.messages import task_message
from agentherd_workers.devkit import scripts
from support.fleet import Fleet, await_event
from support.waiting import wait_until

WAIT_S = 60.0


@pytest.fixture(scope="module")
def fleet_options() -> dict[str, Any]:
    """A refused fleet tries again at once; so does the CLI, twice, where it does at all."""
    return {
        "settings": {"breaker_probe_s": "1", "pass_env": '["CLAUDE_CODE_MAX_RETRIES"]'},
        "environment": {"CLAUDE_CODE_MAX_RETRIES": "2"},
    }


def message(job_id: Any, body: Any = None, **headers: Any) -> bytes:
    """A message as Celery would write it, but for these fields."""
    document = json.loads(task_message("x", "agents", 3, "{}"))
    document["headers"] |= {"id": job_id, **headers}
    document["properties"]["delivery_tag"] = f"tag-{job_id}"
    if body is not None:
        document["body"] = b64encode(json.dumps(body).encode()).decode()
    return json.dumps(document).encode()


def bomb(depth: int) -> Any:
    """Lists in lists."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


SET_ASIDE = [
    b"\x80\x04 not JSON \xff",
    b'{"prompt": "no envelope"}',
    b'{"body": "' + b"A" * 50_000_000 + b'"}',
    b"[" * 500_000,
    message(None),
    message({"no": "text"}),
    message("pickled").replace(b"application/json", b"application/x-python-serialize"),
    message("bad-body").replace(b'"body": "', b'"body": "a'),
    message("deep", [[bomb(400)], {}, None]),
    message("no-arguments", {"job": 1}),
    message("unknown-task", task="somebody.elses"),
    message("bad-eta", eta="next week"),
]
"""What no worker can make a job of, nor a failure of one."""
FAILED = [
    message("odd id/\n", [[], {"job": {"prompt": "x"}}, None]),
    message("wrong-arguments", [[1, 2], {"three": 4}, None]),
    message("from-the-future", [[], {"job": {"version": 99, "prompt": "x"}}, None]),
    message("nobodys", [[], {}, None]),
]
"""Celery messages that name no job that could be run: whoever waits for them is told so."""


REFUSALS = {
    "unauthorized": (401, "invalid x-api-key", FailureKind.AUTHENTICATION),
    "forbidden": (403, "not allowed", FailureKind.AUTHENTICATION),
    "unpaid": (402, "pay", FailureKind.BILLING),
    "no-credit": (
        400, "Your credit balance is too low to access the Anthropic API.", FailureKind.BILLING,
    ),
    "spent": (429, "You have reached your spend limit.", FailureKind.BILLING),
}  # fmt: skip
"""What the API answers to every job of the fleet, by scenario."""


def test_poison_is_set_aside_and_the_next_job_runs(fleet: Fleet) -> None:
    """The worker lives on, holds no message and no RAM, and says what it got."""
    redis, pid = fleet.herd.connection.redis, fleet.worker.pid
    for raw in (*SET_ASIDE, *FAILED):
        redis.lpush("agents", raw)
    handle = fleet.herd.submit(Job(prompt=scripts.script("x", scripts.text("ran"))))
    assert handle.result(WAIT_S).text == "ran"
    kept = fleet.herd.connection.run(poison.kept(fleet.herd.keys))
    assert len(kept) == len(SET_ASIDE), [one.reason for one in kept]
    assert max(one.size_bytes for one in kept) > 50_000_000
    assert all(one.reason and len(one.content) <= 4096 for one in kept)
    wait_until(lambda: not redis.exists("unacked", "unacked_index"), "nothing is held", WAIT_S)
    assert (fleet.worker.pid, fleet.worker.is_running) == (pid, True)
    # One message at most is asked for while nothing runs.
    wait_until(lambda: gate(fleet).sessions_booked <= 1, "no RAM is held", WAIT_S)
    states = {job.job_id: job.state for job in fleet.herd.jobs(state=JobState.FAILED).jobs}
    assert states.keys() == {"wrong-arguments", "from-the-future"}
    assert fleet.worker.output().count("set aside a message") == len(SET_ASIDE)


def test_refused_key_stops_the_fleet_until_the_api_accepts_it(fleet: Fleet) -> None:
    """No job fails for it, none is charged for it, and everyone is told why nothing runs."""
    herd = fleet.herd
    for name, (status, message, _) in REFUSALS.items():
        fleet.model.scenario(name, [scripts.error(status, times=1000, message=message)])
    jobs = [herd.submit(Job(prompt=f"scenario:{name}")) for name in REFUSALS]
    wait_until(lambda: gate(fleet).reason == "breaker", "the gate is closed", WAIT_S)
    assert herd.connection.run(breaker.read(herd.keys)) is not None
    for command in ("hosts", "doctor"):
        assert "the model API refuses the fleet" in run(fleet, command)
    for handle, (_, _, kind) in zip(jobs, REFUSALS.values(), strict=True):  # each was tried
        refused = await_event(handle, EventKind.REQUEUED, timeout_s=WAIT_S)
        assert refused.data["reason"].startswith(f"{kind}: ")
    assert not any(handle.state() in TERMINAL for handle in jobs)
    for name in REFUSALS:
        fleet.model.scenario(name, [scripts.text("accepted")])
    results = [handle.result(WAIT_S) for handle in jobs]
    assert [(one.text, one.attempts, one.turns) for one in results] == [("accepted", 1, 1)] * len(
        jobs
    )
    assert herd.connection.run(breaker.read(herd.keys)) is None
    wait_until(lambda: gate(fleet).open, "the gate is open", WAIT_S)


def gate(fleet: Fleet) -> GateReport:
    """The worker's gate, as it last reported."""
    [worker] = fleet.herd.workers()
    return worker.gate


def run(fleet: Fleet, *arguments: str) -> str:
    """What `agentherd` prints."""
    return CliRunner().invoke(app, ["--redis-url", fleet.redis.url, *arguments]).output
