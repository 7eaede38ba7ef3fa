"""Files that go in with a job, and the patterns of those that come out."""

import base64
import binascii
from collections import Counter
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Annotated, Any

from pydantic import AfterValidator, model_validator

from agentherd.contract.base import Contract, at_most_bytes, check_unicode

MAX_PART_BYTES = 255
"""Of a file's or folder's name, on every common file system."""


def _check_relative(path: str) -> str:
    """Refuse what could leave the workspace: absolute paths, `..`, NUL, a drive."""
    pure = PurePosixPath(path)
    if not path or path != path.strip() or "\\" in path or any(ord(c) < 32 for c in path):
        raise ValueError("must be a relative POSIX path without control characters")
    if pure.is_absolute() or ".." in pure.parts or path.startswith("~"):
        raise ValueError("must stay inside the workspace: no absolute path, no `..`, no `~`")
    if not pure.parts:
        raise ValueError("must name a file below the workspace")
    if path != str(pure):
        raise ValueError(f"must be written plainly, as {str(pure)[:80]!r}")
    if any(len(part.encode()) > MAX_PART_BYTES for part in pure.parts):
        raise ValueError(f"each part at most {MAX_PART_BYTES} bytes")
    return path


RelativePath = Annotated[
    str, AfterValidator(check_unicode), at_most_bytes(1024), AfterValidator(_check_relative)
]
"""A path below the job's workspace: 1,024 bytes at most, without `.` or empty parts."""


class InputFile(Contract):
    """One file put into the workspace before the agent starts. Give `text` or `base64`."""

    path: RelativePath
    text: Annotated[str, AfterValidator(check_unicode)] | None = None
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
        {"path": path, "base64": base64.b64encode(content).decode()}
        if isinstance(content, bytes)
        else {"path": path, "text": content}
        for path, content in value.items()
    )


def check_tree(files: tuple[InputFile, ...]) -> None:
    """Refuse files that can't all be written: the same path twice, a file that is a folder too.

    Raises:
        ValueError: names every path.
    """
    counts = Counter(file.path for file in files)
    if twice := sorted(path for path, count in counts.items() if count > 1):
        raise ValueError(f"the same path more than once: {', '.join(twice)}")
    folders = {str(folder) for path in counts for folder in PurePosixPath(path).parents}
    if both := sorted(folders & counts.keys()):
        raise ValueError(f"a file and a folder of other files: {', '.join(both)}")
