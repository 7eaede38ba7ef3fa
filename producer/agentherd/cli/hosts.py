"""`agentherd hosts`."""

import time
from collections.abc import Sequence

import click

from agentherd.cli.progress import refusal_text
from agentherd.cli.screen import note, write_fields, write_json, write_table_if_fits
from agentherd.cli.session import CommandSession, json_option, pass_session
from agentherd.cli.times import duration
from agentherd.contract.hosts import WorkerReport
from agentherd.layout import breaker

_HEADER = ("WORKER", "GATE", "RUNNING", "HEADROOM", "BOOKED", "CAPACITY", "ISOLATION", "WHY CLOSED")
_MIB = 1024 * 1024


@click.command("hosts")
@json_option
@pass_session
def command(session: CommandSession, as_json: bool) -> None:
    """Show the live workers: whether they take jobs, and why not.

    HEADROOM is the RAM for further sessions, BOOKED what all sessions of the host may take of
    its budget, CAPACITY how many agents of each memory class it holds when no other runs.
    """
    herd = session.herd
    workers = herd.workers()
    open_for = herd.connection.run(breaker.read(herd.keys))
    if as_json:
        found = [worker.model_dump(mode="json") for worker in workers]
        as_found = open_for.model_dump(mode="json") if open_for else None
        write_json({"workers": found, "breaker": as_found})
        return
    rows = [_row(worker) for worker in workers]
    if not write_table_if_fits(_HEADER, rows):
        _write_blocks(rows)
    if open_for is not None:
        note(refusal_text(open_for))
    if not workers:
        note("no live worker; start one: agentherd worker")


def _write_blocks(rows: Sequence[Sequence[str]]) -> None:
    """A line a value, for a terminal on which a line a worker would lose columns."""
    for number, row in enumerate(rows):
        if number:
            click.echo()
        named = zip(map(str.lower, _HEADER), row, strict=True)
        write_fields([(name, value) for name, value in named if value])


def _row(worker: WorkerReport) -> tuple[str, ...]:
    gate = worker.gate
    for_ms = int((time.time() - gate.since_s) * 1000)
    state = "open" if gate.open else f"closed: {gate.reason}"
    return (
        worker.worker,
        state,
        f"{worker.running} of {worker.slots}",
        f"{gate.headroom_bytes // _MIB} MiB",
        f"{gate.booked_bytes // _MIB} of {gate.budget_bytes // _MIB} MiB",
        ", ".join(f"{count} {memory}" for memory, count in worker.capacity.items()),
        f"{worker.isolation}, {worker.ceiling_enforcement}",
        f"for {duration(for_ms)}: {gate.detail}" if gate.detail else "",
    )
