"""Files that go in with a job, and the patterns of those that come out."""

import base64
import binascii
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from agentherd.contract.base import Contract


def _check_relative(path: str) -> str:
    """Refuse what could leave the workspace: absolute paths, `..`, NUL, a drive."""
    pure = PurePosixPath(path)
    if not path or path != path.strip() or "\\" in path or any(ord(c) < 32 for c in path):
        raise ValueError("must be a relative POSIX path without control characters")
    if pure.is_absolute() or ".." in pure.parts or path.startswith("~"):
        raise ValueError("must stay inside the workspace: no absolute path, no `..`, no `~`")
    if not pure.parts:
        raise ValueError("must name a file below the workspace")
    return path


RelativePath = Annotated[str, Field(max_length=1024), AfterValidator(_check_relative)]
"""A path below the job's workspace."""


class InputFile(Contract):
    """One file put into the workspace before the agent starts. Give `text` or `base64`."""

    path: RelativePath
    text: str | None = None
    """UTF-8 content."""
    base64: str | None = None
    """Any content, base64 (RFC 4648)."""
    executable: bool = False
    """Mode 0700 instead of 0600."""

    @model_validator(mode="after")
    def _one_content(self) -> "InputFile":
        if (self.text is None) == (self.base64 is None):
            raise ValueError("give exactly one of `text` and `base64`")
        if self.base64 is not None:
            try:
                base64.b64decode(self.base64, validate=True)
            except (binascii.Error, ValueError):
                raise ValueError("`base64` is not valid base64") from None
        return self

    @property
    def content(self) -> bytes:
        """The file's bytes."""
        if self.text is not None:
            return self.text.encode()
        return base64.b64decode(self.base64 or "")

    @classmethod
    def of(cls, path: str, content: str | bytes) -> "InputFile":
        """A file from its text or bytes."""
        if isinstance(content, str):
            return cls(path=path, text=content)
        try:
            return cls(path=path, text=content.decode())
        except UnicodeDecodeError:
            return cls(path=path, base64=base64.b64encode(content).decode())


def files_from_mapping(value: Any) -> Any:
    """Accept `{"path": "text" or b"bytes"}` wherever a list of `InputFile` is expected."""
    if not isinstance(value, Mapping):
        return value
    return tuple(
        {"path": path, "text": content}
        if isinstance(content, str)
        else {"path": path, "base64": base64.b64encode(content).decode()}
        if isinstance(content, bytes)
        else {"path": path, "text": None}
        for path, content in value.items()
    )
