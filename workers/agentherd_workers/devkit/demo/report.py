"""What the demo tells before and after its jobs."""

import json
from collections.abc import Sequence
from textwrap import wrap

import click

from agentherd import JobResult
from agentherd.checks import Check, CheckStatus
from agentherd.cli.screen import write_line
from agentherd.cli.times import duration
from agentherd.cli.untrusted import excerpt, one_line
from agentherd_workers.devkit.demo.fleet import AGENTS_AT_ONCE, Fleet
from agentherd_workers.devkit.demo.jobs import Part
from agentherd_workers.devkit.demo.outcome import Outcome

_INTRODUCTION = """\
A service puts jobs into Redis. A worker takes them and runs each in the claude CLI, in a
throwaway directory. What an agent says, answers and makes comes back through Redis.
"""
_LABEL_CHARS = 13
_LINE_CHARS = 80
_TEXT_CHARS = 300
_PATCH_LINES = 40
_PATCH_STYLES = {"+": "green", "-": "red", "@": "cyan"}
_SHOWN_FILE = "fix.patch"


def write_introduction(fleet: Fleet, jobs: int) -> None:
    """Say what is about to happen, and with what."""
    write_line((f"agentherd demo: {jobs} Claude agents from a queue, on this machine", "bold"))
    for line in _INTRODUCTION.splitlines():
        write_line((line, ""))
    click.echo()
    _write_field("Redis", f"127.0.0.1:{fleet.redis.port}, started for this demo")
    if fleet.model is None:
        _write_field("model", "the real API; this costs money")
    else:
        _write_field("model", f"simulated, {fleet.model.url}; everything else is real")
    _write_field("worker", f"pid {fleet.worker.pid}, {AGENTS_AT_ONCE} agents at once")
    click.echo()


def write_outcome(
    label: str, part: Part, left: Outcome, before: Outcome | None, problems: Sequence[str]
) -> None:
    """One job: what it shows, what it left, and whether it ended as it must."""
    click.echo()
    mark, style = ("NOT as expected", "red") if problems else ("as expected", "green")
    write_line((f"{label.strip()}  ", "bold"), (mark, style))
    write_line((f"  {part.shows}", "dim"))
    for problem in problems:
        _write_field("problem", problem, style="red")
    _write_answer(left)
    _write_field("run", _run(left))
    _write_field("transcript", _transcript(left, before))
    for name, content in left.files.items():
        _write_field("artifact", f"{name}, {len(content)} bytes")
        if name == _SHOWN_FILE:
            _write_patch(content.decode(errors="replace"))


def write_totals(results: Sequence[JobResult], *, simulated: bool) -> None:
    """All jobs together."""
    cost_usd = sum(result.usage.cost_usd for result in results)
    first_ms = min(result.submitted_at_ms for result in results)
    took = duration(max(result.finished_at_ms for result in results) - first_ms)
    note = "; the model is simulated, nothing was spent" if simulated else ""
    click.echo()
    write_line((f"{len(results)} jobs in {took}, ${cost_usd:.4f}{note}", "bold"))


def write_checks(checks: Sequence[Check]) -> None:
    """What was looked at after the worker had stopped."""
    click.echo()
    write_line(("Is this host clean? The worker has been stopped.", "bold"))
    for check in checks:
        failed = check.status is CheckStatus.FAILED
        first, *more = check.detail.splitlines()
        write_line(
            (f"  {'✗' if failed else '✓'} ", "red" if failed else "green"),
            (f"{check.name:<{_LABEL_CHARS}}{first}", "red" if failed else ""),
        )
        for line in more:
            write_line((f"    {'':<{_LABEL_CHARS}}{line}", "dim"))


def _write_answer(left: Outcome) -> None:
    result = left.result
    if result.failure is not None:
        _write_field("failure", f"{result.failure.kind}: {result.failure.message}")
    elif result.structured_output is not None:
        _write_field("output", json.dumps(result.structured_output, ensure_ascii=False))
    else:
        _write_field("answer", one_line(result.text or "", _TEXT_CHARS))


def _run(left: Outcome) -> str:
    result = left.result
    took = duration(result.finished_at_ms - (result.started_at_ms or result.finished_at_ms))
    return f"{result.state}, {took}, {_turns(result.turns)}, ${result.usage.cost_usd:.4f}"


def _turns(turns: int) -> str:
    return "1 turn" if turns == 1 else f"{turns} turns"


def _transcript(left: Outcome, before: Outcome | None) -> str:
    size = f"{left.entries} entries, {left.transcript_bytes} bytes"
    if left.subagents:
        size += f"; {sum(left.subagents.values())} entries are the subagent's"
    if before is not None:
        size += f"; the first {len(before.conversation)} are job 1's"
    return size


def _write_patch(patch: str) -> None:
    shown = excerpt(patch, max_lines=_PATCH_LINES, max_chars=_PATCH_LINES * 200)
    for line in shown.splitlines():
        write_line((f"    {line}", _PATCH_STYLES.get(line[:1], "")))


def _write_field(name: str, value: str, *, style: str = "") -> None:
    first, *more = wrap(one_line(value), _LINE_CHARS) or [""]
    write_line((f"  {name:<{_LABEL_CHARS}}", "cyan"), (first, style))
    for line in more:
        write_line((f"  {'':<{_LABEL_CHARS}}{line}", style))
