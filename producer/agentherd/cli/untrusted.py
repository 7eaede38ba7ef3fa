"""Making texts of agents and workers safe to print.

An agent's text may hold terminal escape sequences that rewrite the screen, set the
clipboard or hide what comes next (CWE-150), and marks that reorder text (CVE-2021-42574).
They are shown as escapes, so that a reader sees that they were there.
"""

import re
import unicodedata

_ELLIPSIS = "…"
_HARMLESS = re.compile(r"[\n\t\x20-\x7e]*")
_KEPT = "\n\t"
_JOINERS = "\u200c\u200d"
"""Zero-width (non-)joiners: needed by several scripts and by emoji, and harmless."""
_ESCAPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
"""Control and format characters, lone surrogates, line and paragraph separators."""


def printable(text: str) -> str:
    """`text` with everything but line feeds and tabs that is not plain text escaped."""
    if _HARMLESS.fullmatch(text):
        return text
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character in _KEPT or character in _JOINERS:
        return character
    if unicodedata.category(character) not in _ESCAPED_CATEGORIES:
        return character
    return character.encode("unicode_escape").decode()


def one_line(text: str, limit: int | None = None) -> str:
    """`text` on one line, `printable`, and at most `limit` characters long."""
    line = " ".join((text if limit is None else text[: 8 * limit]).split())
    shown = printable(line)
    return shown if limit is None else cut(shown, limit)


def cut(text: str, limit: int) -> str:
    """The first `limit` characters, the last of them `…` where some are missing."""
    return text if len(text) <= limit else text[: limit - 1] + _ELLIPSIS


def excerpt(text: str, *, max_lines: int, max_chars: int) -> str:
    """`text`, `printable`, cut to a size to read; says how much is missing."""
    whole = text.strip("\n")
    lines = whole[:max_chars].split("\n")[:max_lines]
    shown = "\n".join(lines)
    missing = len(whole) - len(shown)
    more = f"\n{_ELLIPSIS} {missing} more characters" if missing > 0 else ""
    return printable(shown) + more
