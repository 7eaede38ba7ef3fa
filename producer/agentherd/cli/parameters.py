"""Option values that are more than a word: JSON files, NAME=VALUE pairs, job ids."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Callback = Callable[[click.Context, click.Parameter, Any], Any]


def converted(convert: Callable[[str], Any]) -> Callback:
    """`convert` as the callback of an option or argument, repeatable or not.

    Not a `click.ParamType`: that class is generic from one version of click on only.
    """

    def callback(_ctx: click.Context, _param: click.Parameter, value: Any) -> Any:
        if value is None:
            return None
        if isinstance(value, tuple):
            return tuple(convert(one) for one in value)
        return convert(value)

    return callback


def json_object(path: str) -> dict[str, Any]:
    """The JSON object in a file, or on stdin where the path is `-`."""
    try:
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        document = json.loads(content)
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}") from None
    except RecursionError:
        raise click.BadParameter(f"{path}: nested too deeply") from None
    except ValueError as error:
        raise click.BadParameter(f"{path}: not JSON: {error}") from None
    if not isinstance(document, dict):
        raise click.BadParameter(f"{path}: must hold a JSON object")
    return document


def pair(text: str) -> tuple[str, str]:
    """(name, value) of `NAME=VALUE`; the value may be empty and may hold `=`."""
    name, equals, content = text.partition("=")
    if not equals or not name:
        # The text is not repeated: it may be a secret whose name was forgotten.
        raise click.BadParameter("must look like NAME=VALUE")
    return name, content


def job_id(text: str) -> str:
    """`text`, if it can name a job."""
    from agentherd.contract.job import check_job_id
    from agentherd.errors import InvalidJob

    try:
        return check_job_id(text)
    except InvalidJob as error:
        raise click.BadParameter(f"a job id {error.problems[0].message}") from None


def prompt_from(argument: str) -> str:
    """The prompt in PROMPT, or on stdin where that is `-`."""
    if argument != "-":
        return argument
    try:
        return sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise click.BadParameter(
            f"stdin is not UTF-8 at byte {error.start}", param_hint="PROMPT"
        ) from None
