"""Agent texts on a terminal: nothing in them acts, and nothing is hidden."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentherd.cli.untrusted import excerpt, one_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("zażółć 漢字 🙂", "zażółć 漢字 🙂"),
        ("\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
        ("safe\rrm -rf", "safe\\rrm -rf"),
        ("\x9b31m", "\\x9b31m"),
        ("a\u202eb", "a\\u202eb"),
        ("\ud800", "\\ud800"),
        ("a\u2028b", "a\\u2028b"),
        ("\x7f", "\\x7f"),
    ],
)
def test_only_plain_text_is_printed_as_it_is(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_no_text_keeps_a_control_character(text: str) -> None:
    shown = printable(text)
    left = [c for c in shown if unicodedata.category(c) in {"Cc", "Cs"} and c not in "\n\t"]
    assert not left
    assert printable(shown) == shown


@given(st.text(), st.integers(2, 50))
def test_a_line_is_one_line_and_fits(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert "\n" not in line
    assert len(line) <= limit


def test_an_excerpt_says_how_much_is_missing() -> None:
    assert excerpt("a\nb\nc", max_lines=2, max_chars=100) == "a\nb\n… 2 more characters"
    assert excerpt("a\nb", max_lines=2, max_chars=100) == "a\nb"
