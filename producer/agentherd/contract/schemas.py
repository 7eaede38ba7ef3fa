"""Checks on JSON Schemas that a job brings along."""

import json

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from agentherd.contract.base import Json, KiB

MAX_SCHEMA_BYTES = 64 * KiB
"""It goes to the CLI as one argument, and Linux ends those at 128 KiB (SDK issue 267)."""


MAX_DEPTH = 64
"""Of objects and lists in each other; more ends in a recursion limit somewhere on the way."""


def check_output_schema(schema: dict[str, Json]) -> dict[str, Json]:
    """Return `schema` if the CLI can enforce it.

    Raises:
        ValueError: not JSON, not a JSON Schema, not an object at the top, or too large.
    """
    size_bytes = len(_encoded(schema))
    if size_bytes > MAX_SCHEMA_BYTES:
        raise ValueError(f"{size_bytes} bytes encoded; at most {MAX_SCHEMA_BYTES}")
    if schema.get("type") != "object":
        raise ValueError('must have "type": "object" at the top')
    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        where = ".".join(str(part) for part in error.absolute_path)
        raise ValueError(
            f"not a JSON Schema: {where + ': ' if where else ''}{error.message}"
        ) from None
    return schema


def _encoded(schema: dict[str, Json]) -> str:
    if _deeper_than(schema, MAX_DEPTH):
        raise ValueError(f"nested more than {MAX_DEPTH} deep")
    try:
        return json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"not JSON: {error}") from None


def _deeper_than(value: Json, levels: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list | tuple):
        return False
    return levels == 0 or any(_deeper_than(one, levels - 1) for one in inner)
