"""What `agentherd doctor` checks on a host that runs agents."""

import shutil
from collections.abc import Iterator

from agentherd.checks import Check, CheckStatus
from agentherd.errors import InvalidSettings
from agentherd_workers.admission.capacity import NoCapacity
from agentherd_workers.admission.memory import HostMemory
from agentherd_workers.admission.wiring import capacity_of
from agentherd_workers.agent.cli import CliMissing, cli_version, find_cli
from agentherd_workers.ceilings.cgroups import Cgroups, CgroupsUnavailable
from agentherd_workers.isolation import (
    Isolation,
    IsolationUnavailable,
    bubblewrap_problem,
    choose_isolation,
)
from agentherd_workers.settings import WorkerSettings
from agentherd_workers.sizes import size_text
from agentherd_workers.workspace import make_root


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
    yield from _workspace_root(settings)
    yield _isolation(settings)
    yield _ceilings(settings)


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
    capacity = capacity_of(settings, HostMemory())
    try:
        capacity.check()
    except NoCapacity as error:
        fix = "lower the ceiling or the overhead, or add RAM; see `agentherd capacity`"
        return Check("RAM", CheckStatus.FAILED, str(error), fix)
    fitting = ", ".join(f"{capacity.agents(memory)} {memory}" for memory in capacity.served)
    detail = (
        f"agents by memory class: {fitting}; of {size_text(capacity.host_ram.size_bytes)}"
        f" ({capacity.host_ram.source}), {size_text(capacity.overhead_bytes)} are overhead"
    )
    return Check("RAM", CheckStatus.OK, detail)


def _workspace_root(settings: WorkerSettings) -> Iterator[Check]:
    root = settings.workspace_root
    try:
        make_root(root)
    except OSError as error:
        yield Check("workspace root", CheckStatus.FAILED, str(error), "AGENTHERD_WORKSPACE_ROOT")
        return
    yield Check("workspace root", CheckStatus.OK, str(root))
    free_bytes = shutil.disk_usage(root).free
    needed = size_text(settings.job_disk_bytes)
    detail = f"{size_text(free_bytes)} free at {root}; one job may take {needed}"
    if free_bytes >= settings.job_disk_bytes:
        yield Check("disk", CheckStatus.OK, detail)
    else:
        yield Check("disk", CheckStatus.WARNING, detail, "free some, or move the workspace root")


def _isolation(settings: WorkerSettings) -> Check:
    try:
        chosen = choose_isolation(settings.isolation)
    except IsolationUnavailable as error:
        fix = "install it, or set AGENTHERD_ISOLATION=auto"
        return Check("isolation", CheckStatus.FAILED, str(error), fix)
    if chosen is Isolation.BUBBLEWRAP:
        detail = "bubblewrap: other jobs, the host's files and processes can't be seen"
        return Check("isolation", CheckStatus.OK, detail)
    problem = bubblewrap_problem()
    possible = f"bubblewrap does not run: {problem}" if problem else "bubblewrap would run"
    fix = "install bubblewrap, or run jobs of one trust level: they can read each other's files"
    return Check("isolation", CheckStatus.WARNING, f"process; {possible}", fix)


def _ceilings(settings: WorkerSettings) -> Check:
    name = "ceilings"
    if settings.ceiling_enforcement == "watchdog":
        return Check(name, CheckStatus.OK, "held by the watchdog, as set")
    try:
        version = Cgroups.set_up().version
    except CgroupsUnavailable as error:
        status = (
            CheckStatus.WARNING if settings.ceiling_enforcement == "auto" else CheckStatus.FAILED
        )
        fix = "run as root or under systemd with Delegate=yes: the kernel then holds them exactly"
        return Check(name, status, f"held by the watchdog: {error}", fix)
    return Check(name, CheckStatus.OK, f"held by the kernel: cgroup v{version}")
