"""Jobs, results and events on the wire: nothing is lost, and every released form is read.

The golden files are promises: one that has been released never changes. What a newer
agentherd adds gets new files.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given

from agentherd import (
    EventKind,
    InputFile,
    InvalidJob,
    Job,
    JobEvent,
    JobResult,
    NewSession,
    ResumeSession,
    UnknownWireVersion,
    Usage,
)
from agentherd.contract.base import MiB
from agentherd.contract.job import MAX_JOB_BYTES
from agentherd.contract.wire import (
    WIRE_VERSION,
    decode_job,
    encode_job,
    job_from_wire,
    job_to_wire,
)
from support import jobs

GOLDEN = Path(__file__).parent.parent / "golden" / "wire_v1"


def golden(name: str) -> Any:
    """A released document."""
    return json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8"))


@given(jobs.jobs)
def test_a_job_survives_the_wire(job: Job) -> None:
    text = encode_job(job)
    read = decode_job(text)
    assert read == job
    assert encode_job(read) == text
    assert text.isascii()


@pytest.mark.parametrize(
    ("name", "job"),
    [("job_minimal", Job(prompt="Say hello.")), ("job_full", jobs.full_job())],
)
def test_golden_jobs_are_read_and_written(name: str, job: Job) -> None:
    document = golden(name)
    assert job_from_wire(document) == job
    assert json.loads(encode_job(job)) == document


def test_the_full_job_uses_every_field() -> None:
    assert golden("job_full").keys() == Job.model_fields.keys() | {"version"}


def test_a_golden_job_of_a_plain_celery_client_is_read() -> None:
    document = golden("job_plain_celery")
    assert "version" not in document
    job = job_from_wire(document)
    assert job.files == (InputFile(path="README.md", text="# Hello"),)
    assert job.system_prompt is not None
    assert job.system_prompt.mode == "append"
    assert isinstance(job.session, ResumeSession)
    assert job_from_wire(json.loads(encode_job(job))) == job


def test_a_golden_result_is_read_and_written() -> None:
    document = golden("result")
    result = JobResult.model_validate(document)
    assert result.model_dump(mode="json") == document
    assert document.keys() == JobResult.model_fields.keys()
    assert result.failure is not None
    assert result.usage.by_model["sonnet"].output_tokens == 20


def test_a_golden_event_is_read_and_written() -> None:
    document = golden("event")
    event = JobEvent.model_validate(document)
    assert event.kind is EventKind.TOOL_STARTED
    assert event.model_dump(mode="json") == document


def test_what_a_newer_agentherd_adds_to_a_result_is_ignored() -> None:
    document = golden("result") | {"colour": "green"}
    document["failure"]["severity"] = 3
    assert JobResult.model_validate(document) == JobResult.model_validate(golden("result"))


def test_an_event_of_a_newer_agentherd_keeps_its_kind() -> None:
    assert JobEvent.model_validate(golden("event") | {"kind": "levitated"}).kind == "levitated"


@pytest.mark.parametrize("version", [0, 2, "1", None, True, [1]])
def test_an_unknown_version_is_refused_as_such(version: Any) -> None:
    with pytest.raises(UnknownWireVersion, match=f"reads {WIRE_VERSION}"):
        job_from_wire({"version": version, "prompt": "x"})


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", '"x"', "[" * 100_000, b"\xff", '{"self": 1}', "{}"]
)
def test_what_is_no_job_is_refused(text: str | bytes) -> None:
    with pytest.raises(InvalidJob):
        decode_job(text)


def test_a_job_over_the_limit_is_refused() -> None:
    job = Job(prompt="x", files={"a": "\0" * (MAX_JOB_BYTES // 6)})
    with pytest.raises(InvalidJob, match="bytes encoded; at most 12582912"):
        encode_job(job)


def test_the_largest_binary_files_fit() -> None:
    job = Job(prompt="x", files={"a": b"\xff" * 8 * MiB})
    assert decode_job(encode_job(job)) == job


def test_defaults_are_left_out() -> None:
    assert job_to_wire(Job(prompt="x")) == {"version": 1, "prompt": "x"}
    assert job_to_wire(Job(prompt="x", session=NewSession()))["prompt"] == "x"


def test_the_order_of_names_does_not_matter() -> None:
    one = Job(prompt="x", metadata={"a": "1", "b": "2"}, env={"X": "", "W": ""})
    other = Job(prompt="x", metadata={"b": "2", "a": "1"}, env={"W": "", "X": ""})
    assert encode_job(one) == encode_job(other)


def test_the_order_of_an_output_schema_is_kept() -> None:
    """The agent fills the properties in their order: first the reasoning, then the answer."""
    read = decode_job(encode_job(jobs.full_job()))
    assert read.output_schema is not None
    assert list(read.output_schema["properties"]) == ["reasoning", "answer"]


def test_every_process_writes_the_same_text() -> None:
    """A set's order depends on the process; two of them submit the same job as the same."""
    program = (
        "from support.jobs import full_job; from agentherd.contract.wire import encode_job;"
        "print(encode_job(full_job()))"
    )
    tests = Path(__file__).parent.parent
    for seed in ("1", "2"):
        written = subprocess.run(
            [sys.executable, "-c", program],
            cwd=tests,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert written.stdout.strip() == encode_job(jobs.full_job())


@given(jobs.text, jobs.text)
def test_a_result_can_hold_whatever_an_agent_says(before: str, after: str) -> None:
    """Half of a character, cut in two by a tool or the model, must not lose the result."""
    result = JobResult(
        job_id="a",
        state="failed",
        session_id="s",
        text=f"{before}\ud83d{after}",
        structured_output={"list": [f"{before}\udc11"], "\ud83d": 1.5},
    )
    read = JobResult.model_validate_json(result.model_dump_json())
    assert read == result
    assert read.text == f"{before}\ufffd{after}"
    assert read.structured_output == {"list": [f"{before}\ufffd"], "\ufffd": 1.5}


def test_two_halves_of_a_character_become_one() -> None:
    result = JobResult(job_id="a", state="failed", session_id="s", text="\ud83d\udc11")
    assert result.text == "🐑"


def test_unknown_fields_of_usage_are_ignored_and_defaults_are_zero() -> None:
    assert Usage.model_validate({"later": 1}) == Usage()
