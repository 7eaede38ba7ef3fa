"""`agentherd capacity`: how many agents this host holds, and what each number came from."""

from typing import TYPE_CHECKING

import click

from agentherd.cli.screen import note, write_fields, write_json, write_table
from agentherd.cli.session import CommandSession, json_option, pass_session

if TYPE_CHECKING:
    from agentherd_workers.admission.capacity import Capacity
    from agentherd_workers.history import Recommendation


@click.command()
@click.option(
    "--from-history",
    "history",
    is_flag=True,
    help="What ended jobs took at most, and the ceiling and concurrency that supports.",
)
@json_option
@pass_session
def capacity(session: CommandSession, history: bool, as_json: bool) -> None:
    """Show how many agents this host holds: (host RAM - overhead) / per-session ceiling."""
    from agentherd_workers.admission.memory import HostMemory
    from agentherd_workers.admission.wiring import capacity_of
    from agentherd_workers.history import recommend
    from agentherd_workers.settings import WorkerSettings

    found = capacity_of(WorkerSettings(), HostMemory())
    if history:
        _show_history(recommend(session.herd, found), as_json)
    elif as_json:
        write_json(_as_json(found))
    else:
        _show(found)


def _show_history(rows: "list[Recommendation]", as_json: bool) -> None:
    if as_json:
        write_json({"classes": [row.as_json() for row in rows]})
        return
    write_table(
        ("CLASS", "JOBS", "P50", "P95", "P99", "MAX", "CEILING NOW", "SUPPORTED", "AGENTS"),
        [row.cells() for row in rows],
    )
    note(
        "SUPPORTED is the p99 peak and a tenth more; AGENTS is what this host would hold then."
        if rows
        else "no job has ended yet"
    )


def _as_json(found: "Capacity") -> dict[str, object]:
    return {
        "host_ram_bytes": found.host_ram.size_bytes,
        "host_ram_source": found.host_ram.source,
        "overhead_bytes": found.overhead_bytes,
        "ceilings_bytes": dict(found.ceilings),
        "agents": {memory: found.agents(memory) for memory in found.ceilings},
    }


def _show(found: "Capacity") -> None:
    from agentherd_workers.sizes import size_text

    host_ram, overhead = size_text(found.host_ram.size_bytes), size_text(found.overhead_bytes)
    write_fields(
        [
            ("host RAM", f"{host_ram}, from {found.host_ram.source}"),
            ("overhead", f"{overhead}, from AGENTHERD_OVERHEAD_BYTES"),
            ("budget", f"{size_text(found.budget_bytes)} for all sessions together"),
        ]
    )
    write_table(
        ("CLASS", "CEILING", "AGENTS", "ARITHMETIC"),
        [
            (
                memory,
                size_text(size_bytes),
                str(found.agents(memory)) if found.agents(memory) else "0: not served here",
                f"({host_ram} - {overhead}) / {size_text(size_bytes)}, rounded down",
            )
            for memory, size_bytes in found.ceilings.items()
        ],
    )
