"""Every limit of a job: what breaks it is refused before anything is sent, field by field."""

import math
from datetime import datetime
from typing import Any
from uuid import uuid4

import pytest

from agentherd import (
    FailureKind,
    ForkSession,
    InputFile,
    InvalidJob,
    Job,
    RemoteServer,
    ResumeSession,
    StdioServer,
    Subagent,
    SystemPrompt,
)
from agentherd.contract.base import KiB, MiB
from agentherd.contract.job import check_job_id
from agentherd.errors import Problem

SAME = str(uuid4())
AGENT = {"description": "d", "prompt": "p"}
HTTP = {"type": "http", "url": "https://docs.example/mcp"}
SCHEMA = {"type": "object"}


def nested(depth: int) -> dict[str, Any]:
    """A JSON Schema with so many objects in each other."""
    schema: dict[str, Any] = {}
    for _ in range(depth):
        schema = {"not": schema}
    return {"type": "object", **schema}


def problems(**fields: Any) -> tuple[Problem, ...]:
    """What is wrong with a job of these fields."""
    with pytest.raises(InvalidJob) as caught:
        Job(**{"prompt": "x", **fields})
    return caught.value.problems


# field given, its value, the field named as wrong, part of what is said about it
REFUSED = [
    ("prompt", "", "prompt", "at least 1 character"),
    ("prompt", " \n\t", "prompt", "must not be blank"),
    ("prompt", "x" * (512 * KiB + 1), "prompt", "at most 524288 characters"),
    ("prompt", "a\0b", "prompt", "NUL at character 1"),
    ("prompt", "\ud83d", "prompt", "unicode"),
    ("prompt", 3, "prompt", "valid string"),
    ("prompt", None, "prompt", "valid string"),
    ("system_prompt", "", "system_prompt.text", "at least 1 character"),
    ("system_prompt", "x" * (256 * KiB + 1), "system_prompt.text", "at most 262144 characters"),
    ("system_prompt", "\0", "system_prompt.text", "NUL"),
    ("system_prompt", {"text": "x", "mode": "prepend"}, "system_prompt.mode", "'append'"),
    ("model", "", "model", "a model id or alias"),
    ("model", "-x", "model", "a model id or alias"),
    ("model", "m" * 129, "model", "1-128 characters"),
    ("model", "a b", "model", "a model id or alias"),
    ("fallback_model", "a\0", "fallback_model", "a model id or alias"),
    ("effort", "huge", "effort", "'low'"),
    ("allowed_tools", ["a,b"], "allowed_tools.0", "without comma"),
    ("allowed_tools", [""], "allowed_tools.0", "a tool rule"),
    ("allowed_tools", ["T" * 257], "allowed_tools.0", "1-256 characters"),
    ("allowed_tools", ["Read Write"], "allowed_tools.0", "a tool rule"),
    ("allowed_tools", ["Bash(git"], "allowed_tools.0", "a tool rule"),
    ("allowed_tools", ["Bash(git *) Write"], "allowed_tools.0", "a tool rule"),
    ("allowed_tools", ["--mcp-config"], "allowed_tools.0", "a tool rule"),
    ("allowed_tools", ["Read", "Bash(\0)"], "allowed_tools.1", "NUL"),
    ("allowed_tools", "Read", "allowed_tools", "valid tuple"),
    ("allowed_tools", [f"T{n}" for n in range(257)], "allowed_tools", "at most 256 items"),
    ("allowed_tools", [f"T{'🐑' * 200}{n}" for n in range(200)], "allowed_tools", "at most 131071"),
    ("disallowed_tools", ["a)"], "disallowed_tools.0", "a tool rule"),
    (
        "disallowed_tools",
        [f"T{'🐑' * 200}{n}" for n in range(200)],
        "disallowed_tools",
        "bytes together",
    ),
    ("permission_mode", "yolo", "permission_mode", "'dontAsk'"),
    ("max_turns", 0, "max_turns", "greater than or equal to 1"),
    ("max_turns", 10_001, "max_turns", "less than or equal to 10000"),
    ("max_turns", 1.5, "max_turns", "integer"),
    ("max_budget_usd", 0, "max_budget_usd", "greater than 0"),
    ("max_budget_usd", 10_001, "max_budget_usd", "less than or equal to 10000"),
    ("max_budget_usd", math.nan, "max_budget_usd", "finite"),
    ("timeout_s", 0, "timeout_s", "greater than 0"),
    ("timeout_s", 604_801, "timeout_s", "less than or equal to 604800"),
    ("timeout_s", math.inf, "timeout_s", "finite"),
    ("idle_timeout_s", -1, "idle_timeout_s", "greater than 0"),
    ("idle_timeout_s", 86_401, "idle_timeout_s", "less than or equal to 86400"),
    ("output_schema", {}, "output_schema", '"type": "object"'),
    ("output_schema", {"type": "array"}, "output_schema", '"type": "object"'),
    ("output_schema", {"type": "object", "required": 3}, "output_schema", "not a JSON Schema: req"),
    ("output_schema", SCHEMA | {"title": "x" * 64 * KiB}, "output_schema", "at most 65536"),
    ("output_schema", SCHEMA | {"default": {1}}, "output_schema", "not JSON"),
    ("output_schema", SCHEMA | {"default": math.nan}, "output_schema", "not JSON"),
    ("output_schema", nested(65), "output_schema", "nested more than 64 deep"),
    ("output_schema", nested(5000), "output_schema", "nested more than 64 deep"),
    ("output_schema", "{}", "output_schema", "valid dictionary"),
    ("mcp_servers", {"a b": HTTP}, "mcp_servers.a b.[key]", "1-64 letters"),
    ("mcp_servers", {"s": {"command": ""}}, "mcp_servers.s.stdio.command", "at least 1"),
    ("mcp_servers", {"s": {"command": "c\0"}}, "mcp_servers.s.stdio.command", "NUL"),
    ("mcp_servers", {"s": {"command": "c" * 1025}}, "mcp_servers.s.stdio.command", "at most 1024"),
    (
        "mcp_servers",
        {"s": {"command": "c", "args": ["\0"]}},
        "mcp_servers.s.stdio.args.0",
        "NUL",
    ),
    (
        "mcp_servers",
        {"s": {"command": "c", "args": ["é" * (16 * KiB) + "x"]}},
        "mcp_servers.s.stdio.args.0",
        "32769 bytes; at most 32768",
    ),
    (
        "mcp_servers",
        {"s": {"command": "c", "args": ["x"] * 65}},
        "mcp_servers.s.stdio.args",
        "at most 64",
    ),
    (
        "mcp_servers",
        {"s": {"command": "c", "env": {"A=": "x"}}},
        "mcp_servers.s.stdio.env.A=.[key]",
        "a name for an environment variable",
    ),
    (
        "mcp_servers",
        {"s": {"command": "c", "env": {"A": "\0"}}},
        "mcp_servers.s.stdio.env.A",
        "NUL",
    ),
    ("mcp_servers", {"s": {"type": "ws"}}, "mcp_servers.s", "'stdio'"),
    ("mcp_servers", {"s": HTTP | {"url": "ftp://x"}}, "mcp_servers.s.http.url", "http or https"),
    (
        "mcp_servers",
        {"s": HTTP | {"headers": {"A B": "x"}}},
        "mcp_servers.s.http.headers.A B.[key]",
        "the name of an HTTP header",
    ),
    (
        "mcp_servers",
        {"s": HTTP | {"headers": {"A": "s3cret\r\nB: c"}}},
        "mcp_servers.s.http.headers.A",
        "one line",
    ),
    ("mcp_servers", {"s": HTTP | {"headers": {"A": "€"}}}, "mcp_servers.s.http.headers.A", "Latin"),
    ("mcp_servers", {f"s{n}": HTTP for n in range(33)}, "mcp_servers", "at most 32"),
    (
        "mcp_servers",
        {f"s{n}": {"command": "c", "args": ["x" * 32_000]} for n in range(9)},
        "mcp_servers",
        "at most 262144",
    ),
    ("subagents", {"": AGENT}, "subagents..[key]", "1-64 letters"),
    ("subagents", {"a": AGENT | {"description": ""}}, "subagents.a.description", "at least 1"),
    (
        "subagents",
        {"a": AGENT | {"description": "d" * 4097}},
        "subagents.a.description",
        "at most 4096",
    ),
    ("subagents", {"a": AGENT | {"prompt": "p" * 65537}}, "subagents.a.prompt", "at most 65536"),
    ("subagents", {"a": AGENT | {"prompt": "\0"}}, "subagents.a.prompt", "NUL"),
    ("subagents", {"a": AGENT | {"tools": ["a b"]}}, "subagents.a.tools.0", "a tool rule"),
    ("subagents", {"a": AGENT | {"tools": ["T"] * 129}}, "subagents.a.tools", "at most 128"),
    ("subagents", {"a": AGENT | {"model": "?"}}, "subagents.a.model", "a model id"),
    ("subagents", {"a": AGENT | {"max_turns": 0}}, "subagents.a.max_turns", "equal to 1"),
    ("subagents", {f"a{n}": AGENT for n in range(33)}, "subagents", "at most 32"),
    ("env", {"1A": "x"}, "env.1A.[key]", "a name for an environment variable"),
    ("env", {"A": "x" * (32 * KiB + 1)}, "env.A", "at most 32768"),
    ("env", {"A": "é" * (16 * KiB) + "x"}, "env.A", "32769 bytes; at most 32768"),
    ("env", {"A": "\0"}, "env.A", "NUL"),
    ("env", {"A": "\udc00"}, "env.A", "lone surrogate"),
    ("env", {f"A{n}": "" for n in range(65)}, "env", "at most 64"),
    ("env", {f"A{n}": "x" * 32 * KiB for n in range(9)}, "env", "bytes together; at most 262144"),
    *(
        ("env", {name: "x"}, "env", f"{name}: set by the worker")
        for name in ("PATH", "HOME", "LD_PRELOAD", "ANTHROPIC_API_KEY", "CLAUDE_CODE_X", "ENV")
    ),
    ("files", [{"path": "a"}], "files.0", "exactly one of"),
    ("files", [{"path": "a", "text": "", "base64": ""}], "files.0", "exactly one of"),
    ("files", [{"path": "a", "base64": "!"}], "files.0", "not valid base64"),
    ("files", {"a": 3}, "files.0.text", "valid string"),
    ("files", {"a": None}, "files.0", "exactly one of"),
    ("files", {"a": "\ud800"}, "files.0.text", "lone surrogate"),
    ("files", {f"f{n}": "" for n in range(1001)}, "files", "at most 1000"),
    ("files", {"a": b"x" * (8 * MiB), "b": "x"}, "files", "8388609 bytes together; at most"),
    ("files", [InputFile.of("a", "1"), InputFile.of("a", "2")], "files", "more than once: a"),
    ("files", {"a": "", "a/b": ""}, "files", "a file and a folder of other files: a"),
    ("files", {"a/b": "", "a/b/c/d": ""}, "files", "a file and a folder of other files: a/b"),
    ("artifacts", ["*"] * 65, "artifacts", "at most 64"),
    ("tenant", "", "tenant", "1-63 lower-case"),
    ("tenant", "A", "tenant", "1-63 lower-case"),
    ("tenant", "../x", "tenant", "1-63 lower-case"),
    ("tenant", "t" * 64, "tenant", "1-63 lower-case"),
    ("session", {"kind": "copy"}, "session", "'new'"),
    ("session", {"kind": "resume"}, "session.resume.id", "required"),
    ("session", {"kind": "resume", "id": "x"}, "session.resume.id", "UUID"),
    ("session", {"kind": "fork", "id": SAME, "new_id": SAME}, "session.fork.new_id", "differ"),
    ("memory", "4m", "memory", "whole GiB"),
    ("memory", "0g", "memory", "whole GiB"),
    ("priority", -1, "priority", "greater than or equal to 0"),
    ("priority", 10, "priority", "less than or equal to 9"),
    ("not_before", datetime(2030, 1, 1), "not_before", "timezone"),  # noqa: DTZ001
    ("expires_s", 0, "expires_s", "greater than 0"),
    ("expires_s", 2_592_001, "expires_s", "less than or equal to 2592000"),
    ("idempotency_key", "", "idempotency_key", "1-128 printable ASCII"),
    ("idempotency_key", "a b", "idempotency_key", "1-128 printable ASCII"),
    ("idempotency_key", "k" * 129, "idempotency_key", "1-128 printable ASCII"),
    ("metadata", {"a b": "x"}, "metadata.a b.[key]", "1-64 letters"),
    ("metadata", {"a": "x" * 1025}, "metadata.a", "at most 1024"),
    ("metadata", {"a": 1}, "metadata.a", "valid string"),
    ("metadata", {f"m{n}": "" for n in range(33)}, "metadata", "at most 32"),
    ("retry", {"max_attempts": 0}, "retry.max_attempts", "equal to 1"),
    ("retry", {"max_attempts": 21}, "retry.max_attempts", "equal to 20"),
    ("retry", {"backoff_s": -1}, "retry.backoff_s", "equal to 0"),
    ("retry", {"backoff_s": 3601}, "retry.backoff_s", "equal to 3600"),
    ("retry", {"max_backoff_s": 86_401}, "retry.max_backoff_s", "equal to 86400"),
    ("retry", {"kinds": ["refused", "crashed"]}, "retry.kinds", "refused: another attempt can't"),
    ("retry", {"kinds": ["bad luck"]}, "retry.kinds.0", "'crashed'"),
    ("retry", {"times": 3}, "retry.times", "no such field"),
    ("promt", "x", "promt", "no such field; check its spelling"),
    ("self", "x", "self", "no such field; check its spelling"),
]


