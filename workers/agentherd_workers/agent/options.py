"""What one attempt tells the SDK and the CLI."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from claude_agent_sdk import AgentDefinition, ClaudeAgentOptions, SessionStore
from claude_agent_sdk.types import SystemPromptFile, SystemPromptPreset

from agentherd.contract.base import MiB
from agentherd.contract.job import Job, Subagent, SystemPrompt
from agentherd_workers.launcher import SDK_VARIABLES
from agentherd_workers.settings import WorkerSettings
from agentherd_workers.workspace import Workspace

SWITCHES = {
    # Sources: Claude Code's documentation of environment variables; the issues in facts.md.
    "CLAUDE_CODE_DISABLE_AUTO_MEMORY": "1",  # memory files would outlive the job
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",  # the CLI is pinned with the SDK
    "DISABLE_ERROR_REPORTING": "1",
    "DISABLE_TELEMETRY": "1",
    "ENABLE_CLAUDEAI_MCP_SERVERS": "false",
    "MCP_TOOL_TIMEOUT": "600000",  # ms; its default is about 28 h
}
MAX_MESSAGE_BYTES = 32 * MiB
"""A longer line on the CLI's stdout ends the session; the SDK's default is 1 MiB."""


@dataclass(frozen=True, kw_only=True)
class AttemptPlan:
    """One attempt at a job, as far as the CLI is concerned."""

    job: Job
    job_id: str
    attempt: int
    session_id: str
    resume: str | None
    """The session whose transcript comes back first; None starts one."""
    fork: bool
    """`session_id` is a copy of `resume`."""
    max_turns: int
    max_budget_usd: float


def build_options(
    plan: AttemptPlan,
    workspace: Workspace,
    settings: WorkerSettings,
    *,
    launcher: Path,
    launch: Mapping[str, str],
    store: SessionStore,
    on_stderr: Callable[[str], None],
) -> ClaudeAgentOptions:
    """The SDK's options for one attempt; writes the files they point to into `config/`.

    Args:
        launcher: what the SDK starts in place of the CLI.
        launch: what the launcher is told; see launcher.py.
    """
    job = plan.job
    chosen: dict[str, Any] = {}
    extra_args: dict[str, str | None] = {}
    if job.system_prompt is not None:
        chosen["system_prompt"], extra_args = _system_prompt(job.system_prompt, workspace.config)
    else:
        chosen["system_prompt"] = SystemPromptPreset(type="preset", preset="claude_code")
    if job.mcp_servers:
        chosen["mcp_servers"] = _mcp_config(job, workspace.config)
    if job.output_schema is not None:
        chosen["output_format"] = {"type": "json_schema", "schema": job.output_schema}
    return ClaudeAgentOptions(
        cli_path=launcher,
        cwd=workspace.cwd,
        env=agent_environment(plan, workspace, settings, launch),
        model=job.model or settings.model,
        fallback_model=job.fallback_model,
        effort=job.effort,
        allowed_tools=list(job.allowed_tools),
        disallowed_tools=list(job.disallowed_tools),
        permission_mode=job.permission_mode,
        max_turns=plan.max_turns,
        max_budget_usd=plan.max_budget_usd,
        agents={name: _subagent(agent) for name, agent in job.subagents.items()} or None,
        session_store=store,
        session_store_flush="eager",
        resume=plan.resume,
        fork_session=plan.fork,
        session_id=plan.session_id if plan.fork or plan.resume is None else None,
        setting_sources=[],
        strict_mcp_config=True,
        verbatim_prompts=True,
        max_buffer_size=MAX_MESSAGE_BYTES,
        stderr=on_stderr,
        extra_args=extra_args,
        **chosen,
    )


def agent_environment(
    plan: AttemptPlan, workspace: Workspace, settings: WorkerSettings, launch: Mapping[str, str]
) -> dict[str, str]:
    """Everything the agent may see, and the launcher's instructions."""
    environment = dict(SWITCHES)
    environment |= {name: os.environ[name] for name in settings.pass_env if name in os.environ}
    environment |= plan.job.env
    environment |= {
        "AGENTHERD_JOB_ID": plan.job_id,
        "AGENTHERD_ATTEMPT": str(plan.attempt),
        "PATH": settings.path,
        "HOME": str(workspace.config),
        "LANG": "C.UTF-8",
        "SHELL": "/bin/bash",
        "USER": "agent",
        "TMPDIR": str(workspace.tmp),
        "CLAUDE_CONFIG_DIR": str(workspace.config),
        "CLAUDE_CODE_TMPDIR": str(workspace.tmp),
    }
    key = settings.api_key()
    if key is not None:
        environment["ANTHROPIC_API_KEY"] = key.get_secret_value()
    if settings.model_base_url is not None:
        environment["ANTHROPIC_BASE_URL"] = settings.model_base_url
    return {**_blanks(), **environment, **launch, "AGENTHERD_KEEP": ",".join(environment)}


def _blanks() -> dict[str, str]:
    """Nothing, for each variable of the worker's that the SDK would hand on to the launcher.

    The launcher drops them, but its own environment can be read by other jobs until then.
    """
    needed = {*SDK_VARIABLES, *(name for name in os.environ if name.startswith("LD_"))}
    return dict.fromkeys(set(os.environ) - needed, "")


def _system_prompt(
    prompt: SystemPrompt, config: Path
) -> tuple[SystemPromptFile | SystemPromptPreset, dict[str, str | None]]:
    """Through a file: an argument ends at 128 KiB and shows in `ps` (SDK issue 267)."""
    path = config / "system-prompt.md"
    path.write_text(prompt.text)
    if prompt.mode == "replace":
        return SystemPromptFile(type="file", path=str(path)), {}
    preset = SystemPromptPreset(type="preset", preset="claude_code")
    return preset, {"append-system-prompt-file": str(path)}


def _mcp_config(job: Job, config: Path) -> Path:
    """Through a file, because headers and env of servers hold secrets."""
    path = config / "mcp.json"
    servers = {name: server.model_dump(mode="json") for name, server in job.mcp_servers.items()}
    path.write_text(json.dumps({"mcpServers": servers}))
    path.chmod(0o600)
    return path


def _subagent(agent: Subagent) -> AgentDefinition:
    return AgentDefinition(
        description=agent.description,
        prompt=agent.prompt,
        tools=None if agent.tools is None else list(agent.tools),
        model=cast("Any", agent.model),
        maxTurns=agent.max_turns,
    )
