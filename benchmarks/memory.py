"""What a slot costs in the worker beyond the CLI: PSS of the worker process alone.

The alternative is Celery's default, a prefork child a slot, each with the SDK imported.
"""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from agentherd import EventKind, Job
from agentherd_workers.devkit import scripts
from agentherd_workers.devkit.redis_server import RedisServer
from agentherd_workers.processes import die_with_parent
from benchmarks.figures import Figure, absolute, compared
from benchmarks.rig import model_process, running_fleet

SLOTS = 32
RUNNING = 6
PREFORK_SLOTS = 4
PROMPT = scripts.script("Wait", scripts.hang())
_MB = 1024 * 1024
_WAIT_S = 60.0
_POLL_S = 0.1


def measure() -> dict[str, Any]:
    """Idle workers of 1 and `SLOTS` slots, one with `RUNNING` agents, and a prefork worker."""
    with model_process() as model_url:
        idle_one = _idle(model_url, 1)
        idle_many = _idle(model_url, SLOTS)
        idle, running = _busy(model_url)
    slot = (idle_many - idle_one) / (SLOTS - 1)
    job = (running - idle) / RUNNING
    child = _prefork_child()
    figures: list[Figure] = [
        absolute("worker memory, idle process", "MB PSS", idle_one),
        compared("worker memory, an idle slot", "MB PSS", [slot], [child], at_most=0.1),
        compared("worker memory, a running job", "MB PSS", [job], [child], at_most=0.1),
    ]
    return {
        "figures": figures,
        "idle_1_slot_mb": round(idle_one, 1),
        f"idle_{SLOTS}_slots_mb": round(idle_many, 1),
        "idle_mb": round(idle, 1),
        f"running_{RUNNING}_mb": round(running, 1),
    }


def _idle(model_url: str, slots: int) -> float:
    with running_fleet(model_url, concurrency=slots) as fleet:
        return _pss_mb(fleet.worker.pid)


def _busy(model_url: str) -> tuple[float, float]:
    """A worker before, and while it runs `RUNNING` agents."""
    with running_fleet(model_url, concurrency=RUNNING) as fleet:
        # One job first: what the first job of a process loads is no cost of a job.
        fleet.herd.submit(Job(prompt="Hello")).result(timeout_s=_WAIT_S)
        idle = _pss_mb(fleet.worker.pid)
        handles = fleet.herd.submit_many(Job(prompt=PROMPT) for _ in range(RUNNING))
        for handle in handles:
            next(event for event in handle.events() if event.kind is EventKind.AGENT_READY)
        running = _pss_mb(fleet.worker.pid)
        fleet.worker.kill()  # its agents die with it
        return idle, running


def _prefork_child() -> float:
    """What one more child of a plain Celery worker with the SDK costs."""
    program = Path(sys.executable).parent / "celery"
    with RedisServer() as server:
        worker = subprocess.Popen(
            [
                *(program, "-A", "benchmarks.prefork_app", "-b", server.url, "worker"),
                *("-P", "prefork", "-c", str(PREFORK_SLOTS), "--without-gossip"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call
        )
        try:
            process = psutil.Process(worker.pid)
            _wait(lambda: len(process.children()) == PREFORK_SLOTS)
            return sum(_pss_mb(child.pid) for child in process.children()) / PREFORK_SLOTS
        finally:
            worker.terminate()
            worker.wait()


def _wait(condition: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + _WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(_POLL_S)


def _pss_mb(pid: int) -> float:
    return float(psutil.Process(pid).memory_full_info().pss) / _MB
