"""This worker as OpenTelemetry metrics. Without an SDK in the process they cost nothing.

| metric | unit | attributes |
|---|---|---|
| agentherd.gate.open | 1: it takes jobs, 0: it does not | reason |
| agentherd.gate.headroom | By, RAM for further sessions | |
| agentherd.breaker.open | 1: the model API refuses the fleet, and no jobs are taken | kind |
| agentherd.gate.booked | By, ceilings of all sessions of the host | |
| agentherd.jobs.recovered | jobs whose worker was lost, counted up by the leader | fate |
| agentherd.messages.poison | messages that were no jobs, counted up | queue |
| agentherd.sessions | running in this worker | |
| agentherd.slots | jobs at once in this worker | |
"""

from collections.abc import Callable, Iterable
from functools import cache

from opentelemetry.metrics import CallbackOptions, Counter, Observation, get_meter

from agentherd import __version__
from agentherd.contract.hosts import WorkerReport

Read = Callable[[WorkerReport], int]


@cache
def _poison() -> Counter:
    return get_meter("agentherd", __version__).create_counter(
        "agentherd.messages.poison", "{message}", "Messages that were no jobs"
    )


def count_poison(queue: str) -> None:
    """Count a message that was no job."""
    _poison().add(1, {"queue": queue})


@cache
def _recovered() -> Counter:
    return get_meter("agentherd", __version__).create_counter(
        "agentherd.jobs.recovered", "{job}", "Jobs whose worker was lost"
    )


def count_recovery(fate: str) -> None:
    """Count a job that was taken from a lost worker, by what was done with it."""
    _recovered().add(1, {"fate": fate})


def observe(report: Callable[[], WorkerReport]) -> None:
    """Let every collection read the worker's report."""
    meter = get_meter("agentherd", __version__)

    def gauge(name: str, unit: str, description: str, read: Read) -> None:
        def collect(_options: CallbackOptions) -> Iterable[Observation]:
            yield Observation(read(report()))

        meter.create_observable_gauge(name, [collect], unit, description)

    def gate_open(_options: CallbackOptions) -> Iterable[Observation]:
        gate = report().gate
        yield Observation(int(gate.open), {"reason": gate.reason or "none"})

    def breaker_open(_options: CallbackOptions) -> Iterable[Observation]:
        breaker = report().breaker
        yield Observation(int(breaker is not None), {"kind": breaker.kind if breaker else "none"})

    meter.create_observable_gauge("agentherd.gate.open", [gate_open], "1", "Whether it takes jobs")
    meter.create_observable_gauge(
        "agentherd.breaker.open", [breaker_open], "1", "Whether the model API refuses the fleet"
    )
    gauge(
        "agentherd.gate.headroom", "By", "RAM for further sessions",
        lambda worker: worker.gate.headroom_bytes,
    )  # fmt: skip
    gauge(
        "agentherd.gate.booked", "By", "Ceilings of all sessions of the host",
        lambda worker: worker.gate.booked_bytes,
    )  # fmt: skip
    gauge("agentherd.sessions", "{session}", "Running here", lambda worker: worker.running)
    gauge("agentherd.slots", "{slot}", "Jobs at once here", lambda worker: worker.slots)
