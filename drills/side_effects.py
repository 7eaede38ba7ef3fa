"""Agents that leave a trace outside of agentherd: which of them lived when, and what they did.

Each step of a job is a Bash command that appends lines to a log: job, the CLI's pid, step, what
and when. All are written on one host, so one clock has them all.
"""

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from random import Random

from agentherd import Job, RetryPolicy
from agentherd.layout.transcripts import Entry
from agentherd_workers.devkit import scripts

_TICK_S = 0.1
_STEP = """\
log() {{ echo "$AGENTHERD_JOB_ID $PPID {step} $1 $EPOCHREALTIME" >> {log}; }}
log begin
for tick in $(seq {ticks}); do log alive; read -rt {tick_s} <> <(:); done
echo {step} >> steps
log end
"""
_RETRY = RetryPolicy(max_attempts=20, backoff_s=0.5, max_backoff_s=2.0)
"""Chance may hit one job many times."""


def job_with_trace(log: Path, number: int, chance: Random, *, longest_s: float) -> Job:
    """A job of one to four steps that take up to `longest_s` together."""
    steps = chance.randint(1, 4)
    length_s = chance.uniform(0.1, longest_s)
    commands = [
        scripts.bash(
            _STEP.format(
                step=step, log=log, ticks=max(1, int(length_s / steps / _TICK_S)), tick_s=_TICK_S
            )
        )
        for step in range(1, steps + 1)
    ]
    return Job(
        prompt=scripts.script(f"Job {number}", *commands, scripts.text("done")),
        allowed_tools=("Bash",),
        retry=_RETRY,
        metadata={"steps": str(steps)},
    )


@dataclass(frozen=True)
class Line:
    """One line of the log."""

    job_id: str
    cli_pid: int
    step: int
    what: str
    at_s: float


@dataclass(frozen=True)
class Life:
    """From the first to the last sign of life of one CLI."""

    begun_s: float
    ended_s: float


def read_log(log: Path) -> list[Line]:
    """All lines, in the order in which they were written."""
    lines = []
    for text in log.read_text().splitlines() if log.exists() else ():
        job_id, pid, step, what, at_s = text.split()
        lines.append(Line(job_id, int(pid), int(step), what, float(at_s)))
    return lines


def overlaps(lines: list[Line]) -> list[str]:
    """The jobs of which two CLIs lived at once."""
    lives: defaultdict[str, dict[int, Life]] = defaultdict(dict)
    for line in lines:
        known = lives[line.job_id].get(line.cli_pid, Life(line.at_s, line.at_s))
        lives[line.job_id][line.cli_pid] = Life(
            min(known.begun_s, line.at_s), max(known.ended_s, line.at_s)
        )
    return [job_id for job_id, of_job in lives.items() if _any_overlap(list(of_job.values()))]


def _any_overlap(lives: list[Life]) -> bool:
    lives.sort(key=lambda life: life.begun_s)
    return any(later.begun_s <= earlier.ended_s for earlier, later in pairwise(lives))


def steps_done_again(lines: list[Line]) -> int:
    """Steps that ran to their end more than once: a tool's side effect is not undone."""
    ends = [(line.job_id, line.step) for line in lines if line.what == "end"]
    return len(ends) - len(set(ends))


def steps_done(lines: list[Line]) -> int:
    """Steps that ran to their end, each counted once.

    Of one that was cut off the next attempt's agent is told. A model would look and decide; the
    script goes on.
    """
    return len({(line.job_id, line.step) for line in lines if line.what == "end"})


def steps_asked(transcript: list[Entry]) -> int:
    """Tool calls in a job's transcript."""
    return len(
        {
            block["id"]
            for entry in transcript
            if entry.get("type") == "assistant"
            for block in entry["message"]["content"]
            if block["type"] == "tool_use"
        }
    )
