"""The model API key replaced wherever it stands, and nothing else touched."""

import json
from typing import Any

import pytest
from claude_agent_sdk import AssistantMessage, ToolUseBlock
from pydantic import SecretStr

from agentherd_workers.agent.outcome import Ending, Observed, Stop
from agentherd_workers.redaction import LEAST_SECRET_CHARS, PLACEHOLDER, Redaction

KEY = 'sk-ant-"quoted\\ß"-0123456789'
redact = Redaction(SecretStr(KEY))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (KEY, PLACEHOLDER),
        (f"a {KEY} b {KEY}", f"a {PLACEHOLDER} b {PLACEHOLDER}"),
        (json.dumps({"a": KEY}), json.dumps({"a": PLACEHOLDER})),
        (json.dumps([KEY], ensure_ascii=False), json.dumps([PLACEHOLDER])),
        ({KEY: [KEY, 1, None, True, 0.5]}, {PLACEHOLDER: [PLACEHOLDER, 1, None, True, 0.5]}),
        ((KEY,), (PLACEHOLDER,)),
        (KEY[:-1], KEY[:-1]),
    ],
)
def test_the_key_is_replaced_at_any_depth(value: Any, expected: Any) -> None:
    assert redact(value) == expected


def test_messages_and_observations_keep_their_types() -> None:
    message = AssistantMessage(
        content=[ToolUseBlock(id="t1", name="Bash", input={"command": f"echo {KEY}"})], model="m"
    )
    assert redact(message) == AssistantMessage(
        content=[ToolUseBlock(id="t1", name="Bash", input={"command": f"echo {PLACEHOLDER}"})],
        model="m",
    )
    seen = redact(Observed(stop=Stop.WALL, ending=Ending.EXITED, stderr=KEY))
    assert seen == Observed(stop=Stop.WALL, ending=Ending.EXITED, stderr=PLACEHOLDER)
    assert seen.stop is Stop.WALL


@pytest.mark.parametrize("key", [None, SecretStr(""), SecretStr("x" * (LEAST_SECRET_CHARS - 1))])
def test_without_a_key_worth_the_name_nothing_changes(key: SecretStr | None) -> None:
    value = {"text": "x" * 20}
    assert Redaction(key)(value) is value
