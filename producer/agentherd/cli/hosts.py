"""`agentherd hosts`."""

import time
from collections.abc import Sequence

import click

from agentherd.cli.screen import note, write_fields, write_json, write_table_if_fits
from agentherd.cli.session import CommandSession, json_option, pass_session
from agentherd.cli.times import duration
from agentherd.contract.hosts import WorkerReport

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
    workers = session.herd.workers()
    if as_json:
        write_json({"workers": [worker.model_dump(mode="json") for worker in workers]})
        return
    rows = [_row(worker) for worker in workers]
    if not write_table_if_fits(_HEADER, rows):
        _write_blocks(rows)
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