@pytest.mark.parametrize(("given", "value", "field", "said"), REFUSED)
def test_a_wrong_field_is_named_with_what_is_allowed(
    given: str, value: Any, field: str, said: str
) -> None:
    (problem,) = problems(**{given: value})
    assert problem.field == field
    assert said.lower() in problem.message.lower()
    assert "s3cret" not in problem.message


def test_every_field_has_a_limit_that_is_tested() -> None:
    assert {given for given, *_ in REFUSED} >= Job.model_fields.keys()


def test_all_that_is_wrong_is_said_at_once() -> None:
    fields = {"prompt": "", "max_turns": 0, "tenant": "T", "files": {"/a": "", "b/../c": ""}}
    with pytest.raises(InvalidJob) as caught:
        Job(**fields, surprise=1)  # type: ignore[call-arg]
    named = [problem.field for problem in caught.value.problems]
    assert sorted(named) == sorted(
        ["prompt", "max_turns", "tenant", "files.0.path", "files.1.path", "surprise"]
    )
    text = str(caught.value)
    assert text.startswith("6 invalid job field(s):")
    assert all(f"\n  {field}: " in text for field in named)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"model": "sonnet", "fallback_model": "sonnet"}, "fallback_model"),
        ({"allowed_tools": ["Bash", "Read"], "disallowed_tools": ["Read"]}, "disallowed_tools"),
    ],
)
def test_fields_that_contradict_each_other_are_refused(fields: dict[str, Any], field: str) -> None:
    (problem,) = problems(**fields)
    assert problem.field == field


