"""What a worker can be told: `AGENTHERD_*` in its environment."""

import fnmatch
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, ByteSize, Field, SecretStr

from agentherd.contract.base import ModelName, matching
from agentherd.contract.job import MEMORY_CLASS
from agentherd.settings import HerdSettings, NameList
from agentherd_workers.isolation import IsolationChoice
from agentherd_workers.sizes import Bytes, GiB, MiB, at_least

LEAST_CEILING_BYTES = 128 * MiB
"""The CLI alone takes more."""


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError(f"must be an absolute path, not {path}")
    return path


def _without_password(url: str) -> str:
    if "@" in urlsplit(url).netloc:
        raise ValueError(
            "must not hold a user or a password, which agents would see; a key belongs into the"
            " file that AGENTHERD_API_KEY_FILE names"
        )
    return url


AbsolutePath = Annotated[Path, AfterValidator(_absolute)]


class WorkerSettings(HerdSettings):
    """How this host runs agents. Read once, at the entry point, and passed down."""

    # The model API. Neither ANTHROPIC_API_KEY nor ANTHROPIC_BASE_URL of the shell is read.
    api_key_file: AbsolutePath | None = None
    """File with the model API key. Without it agents have no key, as behind a gateway."""
    model_base_url: (
        Annotated[str, Field(pattern=r"^https?://\S+$"), AfterValidator(_without_password)] | None
    ) = None
    """Model API or gateway; None: Anthropic's."""
    model: ModelName | None = None
    """For jobs that name none; None: the CLI's default."""

    # The host.
    cli_path: AbsolutePath | None = None
    """The `claude` executable; None: the one that claude-agent-sdk carries."""
    workspace_root: AbsolutePath = Path("/var/tmp/agentherd")  # noqa: S108 - 0700, made by us
    """Where jobs' throwaway directories are made. The same path on every host of a fleet."""
    concurrency: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Agents at once in this worker; None: what the host's RAM holds."""
    session_ceiling_bytes: Annotated[Bytes, at_least(LEAST_CEILING_BYTES)] = ByteSize(GiB)
    """RAM one agent may take, its tools included. Sizes may be written `1536MiB`, `2GiB`."""
    memory_classes: dict[
        Annotated[str, matching(MEMORY_CLASS, "whole GiB such as `4g`")],
        Annotated[Bytes, at_least(LEAST_CEILING_BYTES)],
    ] = {name: ByteSize(size * GiB) for name, size in (("2g", 2), ("4g", 4), ("8g", 8))}
    """Ceilings of the larger memory classes. A class that can't fit this host is not served."""
    overhead_bytes: Bytes = ByteSize(GiB)
    """RAM left for the system and the workers."""
    job_disk_bytes: Annotated[Bytes, at_least(64 * MiB)] = ByteSize(5 * GiB)
    """Disk that one job's directory may take."""
    job_processes: Annotated[int, Field(ge=64, le=100_000)] = 1024
    """Processes that one job may have; where a cgroup counts them, threads count too."""
    max_pressure_percent: Annotated[float, Field(gt=0, le=100)] = 20.0
    """No job is taken while tasks wait for memory more than this (PSI, `some avg10`)."""
    class_patience_s: Annotated[float, Field(ge=0, le=24 * 3600)] = 10.0
    """How long a waiting job of a larger memory class is overtaken by smaller ones that fit.
    Then what becomes free is kept for it."""

    isolation: IsolationChoice = "auto"
    """`process` or `bubblewrap`; `auto` takes the strongest that runs here."""
    ceiling_enforcement: Literal["auto", "cgroup", "watchdog"] = "auto"
    """Who holds the memory ceiling: the kernel by a cgroup, or a watchdog that measures."""
    readable_paths: tuple[AbsolutePath, ...] = ()
    """Further files and directories of the host that agents may read under bubblewrap."""

    # Shutting down, and going on elsewhere.
    drain_grace_s: Annotated[float, Field(ge=0, le=24 * 3600)] = 5.0
    """How long agents may go on after SIGTERM before their jobs go back to the queue. Giving
    them back takes up to 4 s more: `docker stop` kills after 10 s, Kubernetes after 30 s."""
    checkpoint_url: SecretStr | None = None
    """Where workspaces are kept for another attempt, as an fsspec URL such as `s3://bucket/path`
    or `file:///mnt/shared`; None: in Redis. The place must belong to this fleet alone."""
    checkpoint_every_s: Annotated[float, Field(ge=1, le=24 * 3600)] = 15.0
    """A workspace that changed is stored at most this often, and when its job is given back."""
    max_checkpoint_bytes: Annotated[Bytes, at_least(0)] = ByteSize(64 * MiB)
    """Largest stored workspace, compressed; 0 stores none. Above it the next attempt starts
    without files, and its agent is told so."""
    breaker_probe_s: Annotated[float, Field(ge=1, le=3600)] = 30.0
    """While the model API refuses the fleet's key or account, one job is tried this often."""

    # The agents' environment.
    path: str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    """Their PATH."""
    job_env_allow: NameList = ()
    """Names, or patterns such as `APP_*`, that a job may set in its agent's environment."""
    pass_env: NameList = ()
    """Names of the worker's own environment that every agent gets, such as `HTTPS_PROXY`."""

    # Redis.
    lease_s: Annotated[float, Field(ge=1, le=300)] = 15.0
    """A worker that could not renew its lease on a job for this long ends its agent."""
    session_ttl_s: Annotated[float, Field(ge=60, le=365 * 24 * 3600)] = 30 * 24 * 3600.0
    """How long an unused session can be resumed."""
    max_session_bytes: Annotated[int, Field(ge=MiB)] = 256 * MiB
    """Largest transcript of one session."""
    max_artifacts_bytes: Annotated[int, Field(ge=0, le=256 * MiB)] = 16 * MiB
    """All artifacts of one job together."""

    def api_key(self) -> SecretStr | None:
        """The model API key, read from its file now.

        Raises:
            OSError: the file can't be read, or is not text.
        """
        if self.api_key_file is None:
            return None
        try:
            return SecretStr(self.api_key_file.read_text().strip())
        except UnicodeDecodeError:
            raise OSError(f"{self.api_key_file} is not text") from None

    def allows_env(self, name: str) -> bool:
        """Whether a job may set this variable."""
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.job_env_allow)
