"""How every model of the contract behaves: frozen, strict, errors as `InvalidJob`."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError

from agentherd.errors import Problem

Json = Any
"""Anything `json.loads` returns."""

KiB = 1024
MiB = 1024 * KiB


def matching(pattern: str, allowed: str) -> AfterValidator:
    """A check that a text is `allowed`, said in words a caller can act on."""
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError(f"{text[:80]!r} is not {allowed}")
        return text

    return AfterValidator(check)


ModelName = Annotated[
    str,
    matching(r"[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]{0,127}", "a model id or alias, 1-128 characters"),
]
ToolRule = Annotated[
    str, matching(r"[^,\x00-\x1f]{1,256}", "a tool rule: 1-256 characters without comma")
]
"""A tool name or rule (`Read`, `Bash(git *)`, `mcp__docs__search`): 1-256 characters, no comma."""


class Contract(BaseModel):
    """What is sent: frozen, and an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Report(BaseModel):
    """What comes back: frozen, and fields of a newer agentherd are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


def problems_of(error: ValidationError) -> list[Problem]:
    """Every problem of a validation error as (field, what is wrong)."""
    problems = []
    for detail in error.errors(include_url=False, include_context=False, include_input=False):
        field = ".".join(str(part) for part in detail["loc"]) or "job"
        message = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "extra_forbidden":
            message = "no such field; check its spelling"
        problems.append(Problem(field, message))
    return problems