def test_contradictions_are_found_next_to_other_problems() -> None:
    found = problems(prompt="", allowed_tools=["Read"], disallowed_tools=["Read"])
    assert [problem.field for problem in found] == ["prompt", "disallowed_tools"]


@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "x" * 512 * KiB},
        {"system_prompt": SystemPrompt(text="x" * 256 * KiB, mode="replace")},
        {"model": "arn:aws:bedrock/eu.claude-x@20260101[1m]", "fallback_model": "haiku"},
        {"allowed_tools": ["*", "Bash(git log *)", "mcp__docs__*", "WebFetch(domain:example.com)"]},
        {"allowed_tools": ["Read"], "disallowed_tools": ["Read(./secrets/**)"]},
        {"max_turns": 10_000, "max_budget_usd": 10_000, "timeout_s": 604_800},
        {"output_schema": nested(63)},
        {"mcp_servers": {"s": StdioServer(command="c", args=("x" * 32 * KiB,))}},
        {"mcp_servers": {"s": {"command": "without a type it is stdio"}}},
        {"mcp_servers": {"s": RemoteServer(type="sse", url="http://h", headers={"A": "ü"})}},
        {"subagents": {"a": Subagent(description="d", prompt="p" * 64 * KiB, tools=())}},
        {"env": {f"A{n}": "x" * 32_000 for n in range(8)}},
        {"files": {"a/b": "", "a/c": "", "ab": "\0"}},
        {"files": {"a": b"x" * 8 * MiB}},
        {"session": ResumeSession(id=SAME)},
        {"session": ForkSession(id=SAME, new_id=uuid4())},
        {"tenant": "t" * 63, "memory": "999g", "priority": 9},
        {"idempotency_key": "~" * 128},
        {"metadata": {"m" * 64: "x" * 1024}},
        {"retry": {"max_attempts": 20, "kinds": []}},
    ],
)
def test_what_is_just_within_the_limits_is_accepted(fields: dict[str, Any]) -> None:
    job = Job(**{"prompt": "x", **fields})
    assert job == Job(**{"prompt": "x", **fields})


