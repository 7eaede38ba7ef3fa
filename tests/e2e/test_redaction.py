"""An agent that tells its model API key: it is in nothing that the fleet writes."""

from pathlib import Path
from typing import Any

import pytest

from agentherd import FailureKind, Job, JobHandle
from agentherd_workers.devkit import scripts
from agentherd_workers.devkit.model_api import Step
from agentherd_workers.redaction import PLACEHOLDER
from support.fleet import Fleet

KEY = 'sk-ant-planted"key\\0123456789'
"""With characters that JSON escapes."""
PRINT_KEY = scripts.bash('printf %s "$ANTHROPIC_API_KEY" | tee key.txt')


@pytest.fixture(scope="module")
def fleet_options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A worker with the planted key."""
    path: Path = tmp_path_factory.mktemp("key") / "key"
    path.write_text(KEY)
    return {"api_key_file": path}


def run(fleet: Fleet, *steps: Step, **fields: Any) -> JobHandle:
    """An ended job."""
    job = Job(prompt=scripts.script("Do it.", *steps), allowed_tools=["Bash"], **fields)
    handle = fleet.herd.submit(job)
    handle.result(60)
    return handle


def told(handle: JobHandle) -> list[str]:
    """All that the job left, by sink."""
    return [
        "\n".join(_texts([event.data for event in handle.events()])),
        "\n".join(_texts(handle.transcript())),
        "\n".join(_texts(handle.result(0).model_dump(mode="json"))),
    ]


def _texts(value: Any) -> list[str]:
    """Every string in a JSON value."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        return [text for one in value for text in _texts(one)]
    return [value] if isinstance(value, str) else []


def test_printed_by_a_tool(fleet: Fleet) -> None:
    """Neither in events nor in the transcript; the file that the agent made is its own."""
    handle = run(fleet, PRINT_KEY, scripts.text("done"), artifacts=["key.txt"])
    events, transcript, _result = told(handle)
    assert PLACEHOLDER in events
    assert PLACEHOLDER in transcript
    assert KEY not in events + transcript
    assert handle.artifact("key.txt").decode() == KEY
    stored = fleet.herd.connection.redis
    assert KEY.encode() not in b"".join(_all_bytes(stored, handle.id))


def test_said_by_the_model(fleet: Fleet) -> None:
    """Text, thinking and a tool's input, also where events are cut."""
    words = "x" * (4 * 1024 - 10) + KEY
    handle = run(
        fleet,
        scripts.bash(f"echo '{KEY}'"),
        scripts.thinking(f"it is {KEY}", words),
    )
    for sink in told(handle):
        assert PLACEHOLDER in sink
        assert KEY not in sink
        assert "sk-ant-" not in sink
    assert (handle.result(0).text or "").endswith(f"xxx{PLACEHOLDER}")


def test_in_structured_output(fleet: Fleet) -> None:
    """What the job hands in."""
    schema = {"type": "object", "properties": {"key": {"type": "string"}}}
    handle = run(fleet, scripts.structured({"key": KEY}), output_schema=schema)
    assert handle.result(0).structured_output == {"key": PLACEHOLDER}
    assert not any(KEY in sink for sink in told(handle))


def test_in_a_failure(fleet: Fleet) -> None:
    """What the API said."""
    handle = run(fleet, scripts.error(400, message=f"bad key {KEY}"))
    failure = handle.result(0).failure
    assert failure is not None
    assert failure.kind is FailureKind.BAD_REQUEST
    assert f"bad key {PLACEHOLDER}" in failure.message
    assert not any(KEY in sink for sink in told(handle))
    assert KEY not in fleet.worker.output()


def _all_bytes(redis: Any, job_id: str) -> list[bytes]:
    """The job's hash and stream as they are stored."""
    record = redis.hgetall(f"agentherd:job:{job_id}")
    events = redis.xrange(f"agentherd:job:{job_id}:events")
    return [*record.values(), *(value for _id, entry in events for value in entry.values())]
