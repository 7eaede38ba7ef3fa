"""Sessions through the fleet against the bare SDK, at the same concurrency.

Both run the same prompts on the same model server. The bare side does what a careful script
would: a throwaway directory a session, the switches that keep the CLI quiet, a semaphore. It has
no queue, record, lease, transcript store, events or clean environment.
"""

import asyncio
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
from claude_agent_sdk import ClaudeAgentOptions, ResultMessage, query
from claude_agent_sdk.types import SystemPromptPreset

from agentherd import Herd, Job
from agentherd_workers.agent.options import SWITCHES
from agentherd_workers.devkit import scripts
from agentherd_workers.devkit.worker_process import DUMMY_API_KEY
from agentherd_workers.settings import WorkerSettings
from benchmarks.figures import compared
from benchmarks.rig import model_process, running_fleet

ROUNDS = 15
SESSIONS = 4
"""A round and side; rounds are short, so that what else the machine does hits both sides."""
CONCURRENCY = 2
ANSWER = "done"
PROMPT = scripts.script("Say hi in a file", scripts.bash("echo hi > out.txt"), scripts.text(ANSWER))


async def bare(model_url: str) -> None:
    """Run `SESSIONS` through the SDK alone."""
    slots = asyncio.Semaphore(CONCURRENCY)
    await asyncio.gather(*(_bare_session(model_url, slots) for _ in range(SESSIONS)))


async def _bare_session(model_url: str, slots: asyncio.Semaphore) -> None:
    async with slots:
        with tempfile.TemporaryDirectory(prefix="agentherd-bench-") as name:
            async for message in query(prompt=PROMPT, options=_options(Path(name), model_url)):
                if isinstance(message, ResultMessage):
                    assert message.result == ANSWER


def _options(directory: Path, model_url: str) -> ClaudeAgentOptions:
    for name in ("workspace", "config", "tmp"):
        (directory / name).mkdir()
    return ClaudeAgentOptions(
        cwd=directory / "workspace",
        env=SWITCHES
        | {
            "PATH": WorkerSettings().path,
            "HOME": str(directory / "config"),
            "SHELL": "/bin/bash",
            "TMPDIR": str(directory / "tmp"),
            "CLAUDE_CONFIG_DIR": str(directory / "config"),
            "CLAUDE_CODE_TMPDIR": str(directory / "tmp"),
            "ANTHROPIC_API_KEY": DUMMY_API_KEY,
            "ANTHROPIC_BASE_URL": model_url,
        },
        system_prompt=SystemPromptPreset(type="preset", preset="claude_code"),
        allowed_tools=["Bash"],
        permission_mode="dontAsk",
        max_turns=200,
        max_budget_usd=10.0,
        setting_sources=[],
        strict_mcp_config=True,
        verbatim_prompts=True,
    )


def through(herd: Herd) -> None:
    """Submit `SESSIONS` jobs and wait for their results."""
    jobs = [Job(prompt=PROMPT, allowed_tools=("Bash",)) for _ in range(SESSIONS)]
    for handle in herd.submit_many(jobs):
        result = handle.result(timeout_s=120)
        assert result.text == ANSWER, result


class _Clock:
    """Wall clock and CPU time of rounds; CPU time with that of all processes started and ended."""

    def __init__(self, *pids: int | None) -> None:
        self._processes = [psutil.Process(pid) for pid in pids]
        self.wall_s: dict[str, list[float]] = defaultdict(list)
        self.cpu_s: dict[str, list[float]] = defaultdict(list)

    def time(self, side: str, run: Callable[[], None]) -> None:
        """Run one round of a side."""
        start_s, cpu_start_s = time.perf_counter(), self._cpu_s()
        run()
        self.wall_s[side].append(time.perf_counter() - start_s)
        self.cpu_s[side].append(self._cpu_s() - cpu_start_s)

    def _cpu_s(self) -> float:
        return sum(sum(process.cpu_times()[:4]) for process in self._processes)


def measure() -> dict[str, Any]:
    """Rounds of both sides, turn about.

    Returns:
        The figures, and every round's seconds.
    """
    with (
        model_process() as model_url,
        running_fleet(model_url, concurrency=CONCURRENCY) as fleet,
    ):
        sides: dict[str, Callable[[], None]] = {
            "bare": lambda: asyncio.run(bare(model_url)),
            "fleet": lambda: through(fleet.herd),
        }
        through(fleet.herd)  # both sides' files into the page cache
        clock = _Clock(os.getpid(), fleet.worker.pid, fleet.redis.pid)
        for number in range(ROUNDS):
            for side in sorted(sides, reverse=bool(number % 2)):
                clock.time(side, sides[side])
    name = f"{SESSIONS} sessions, {CONCURRENCY} at once"
    return {
        "figures": [
            compared(name, "s", clock.wall_s["fleet"], clock.wall_s["bare"], at_most=1.1),
            compared(f"{name}, CPU time", "s", clock.cpu_s["fleet"], clock.cpu_s["bare"]),
        ],
        "wall_s": clock.wall_s,
        "cpu_s": clock.cpu_s,
    }
