"""Sizes in settings and in texts for people."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, ByteSize

GiB = 1024**3
MiB = 1024**2
_SIZE = re.compile(r"\s*[0-9]+(\.[0-9]+)?\s*(B|[KMGT](i?B)?)?\s*", re.ASCII | re.IGNORECASE)


def _whole_text(value: Any) -> Any:
    """Refuse what pydantic would read a part of: `1,5GiB` as one byte."""
    if isinstance(value, str) and not _SIZE.fullmatch(value):
        raise ValueError(f"{value[:40]!r} is no size; write such as `1536MiB`, `1.5 GiB`, `2GB`")
    return value


Bytes = Annotated[ByteSize, BeforeValidator(_whole_text)]
"""A number of bytes, or a text such as `1536MiB`, `2GB`, `1.5 GiB`."""


def at_least(minimum_bytes: int) -> AfterValidator:
    """A check of a size."""

    def check(size: ByteSize) -> ByteSize:
        if size < minimum_bytes:
            raise ValueError(
                f"{size_text(size)} is too little; at least {size_text(minimum_bytes)}"
            )
        return size

    return AfterValidator(check)


def size_text(size_bytes: int) -> str:
    """`2 GiB`, `1536 MiB`: as short as it stays exact to the MiB."""
    if size_bytes % GiB == 0 and size_bytes:
        return f"{size_bytes // GiB} GiB"
    return f"{size_bytes / MiB:.0f} MiB"
