"""What `agentherd doctor` checks on a host that runs agents."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil

from agentherd.checks import Check, CheckStatus
from agentherd.contract.base import MiB
from agentherd.errors import InvalidSettings
from agentherd_workers.agent.cli import CliMissing, cli_version, find_cli
from agentherd_workers.capacity import agents_per_host
from agentherd_workers.settings import WorkerSettings
from agentherd_workers.workspace import make_root

GiB = 1024 * MiB
MIN_FREE_BYTES = 5 * GiB
"""Disk that one agent may come to need."""


def host_checks() -> Iterator[Check]:
    """This host's checks, by the settings in the environment."""
    try:
        settings = WorkerSettings()
    except InvalidSettings as error:
        yield Check("worker settings", CheckStatus.FAILED, str(error), "correct these variables")
        return
    yield _cli(settings)
    yield _api_key(settings)
    yield _ram(settings)
    yield from _workspace_root(settings.workspace_root)
    yield _isolation()


def _cli(settings: WorkerSettings) -> Check:
    try:
        cli = find_cli(settings.cli_path)
        return Check("claude CLI", CheckStatus.OK, f"{cli_version(cli)} at {cli}")
    except CliMissing as error:
        fix = "install claude-agent-sdk for this platform, or set AGENTHERD_CLI_PATH"
        return Check("claude CLI", CheckStatus.FAILED, str(error), fix)


def _api_key(settings: WorkerSettings) -> Check:
    name = "model API"
    try:
        key = settings.api_key()
    except OSError as error:
        return Check(name, CheckStatus.FAILED, str(error), "correct AGENTHERD_API_KEY_FILE")
    where = settings.model_base_url or "Anthropic's API"
    if key is not None:
        return Check(name, CheckStatus.OK, f"{where}, with the key of {settings.api_key_file}")
    if settings.model_base_url is not None:
        return Check(name, CheckStatus.OK, f"{where}, without a key: the gateway has it")
    return Check(
        name,
        CheckStatus.WARNING,
        "no key and no gateway",
        "set AGENTHERD_API_KEY_FILE, or AGENTHERD_MODEL_BASE_URL",
    )


def _ram(settings: WorkerSettings) -> Check:
    total_bytes = psutil.virtual_memory().total
    fitting = agents_per_host(total_bytes, settings.overhead_bytes, settings.session_ceiling_bytes)
    detail = (
        f"{fitting} agents: ({total_bytes // MiB} MiB - {settings.overhead_bytes // MiB} overhead)"
        f" / {settings.session_ceiling_bytes // MiB} a session"
    )
    if fitting:
        return Check("RAM", CheckStatus.OK, detail)
    fix = "lower AGENTHERD_SESSION_CEILING_BYTES or AGENTHERD_OVERHEAD_BYTES, or add RAM"
    return Check("RAM", CheckStatus.FAILED, detail, fix)


def _workspace_root(root: Path) -> Iterator[Check]:
    try:
        make_root(root)
    except OSError as error:
        yield Check("workspace root", CheckStatus.FAILED, str(error), "AGENTHERD_WORKSPACE_ROOT")
        return
    yield Check("workspace root", CheckStatus.OK, str(root))
    free_bytes = shutil.disk_usage(root).free
    detail = f"{free_bytes // GiB} GiB free at {root}"
    if free_bytes >= MIN_FREE_BYTES:
        yield Check("disk", CheckStatus.OK, detail)
    else:
        yield Check("disk", CheckStatus.WARNING, detail, "free some, or move the workspace root")


def _isolation() -> Check:
    """Jobs run as this user, without namespaces; say what the host could do."""
    bwrap = shutil.which("bwrap")
    possible = f"bubblewrap is here ({bwrap})" if bwrap else "bubblewrap is not installed"
    detail = f"process: clean environment, own directories, no namespaces; {possible}"
    fix = "run jobs of one trust level on a host: agents of it can read each other's files"
    return Check("isolation", CheckStatus.WARNING, detail, fix)
