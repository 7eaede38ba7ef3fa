"""From `submit` to the CLI's start, on an idle fleet.

The call of `submit`, by the caller's clock, plus `spawned_after_ms` of the job's `agent_ready`
event: from the moment Redis had the job to the moment the launcher became the CLI.
"""

import time
from typing import Any

from agentherd import EventKind, Herd, Job
from agentherd_workers.devkit import scripts
from benchmarks.figures import absolute, percentile
from benchmarks.rig import model_process, running_fleet

JOBS = 30
PROMPT = scripts.script("Answer", scripts.text("done"))


def measure() -> dict[str, Any]:
    """One job after the other.

    Returns:
        The figures, and every job's milliseconds.
    """
    with model_process() as model_url, running_fleet(model_url, concurrency=2) as fleet:
        taken_ms = [_spawn_ms(fleet.herd) for _ in range(JOBS)]
    return {
        "figures": [
            absolute("submit to CLI spawned, p50", "ms", percentile(taken_ms, 0.5), at_most=40),
            absolute("submit to CLI spawned, p95", "ms", percentile(taken_ms, 0.95)),
        ],
        "taken_ms": taken_ms,
    }


def _spawn_ms(herd: Herd) -> float:
    start_s = time.perf_counter()
    handle = herd.submit(Job(prompt=PROMPT))
    submit_ms = (time.perf_counter() - start_s) * 1000
    assert handle.result(timeout_s=60).succeeded
    (ready,) = (
        event for event in handle.events(follow=False) if event.kind is EventKind.AGENT_READY
    )
    return submit_ms + float(ready.data["spawned_after_ms"])
