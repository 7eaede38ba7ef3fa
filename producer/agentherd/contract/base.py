"""How every model of the contract behaves: frozen, strict, errors as `InvalidJob`."""

import re
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import ErrorDetails

from agentherd.errors import InvalidJob, Problem

Json = Any
"""Anything `json.loads` returns."""

KiB = 1024
MiB = 1024 * KiB
MAX_ARGUMENT_BYTES = 128 * KiB - 1
"""Linux refuses to start a program with a longer argument or environment variable."""


def matching(pattern: str, allowed: str, *, secret: bool = False) -> AfterValidator:
    """A check that a text is `allowed`, said in words a caller can act on.

    The words show the text, unless it may be a `secret`.
    """
    compiled = re.compile(pattern)

    def check(text: str) -> str:
        if not compiled.fullmatch(text):
            raise ValueError(f"must be {allowed}" if secret else f"{text[:80]!r} is not {allowed}")
        return text

    return AfterValidator(check)


def at_most_bytes(limit: int) -> AfterValidator:
    """A check of a text's size as UTF-8, which is what the kernel counts."""

    def check(text: str) -> str:
        size_bytes = len(text.encode())
        if size_bytes > limit:
            raise ValueError(f"{size_bytes} bytes; at most {limit}")
        return text

    return AfterValidator(check)


def check_unicode(text: str) -> str:
    """Return `text` if UTF-8 can hold it; half a surrogate pair is what it can't."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"not Unicode: lone surrogate at character {error.start}") from None
    return text


def check_text(text: str) -> str:
    """Return `text` if any program can be given it."""
    if "\0" in text:
        raise ValueError(f"NUL at character {text.index(chr(0))}; not allowed in text")
    return check_unicode(text)


BY_NAME = AfterValidator(lambda mapping: dict(sorted(mapping.items())))
"""Keeps a mapping in order of its names: the same content is then the same JSON text."""
PLAIN = AfterValidator(check_text)
Text = Annotated[str, PLAIN]
"""Any text without NUL."""

ModelName = Annotated[
    str,
    matching(r"[A-Za-z0-9][A-Za-z0-9._:/@\[\]-]{0,127}", "a model id or alias, 1-128 characters"),
]
ToolRule = Annotated[
    Text,
    # The CLI splits its list of rules at commas and at blanks outside parentheses: a rule
    # that is not whole would swallow, or become, other rules.
    matching(
        r"(?=.{1,256}\Z)[A-Za-z_*][^\s,()]*(\([^,()\x00-\x1f]+\))?",
        "a tool rule such as `Read` or `Bash(git *)`: 1-256 characters without comma",
    ),
]
"""A tool name or rule (`Read`, `Bash(git *)`, `mcp__docs__search`): 1-256 characters, no comma."""


def well_formed(value: Json) -> Json:
    """`value` with every lone surrogate replaced by U+FFFD: what an agent cut in half."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        return value
    if isinstance(value, dict):
        return {well_formed(name): well_formed(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [well_formed(one) for one in value]
    return value


AgentText = Annotated[str, BeforeValidator(well_formed)]
AgentJson = Annotated[Json, BeforeValidator(well_formed)]
"""What an agent said may hold half of a character; UTF-8 can't."""


class Contract(BaseModel):
    """What is sent: frozen, and an unknown field is an error.

    Raises:
        InvalidJob: lists every field that is wrong and what is allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    if not TYPE_CHECKING:  # type checkers see the fields

        def __init__(self, /, **fields: Any) -> None:
            try:
                super().__init__(**fields)
            except ValidationError as error:
                raise InvalidJob(problems_of(error)) from None


class Report(BaseModel):
    """What comes back: frozen, and fields of a newer agentherd are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


_WHOLE = "job"
"""Named as the field where no single one is wrong."""


def problems_of(error: ValidationError) -> list[Problem]:
    """Every problem of a validation error as (field, what is wrong)."""
    details = error.errors(include_url=False, include_input=False)
    return [problem for detail in details for problem in _problems_in(detail)]


def _problems_in(detail: ErrorDetails) -> list[Problem]:
    field = ".".join(str(part) for part in detail["loc"])
    inner = detail.get("ctx", {}).get("error")
    if isinstance(inner, InvalidJob):  # of a model within the model
        return [
            Problem(field if within == _WHOLE else f"{field}.{within}".lstrip("."), text)
            for within, text in inner.problems
        ]
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        message = "no such field; check its spelling"
    return [Problem(field or _WHOLE, message)]
