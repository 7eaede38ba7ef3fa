"""The largest job that is accepted can be given to the CLI: Linux bounds every argument."""

import os
import subprocess
from pathlib import Path

import pytest
from claude_agent_sdk import InMemorySessionStore
from claude_agent_sdk._internal.transport.subprocess_cli import SubprocessCLITransport

from agentherd import Job, StdioServer, Subagent, SystemPrompt
from agentherd.contract.base import MAX_ARGUMENT_BYTES, KiB
from agentherd_workers.agent.options import AttemptPlan, build_options
from agentherd_workers.settings import WorkerSettings
from agentherd_workers.workspace import Workspace, make_root

ECHO = Path("/bin/true")


def largest_job() -> Job:
    """Everything that reaches the CLI at its limit."""
    rules = tuple(f"Bash({'🐑' * 118}{n:03})" for n in range(256))
    return Job(
        prompt="x" * 512 * KiB,
        system_prompt=SystemPrompt(text="🐑" * 256 * KiB),
        model="m" * 128,
        fallback_model="f" * 128,
        allowed_tools=rules,
        disallowed_tools=tuple(f"Read({rule[5:-1]})" for rule in rules),
        output_schema={"type": "object", "title": "x" * (64 * KiB - 40)},
        mcp_servers={f"s{n}": StdioServer(command="c", args=("x" * 32 * KiB,)) for n in range(7)},
        subagents={
            f"a{n}": Subagent(description="d" * 4 * KiB, prompt="🐑" * 64 * KiB) for n in range(32)
        },
        env={f"A{n:0127}": "🐑" * 8000 for n in range(8)},
    )


def test_no_argument_and_no_variable_is_too_long_to_start_a_program(tmp_path: Path) -> None:
    job = largest_job()
    make_root(tmp_path)
    workspace = Workspace.make(tmp_path, job.tenant, "s")
    plan = AttemptPlan(
        job=job,
        job_id="j",
        attempt=1,
        session_id="s",
        resume=None,
        fork=False,
        max_turns=1,
        max_budget_usd=1,
    )
    options = build_options(
        plan,
        workspace,
        WorkerSettings(),
        launcher=ECHO,
        launch={},
        store=InMemorySessionStore(),
        on_stderr=lambda _line: None,
    )
    command = SubprocessCLITransport(job.prompt, options)._build_command()
    assert max(len(os.fsencode(argument)) for argument in command) <= MAX_ARGUMENT_BYTES
    started = subprocess.run(command, env=options.env, check=True)
    assert started.returncode == 0
    workspace.remove()


def test_the_limit_is_linuxs() -> None:
    fits, too_long = "x" * MAX_ARGUMENT_BYTES, "x" * (MAX_ARGUMENT_BYTES + 1)
    assert subprocess.run([ECHO, fits], check=True).returncode == 0
    with pytest.raises(OSError, match="too long"):
        subprocess.run([ECHO, too_long], check=True)
