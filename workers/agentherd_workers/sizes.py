"""Sizes in settings and in texts for people."""

from typing import Annotated

from pydantic import AfterValidator, ByteSize

GiB = 1024**3
MiB = 1024**2


def at_least(minimum_bytes: int) -> AfterValidator:
    """A check of a size."""

    def check(size: ByteSize) -> ByteSize:
        if size < minimum_bytes:
            raise ValueError(
                f"{size_text(size)} is too little; at least {size_text(minimum_bytes)}"
            )
        return size

    return AfterValidator(check)


Size = Annotated[ByteSize, at_least(0)]
"""Bytes, or a text such as `1536MiB`, `2GB`, `1.5 GiB`."""


def size_text(size_bytes: int) -> str:
    """`1.5 GiB`, `300 MiB`: as short as it stays exact to the MiB."""
    if size_bytes % GiB == 0 and size_bytes:
        return f"{size_bytes // GiB} GiB"
    return f"{size_bytes / MiB:.0f} MiB"
