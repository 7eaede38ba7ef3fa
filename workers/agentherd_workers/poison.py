"""Whether what was popped from a queue is a Celery message at all. Pure.

kombu and Celery trust what they find in Redis: a text that is not JSON, a header that is
missing or a body of another shape raises in the worker's event loop, and ends the worker. So
everything that they rely on is looked at here, before they see the message.
"""

from base64 import b64decode
from typing import Any, TypeGuard

from kombu.utils.json import loads

from agentherd.contract.base import KiB, MiB
from agentherd.contract.job import MAX_JOB_BYTES

MAX_MESSAGE_BYTES = 2 * MAX_JOB_BYTES + 8 * MiB
"""A job in base64, with room for a client that writes it less tightly than we do."""
MAX_DEPTH = 200
"""Nesting of a body: Python gives up at some depth, but not at the same one everywhere."""
_MAX_ID_BYTES = KiB
_MAX_SHOWN = 200

Message = dict[str, Any]


class Poison(ValueError):
    """No Celery message; says why."""


def read_message(raw: bytes) -> Message:
    """The envelope of a message that kombu and Celery can handle.

    Raises:
        Poison: they can't; says why.
    """
    if len(raw) > MAX_MESSAGE_BYTES:
        raise Poison(f"{len(raw)} bytes; at most {MAX_MESSAGE_BYTES}")
    message = _object(_json(raw, "the message"), "the message")
    properties = _object(message.get("properties"), "properties")
    place = _object(properties.get("delivery_info"), "properties.delivery_info")
    _text(place.get("exchange"), "properties.delivery_info.exchange", empty=True)
    _text(place.get("routing_key"), "properties.delivery_info.routing_key")
    _text(properties.get("delivery_tag"), "properties.delivery_tag")
    _check_headers(_object(message.get("headers"), "headers"))
    _check_content(message, properties.get("body_encoding"))
    return message


def _check_headers(headers: Message) -> None:
    for name in ("id", "task"):
        _text(headers.get(name), f"headers.{name}")
    for name in ("shadow", "root_id", "parent_id", "group", "argsrepr", "kwargsrepr", "origin"):
        if not isinstance(headers.get(name), str | None):
            raise Poison(f"headers.{name} is not text")
    if headers.get("compression"):
        # A few KiB may stand for many GiB.
        raise Poison("compressed; send jobs uncompressed (task_compression)")
    limits = headers.get("timelimit")
    if limits and not _is_pair_of_numbers(limits):
        raise Poison("headers.timelimit is not a pair of numbers")


def _check_content(message: Message, body_encoding: Any) -> None:
    kind, charset = message.get("content-type"), message.get("content-encoding")
    if kind != "application/json" or str(charset).lower() not in ("utf-8", "us-ascii", "ascii"):
        raise Poison(f"content {kind!r} in {charset!r}; only JSON in UTF-8 is read"[:_MAX_SHOWN])
    body = message.get("body")
    if not isinstance(body, str) or body_encoding not in (None, "base64"):
        raise Poison("no body, or in an encoding other than base64")
    if body_encoding == "base64":
        try:
            content = b64decode(body)
        except ValueError as error:
            raise Poison(f"the body is no base64: {error}") from None
    else:
        content = body.encode(errors="replace")
    parts = _json(content, "the body")
    match parts:
        case [list(), dict(), dict() | None]:
            pass
        case _:
            raise Poison("the body is not [args, kwargs, embed] (task protocol 2)")
    if depth_over(parts, MAX_DEPTH):
        raise Poison(f"the body is nested more than {MAX_DEPTH} deep")


def depth_over(value: Any, limit: int) -> bool:
    """Whether lists and objects are nested deeper than `limit`."""
    layer = [value]
    for _ in range(limit + 1):
        layer = [
            inner
            for outer in layer
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not layer:
            return False
    return True


def _json(raw: bytes, what: str) -> Any:
    try:
        return loads(raw)
    except RecursionError:
        raise Poison(f"{what} is nested too deeply") from None
    except Exception as error:  # kombu rebuilds types from JSON, of which each may raise anything
        raise Poison(f"{what} is not JSON: {error}"[:_MAX_SHOWN]) from None


def _object(value: Any, what: str) -> Message:
    if not isinstance(value, dict):
        raise Poison(f"{what} is not a JSON object")
    return value


def _text(value: Any, what: str, *, empty: bool = False) -> None:
    if not isinstance(value, str) or (not value and not empty):
        raise Poison(f"{what} is missing, or not text")
    if len(value.encode(errors="replace")) > _MAX_ID_BYTES:
        raise Poison(f"{what} is longer than {_MAX_ID_BYTES} bytes")


def _is_pair_of_numbers(value: Any) -> TypeGuard[list[float | None]]:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(limit is None or isinstance(limit, int | float) for limit in value)
    )
