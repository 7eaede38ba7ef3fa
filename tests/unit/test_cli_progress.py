"""Events and transcript entries as text: whatever a worker or agent sends is readable."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentherd.cli.conversation import write_entry
from agentherd.cli.progress import description, write_event
from agentherd.contract.events import EventKind, JobEvent

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=4,
)
NAMES = st.sampled_from(
    ["text", "state", "worker", "tool", "input", "output", "is_error", "subagent", "failure_kind"]
)


def event(kind: EventKind | str, **data: object) -> JobEvent:
    """An event of a job."""
    return JobEvent(id="1-0", job_id="j", attempt=1, at_ms=0, kind=kind, data=data)


@pytest.mark.parametrize(
    ("kind", "data", "shown"),
    [
        (EventKind.SUBMITTED, {"state": "queued"}, "queued; no worker has taken it yet"),
        (EventKind.SUBMITTED, {"state": "scheduled"}, "scheduled; waits for its time"),
        (EventKind.STARTED, {"worker": "w1", "resumed": False}, "on w1"),
        (EventKind.TOOL_STARTED, {"tool": "Read", "input": {"p": "x"}}, 'Read {"p": "x"}'),
        (EventKind.TOOL_STARTED, {"tool": "Read", "input": '{"p": "…'}, 'Read {"p": "…'),
        (EventKind.TOOL_FINISHED, {"is_error": True, "output": "no"}, "error: no"),
        (EventKind.TEXT, {"text": "hi", "subagent": "critic"}, "[subagent] hi"),
        (EventKind.REQUEUED, {"reason": "lost", "delay_s": 2}, "lost, again in 2 s"),
        (EventKind.RESTORED, {"files": 3, "complete": True}, "3 files, all as they were left"),
        (
            EventKind.RESTORED,
            {"files": 3, "age_s": 9.5, "too_large": "more than 64 MiB"},
            "3 files, as of up to 9.5 s before the interruption;"
            " later too large to be stored: more than 64 MiB",
        ),
        (
            EventKind.RESTORED,
            {"files": None, "unreadable": True},
            "no files: the stored copy could not be read",
        ),
        (EventKind.RESTORED, {"files": None}, "no files"),
        (
            EventKind.ENDED,
            {"state": "failed", "failure_kind": "crashed", "message": "gone"},
            "failed, crashed: gone",
        ),
        ("invented_later", {"a": 1}, '{"a": 1}'),
    ],
)
def test_an_event_is_told_in_words(
    kind: EventKind | str, data: dict[str, object], shown: str
) -> None:
    assert description(event(kind, **data)) == shown


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(EventKind), st.dictionaries(NAMES, ANYTHING, max_size=4))
def test_no_event_data_breaks_the_line(kind: EventKind, data: dict[str, object]) -> None:
    write_event(JobEvent(id="1-0", job_id="j", attempt=1, at_ms=0, kind=kind, data=data))


def test_an_event_is_one_line_and_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    write_event(event(EventKind.TEXT, text="[bold]a[/bold]\nb\x1b[31m :smile: [/nope]"))
    shown = capsys.readouterr().out
    assert shown.endswith("text: [bold]a[/bold] b\\x1b[31m :smile: [/nope]\n")
    assert shown.count("\n") == 1


def test_a_conversation_is_readable(capsys: pytest.CaptureFixture[str]) -> None:
    for entry in (
        {"type": "user", "message": {"role": "user", "content": "Count the files"}},
        {
            "type": "assistant",
            "message": {
                "content": [
                    {"type": "thinking", "thinking": "hm"},
                    {"type": "text", "text": "I'll [b]look[/b]\x1b[2J"},
                    {"type": "tool_use", "name": "Bash", "input": {"command": "ls\npwd", "n": 1}},
                ]
            },
        },
        {
            "type": "user",
            "isSidechain": True,
            "message": {
                "content": [
                    {"type": "tool_result", "content": [{"type": "text", "text": "a.txt"}]},
                    {"type": "tool_result", "is_error": True, "content": "x\n" * 40},
                ]
            },
        },
        {"type": "queue-operation"},
        {"type": "assistant", "message": "odd"},
        {"type": "assistant", "message": {"content": [7, {"type": "image"}]}},
    ):
        write_entry(entry, full=False)
    assert capsys.readouterr().out.startswith(
        "user\n  Count the files\n"
        "assistant thinks\n  hm\n"
        "assistant\n  I'll [b]look[/b]\\x1b[2J\n"
        "tool call Bash\n  command: ls\n  pwd\n  n: 1\n"
        "subagent tool result\n  a.txt\n"
        "subagent error from the tool\n  x\n"
    )
    write_entry({"type": "user", "message": {"content": "x\n" * 200}}, full=False)
    assert "more characters" in capsys.readouterr().out
    write_entry({"type": "user", "message": {"content": "x\n" * 200}}, full=True)
    assert "more characters" not in capsys.readouterr().out


@settings(max_examples=50, suppress_health_check=[HealthCheck.too_slow])
@given(ANYTHING)
def test_no_entry_breaks_the_conversation(content: object) -> None:
    for kind in ("text", "tool_use", "tool_result", "thinking"):
        names = ("text", "input", "content", "thinking", "name")
        block = {"type": kind, **dict.fromkeys(names, content)}
        write_entry({"type": "assistant", "message": {"content": [block]}}, full=False)
