"""What came of a fleet in trouble: of its jobs, of the lives of its agents, of what is left."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agentherd import EventKind, FailureKind, JobEvent, JobHandle
from agentherd.contract.states import TERMINAL
from agentherd.layout.transcripts import Entry
from agentherd_workers.devkit.lasting_keys import ALWAYS, lasting_keys
from agentherd_workers.history import percentile
from agentherd_workers.processes import by_mark, worker_of
from drills.findings import Cell, Findings
from drills.fleet import Fleet
from drills.lives import Lives
from drills.side_effects import overlaps, read_log, steps_asked, steps_done, steps_done_again
from drills.troubles import Hit


def judge_jobs(found: Findings, handles: Sequence[JobHandle], log: Path) -> None:
    records = [handle.record() for handle in handles]
    lines = read_log(log)
    ended = [record for record in records if record.state in TERMINAL]
    outcomes = Counter(
        str(record.result.failure.kind)
        if record.result and record.result.failure
        else str(record.state)
        for record in records
    )
    found.must("jobs that have ended", len(ended), str(len(records)), passed=ended == records)
    lost = outcomes[FailureKind.LOST]
    found.must("jobs lost", lost, "0", passed=not lost)
    otherwise = {outcome: n for outcome, n in outcomes.items() if outcome != "succeeded"}
    found.must("jobs that did not succeed", sum(otherwise.values()), "0", passed=not otherwise)
    found.notes += [
        f"{handle.id}: {r.state} {r.result and r.result.failure}"
        for handle, r in zip(handles, records, strict=True)
        if str(r.state) != "succeeded"
    ]
    found.tell("attempts charged", sum(record.attempt for record in records))
    transcripts = {handle.id: handle.transcript() for handle in handles}
    steps = {record.job_id: int(record.metadata["steps"]) for record in records}
    asked = {job_id: steps_asked(entries) for job_id, entries in transcripts.items()}
    amiss = [job_id for job_id, n in steps.items() if asked[job_id] != n]
    found.must("transcripts with a step missing or too many", len(amiss), "0", passed=not amiss)
    doubled = [job_id for job_id, entries in transcripts.items() if _repeats(entries)]
    found.must("transcripts with an entry twice", len(doubled), "0", passed=not doubled)
    found.notes += [f"{job_id}: an entry twice" for job_id in doubled]
    found.notes += [f"{one}: {asked[one]} steps asked for, not {steps[one]}" for one in amiss]
    degraded = [
        f"{handle.id}: {event.data}"
        for handle in handles
        for event in handle.events(follow=False)
        if event.kind == EventKind.SESSION_DEGRADED
    ]
    found.tell("entries that could not be stored, times", len(degraded))
    found.notes += degraded
    found.tell("steps", sum(steps.values()))
    found.tell("steps cut off", sum(steps.values()) - steps_done(lines))
    found.tell("steps done again", steps_done_again(lines))


def _repeats(transcript: list[Entry]) -> bool:
    uuids = [entry["uuid"] for entry in transcript if entry.get("uuid")]
    return len(uuids) != len(set(uuids))


def judge_lives(found: Findings, log: Path, lives: Lives) -> None:
    twice = overlaps(read_log(log))
    found.must("jobs with two attempts alive, by log", len(twice), "0", passed=not twice)
    seen = sorted(lives.twice)
    found.must("sessions with two CLIs, by /proc", len(seen), "0", passed=not seen)
    found.notes += [f"{job_id}: two attempts at once, by its log" for job_id in twice]
    found.notes += [f"session {session}: two CLIs at once" for session in seen]


def judge_recovery(found: Findings, handles: Sequence[JobHandle], hits: Sequence[Hit]) -> None:
    """How long jobs were without a worker."""
    events = [list(handle.events(follow=False)) for handle in handles]
    found.columns = (
        *("trouble", "times", "jobs hit"),
        *("queued again: p50 s", "running again: p50 s", "p95 s", "max s"),
    )
    for trouble in sorted({hit.trouble for hit in hits}):
        of_kind = [hit for hit in hits if hit.trouble == trouble]
        gaps = [
            gap
            for hit in of_kind
            if hit.ends_leases
            for of_job in events
            if (gap := _gap(of_job, hit)) is not None
        ]
        queued = sorted(gap.queued_ms for gap in gaps)
        running = sorted(gap.running_ms for gap in gaps)
        shown: list[Cell] = ["", "", "", ""]
        if gaps:
            shown = [
                percentile(queued, 50) / 1000,
                *(percentile(running, p) / 1000 for p in (50, 95, 100)),
            ]
        found.rows.append((trouble, len(of_kind), len(gaps), *shown))


@dataclass(frozen=True)
class Gap:
    """From what happened to a job's worker."""

    queued_ms: int
    running_ms: int


def _gap(events: Sequence[JobEvent], hit: Hit) -> Gap | None:
    """How long a job that ran on the worker was without one; None: it did not run there."""
    before = [event for event in events if event.at_ms <= hit.at_ms]
    last = next(
        (
            e
            for e in reversed(before)
            if e.kind in (EventKind.STARTED, EventKind.REQUEUED, EventKind.ENDED)
        ),
        None,
    )
    if last is None or last.kind != EventKind.STARTED:
        return None
    if not str(last.data.get("worker", "")).endswith(f":{hit.worker_pid}"):
        return None
    after = [event for event in events if event.at_ms > hit.at_ms]
    queued = next((e for e in after if e.kind == EventKind.REQUEUED), None)
    running = next((e for e in after if e.kind == EventKind.STARTED), None)
    if queued is None or running is None:
        return None
    return Gap(queued.at_ms - hit.at_ms, running.at_ms - hit.at_ms)


def judge_leftovers(found: Findings, fleet: Fleet, lives: Lives) -> None:
    """Once all workers have ended, and one more has looked for what dead ones left."""
    for worker in fleet.started:
        worker.stop()
    fleet.start_worker().stop()
    orphans = [
        pid for mark, pids in by_mark().items() if worker_of(mark) in lives.marks for pid in pids
    ]
    found.must("processes left", len(orphans), "0", passed=not orphans)
    paths = [
        *(fleet.root / "jobs").iterdir(),
        *(fleet.root / "workers").iterdir(),
        *fleet.temp.iterdir(),
    ]
    found.must("directories left", len(paths), "0", passed=not paths)
    lasting = lasting_keys(fleet.herd.connection.redis, ALWAYS)
    leaks = [key for key, why in lasting.items() if why is None and not key.startswith("unacked")]
    found.must("keys left in Redis without an end", len(leaks), "0", passed=not leaks)
    found.tell("messages left in kombu's `unacked`", fleet.herd.connection.redis.hlen("unacked"))
    found.notes += [f"left: {one}" for one in (*paths, *leaks)]