@pytest.mark.parametrize(
    "make",
    [
        lambda: InputFile(path="../x", text=""),
        lambda: InputFile.of("/etc/passwd", b""),
        lambda: SystemPrompt(text=""),
        lambda: Subagent(description="", prompt="x"),
        lambda: StdioServer(command="\0"),
        lambda: RemoteServer(type="http", url="nowhere"),
    ],
)
def test_the_parts_of_a_job_refuse_like_the_job(make: Any) -> None:
    with pytest.raises(InvalidJob) as caught:
        make()
    assert len(caught.value.problems) == 1


def test_a_job_is_frozen() -> None:
    job = Job(prompt="x")
    with pytest.raises(ValueError, match="frozen"):
        job.prompt = "y"  # type: ignore[misc]


def test_only_what_another_attempt_can_cure_is_retried() -> None:
    kinds = Job(prompt="x").retry.kinds
    assert FailureKind.CRASHED in kinds
    assert not kinds & {FailureKind.BILLING, FailureKind.REFUSED, FailureKind.BUDGET_EXCEEDED}


@pytest.mark.parametrize("job_id", ["a", "A.b_c-9", "x" * 128])
def test_ids_that_can_name_a_job(job_id: str) -> None:
    assert check_job_id(job_id) == job_id


@pytest.mark.parametrize("job_id", ["", "x" * 129, "a:events", "-a", ".a", "a b", "ä", "a\n"])
def test_ids_that_could_name_another_key_are_refused(job_id: str) -> None:
    with pytest.raises(InvalidJob, match="1-128 letters"):
        check_job_id(job_id)
