"""A seccomp filter under which a job can't change the limit that marks it (seccomp(2)).

Anybody may lower a hard limit, and root may raise it: a process that did would neither be counted
nor ended with its job. The filter is inherited like the limit and can't be taken off, also by
root. A program in the kernel's classic BPF; offsets are those of `struct seccomp_data`.
"""

import errno
import platform
import struct
from dataclasses import dataclass

_LOAD, _MASK, _IF_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | errno.EPERM
_WITHOUT_X32 = 0xFFFFFFFF & ~0x40000000
"""x86's third calling convention: the same numbers with this bit."""


@dataclass(frozen=True)
class _Convention:
    """One way to call the kernel, and its numbers."""

    architecture: int
    setrlimit: int
    prlimit64: int


_CONVENTIONS = {
    "x86_64": (_Convention(0xC000003E, 160, 302), _Convention(0x40000003, 75, 340)),
    "aarch64": (_Convention(0xC00000B7, 164, 261), _Convention(0x40000028, 75, 369)),
}
"""By machine: its own, and that of its 32-bit programs."""


def fixing_limit(limit: int) -> bytes:
    """The program that refuses to set this resource limit; empty for an unknown machine."""
    conventions = _CONVENTIONS.get(platform.machine(), ())
    program = b"".join(_for(convention, limit) for convention in conventions)
    return program and program + _step(_RETURN, _ALLOW)


def _for(convention: _Convention, limit: int) -> bytes:
    """Falls through at the end where the call is of another convention."""
    steps = (
        _step(_LOAD, _NUMBER),
        _step(_MASK, _WITHOUT_X32),
        _step(_IF_EQUAL, convention.setrlimit, otherwise=2),
        _step(_LOAD, _argument(0)),
        _step(_IF_EQUAL, limit, then=7, otherwise=8),
        _step(_IF_EQUAL, convention.prlimit64, otherwise=7),
        _step(_LOAD, _argument(1)),
        _step(_IF_EQUAL, limit, otherwise=5),
        # Without a new limit it only reads; a pointer is compared in halves.
        _step(_LOAD, _argument(2)),
        _step(_IF_EQUAL, 0, otherwise=2),
        _step(_LOAD, _argument(2) + 4),
        _step(_IF_EQUAL, 0, then=1),
        _step(_RETURN, _REFUSE),
        _step(_RETURN, _ALLOW),
    )
    own = (
        _step(_LOAD, _ARCHITECTURE),
        _step(_IF_EQUAL, convention.architecture, otherwise=len(steps)),
    )
    return b"".join((*own, *steps))


def _argument(position: int) -> int:
    """Where the lower half of an argument is; both machines put it first."""
    return _ARGUMENTS + 8 * position


def _step(code: int, operand: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    """One instruction; `then` and `otherwise` are how many to skip."""
    return struct.pack("=HBBI", code, then, otherwise, operand)
