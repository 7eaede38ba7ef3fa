"""Jobs to test with: random ones for hypothesis, and one that uses every field."""

import string
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from agentherd import (
    ForkSession,
    InputFile,
    InvalidJob,
    Job,
    NewSession,
    RemoteServer,
    ResumeSession,
    RetryPolicy,
    StdioServer,
    Subagent,
    SystemPrompt,
)
from agentherd.contract.failures import RETRYABLE

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
some_text = text.filter(lambda value: bool(value.strip()))
names = st.text(string.ascii_letters + string.digits, min_size=1, max_size=8)
parts = st.text(string.ascii_letters + "äß.-_ ", min_size=1, max_size=8)
rules = st.sampled_from(["Read", "Bash(git *)", "mcp__docs__*", "WebFetch(domain:x.example)"])
whole_minutes = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))


def _accepted(make: Any) -> Any:
    """What `make` accepts of random parts; the rest is another test's."""

    def attempt(arguments: Any) -> Any:
        try:
            return make(arguments)
        except InvalidJob:
            return None

    return attempt


files = (
    st.dictionaries(
        st.lists(parts, min_size=1, max_size=3).map("/".join), text | st.binary(max_size=20)
    )
    .map(_accepted(lambda tree: Job(prompt="x", files=tree).files))
    .filter(lambda found: found is not None)
)
servers = st.builds(
    StdioServer,
    command=st.text(string.ascii_letters, min_size=1),
    args=st.lists(text, max_size=3).map(tuple),
    env=st.dictionaries(names.map(lambda name: f"S_{name}"), text, max_size=2),
) | st.builds(
    RemoteServer,
    type=st.sampled_from(["http", "sse"]),
    url=names.map(lambda host: f"https://{host}/mcp"),
    headers=st.dictionaries(names, names, max_size=2),
)
sessions = (
    st.builds(NewSession, id=st.none() | st.uuids())
    | st.builds(ResumeSession, id=st.uuids())
    | st.tuples(st.uuids(), st.uuids())
    .filter(lambda ids: ids[0] != ids[1])
    .map(lambda ids: ForkSession(id=ids[0], new_id=ids[1]))
)

jobs = st.builds(
    Job,
    prompt=some_text,
    system_prompt=st.none()
    | st.builds(SystemPrompt, text=some_text, mode=st.sampled_from(["append", "replace"])),
    model=st.none() | st.just("sonnet"),
    fallback_model=st.none() | st.just("haiku"),
    effort=st.none() | st.sampled_from(["low", "max"]),
    allowed_tools=st.lists(rules, max_size=3).map(tuple),
    max_turns=st.integers(1, 10_000),
    max_budget_usd=st.floats(0.001, 10_000),
    timeout_s=st.floats(0.1, 604_800),
    output_schema=st.none()
    | st.dictionaries(names, st.just({"type": "string"}), max_size=4).map(
        lambda properties: {"type": "object", "properties": properties}
    ),
    mcp_servers=st.dictionaries(names, servers, max_size=2),
    subagents=st.dictionaries(
        names, st.builds(Subagent, description=some_text, prompt=some_text), max_size=2
    ),
    env=st.dictionaries(names.map(lambda name: f"X_{name}"), text, max_size=3),
    files=files,
    session=sessions,
    priority=st.integers(0, 9),
    not_before=st.none() | st.datetimes(timezones=whole_minutes),
    expires_s=st.none() | st.floats(0.1, 2_592_000),
    metadata=st.dictionaries(names, text, max_size=3),
    retry=st.builds(
        RetryPolicy,
        max_attempts=st.integers(1, 20),
        kinds=st.frozensets(st.sampled_from(sorted(RETRYABLE))),
    ),
)


def full_job() -> Job:
    """A job in which every field differs from its default."""
    return Job(
        prompt="Fix the failing test.",
        system_prompt=SystemPrompt(text="You are terse.", mode="replace"),
        model="sonnet",
        fallback_model="haiku",
        effort="high",
        allowed_tools=("Read", "Bash(git *)"),
        disallowed_tools=("WebFetch",),
        permission_mode="acceptEdits",
        max_turns=20,
        max_budget_usd=1.5,
        timeout_s=600,
        idle_timeout_s=60,
        output_schema={
            "type": "object",
            "properties": {"reasoning": {"type": "string"}, "answer": {"type": "string"}},
            "required": ["reasoning", "answer"],
        },
        mcp_servers={
            "docs": RemoteServer(type="http", url="https://docs.example/mcp", headers={"X-A": "1"}),
            "local": StdioServer(command="serve", args=("--port", "0"), env={"LEVEL": "debug"}),
        },
        subagents={
            "reviewer": Subagent(
                description="Reviews code.",
                prompt="Look for bugs.",
                tools=("Read",),
                model="haiku",
                max_turns=5,
            )
        },
        env={"APP_MODE": "test"},
        files=(
            InputFile(path="README.md", text="# Grüße"),
            InputFile(path="bin/run", base64="AAEC/w==", executable=True),
        ),
        artifacts=("out/**", "*.patch"),
        tenant="team-a",
        session=ForkSession(
            id=UUID("11111111-1111-4111-8111-111111111111"),
            new_id=UUID("22222222-2222-4222-8222-222222222222"),
        ),
        memory="4g",
        priority=6,
        not_before=datetime(2030, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        expires_s=3600,
        idempotency_key="ticket-4711",
        metadata={"ticket": "4711"},
        retry=RetryPolicy(
            max_attempts=5,
            backoff_s=1,
            max_backoff_s=30,
            kinds=frozenset(sorted(RETRYABLE)[:3]),
        ),
    )
