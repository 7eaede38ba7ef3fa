"""Checks on JSON Schemas that a job brings along."""

import json

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from agentherd.contract.base import Json, KiB

MAX_SCHEMA_BYTES = 64 * KiB
"""It goes to the CLI as one argument, and Linux ends those at 128 KiB (SDK issue 267)."""


def check_output_schema(schema: dict[str, Json]) -> dict[str, Json]:
    """Return `schema` if the CLI can enforce it.

    Raises:
        ValueError: not a JSON Schema, not an object at the top, or too large.
    """
    size_bytes = len(json.dumps(schema))
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
