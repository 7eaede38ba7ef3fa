"""What is a message, and what would end a worker that took it for one."""

import json
from base64 import b64encode
from typing import Any

import pytest

from agentherd.layout.messages import task_message
from agentherd_workers.poison import MAX_DEPTH, MAX_MESSAGE_BYTES, Poison, depth_over, read_message


def changed(**changes: Any) -> bytes:
    """A good message but for these fields of it; `a__b` is field b of a."""
    message = json.loads(task_message("job-1", "agents", 3, "{}"))
    for path, value in changes.items():
        *outer, name = path.split("__")
        place = message
        for part in outer:
            place = place[part]
        place[name.replace("_of_", "-")] = value
    return json.dumps(message).encode()


def with_body(value: Any) -> bytes:
    """A good message but for its body."""
    return changed(body=b64encode(json.dumps(value).encode()).decode())


def nested(depth: int) -> Any:
    """Lists in lists."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


GOOD_REST: list[Any] = [{}, {}]
POISON = {
    "not JSON": (b"\x00 hello", "the message is not JSON"),
    "not UTF-8": (b'{"body": "\xff\xfe"}', "the message is not JSON"),
    "no object": (b"[1, 2]", "the message is not a JSON object"),
    "no envelope": (b'{"prompt": "x"}', "properties is not"),
    "nested too deeply": (b"[" * 200_000, "nested too deeply"),
    "types that kombu can't rebuild": (
        b'{"a": {"__type__": "datetime", "__value__": 5}}', "the message is not JSON",
    ),
    "huge": (b" " * (MAX_MESSAGE_BYTES + 1), "at most"),
    "no delivery info": (changed(properties__delivery_info=None), "properties.delivery_info"),
    "no delivery tag": (changed(properties__delivery_tag=None), "properties.delivery_tag"),
    "no headers": (changed(headers=None), "headers is not"),
    "no id": (changed(headers__id=None), "headers.id"),
    "an id that is no text": (changed(headers__id={"a": 1}), "headers.id"),
    "an endless id": (changed(headers__id="x" * 2000), "headers.id"),
    "no task": (changed(headers__task=None), "headers.task"),
    "a shadow that is no text": (changed(headers__shadow=[1]), "headers.shadow"),
    "limits that are none": (changed(headers__timelimit=5), "headers.timelimit"),
    "compressed": (changed(headers__compression="application/x-gzip"), "compressed"),
    "pickle": (changed(content_of_type="application/x-python-serialize"), "only JSON"),
    "yaml": (changed(content_of_type="application/x-yaml"), "only JSON"),
    "another charset": (changed(content_of_encoding="utf-7"), "only JSON"),
    "no body": (changed(body=None), "no body"),
    "bad base64": (changed(body="a"), "no base64"),
    "another encoding of the body": (changed(properties__body_encoding="rot13"), "no body"),
    "a body that is no JSON": (
        changed(body=b64encode(b"{").decode()), "the body is not JSON",
    ),
    "a body of another protocol": (with_body({"args": []}), "task protocol 2"),
    "arguments that are none": (with_body([5, {}, {}]), "task protocol 2"),
    "a bomb in the arguments": (with_body([nested(MAX_DEPTH), *GOOD_REST]), "nested more than"),
}  # fmt: skip


def test_ours_are_messages() -> None:
    assert read_message(changed())["headers"]["id"] == "job-1"
    assert read_message(with_body([[nested(MAX_DEPTH - 5)], *GOOD_REST]))
    assert read_message(changed(properties__body_encoding=None, body="[[], {}, null]"))


@pytest.mark.parametrize("name", POISON)
def test_poison(name: str) -> None:
    raw, reason = POISON[name]
    with pytest.raises(Poison, match=reason):
        read_message(raw)


def test_depth() -> None:
    assert not depth_over(1, 0)
    assert not depth_over({"a": [1]}, 2)
    assert depth_over({"a": [1]}, 1)
    assert depth_over({"a": {"b": {"c": 1}}}, 2)
