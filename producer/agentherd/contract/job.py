"""`Job`: everything one agent run may be told, with a limit on every field."""

import re
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_serializer,
    field_validator,
)

from agentherd.contract.base import (
    BY_NAME,
    MAX_ARGUMENT_BYTES,
    PLAIN,
    Contract,
    Json,
    KiB,
    MiB,
    ModelName,
    Text,
    ToolRule,
    at_most_bytes,
    matching,
)
from agentherd.contract.failures import RETRYABLE, FailureKind
from agentherd.contract.files import InputFile, RelativePath, check_tree, files_from_mapping
from agentherd.contract.schemas import check_output_schema
from agentherd.errors import InvalidJob

MAX_FILES_BYTES = 8 * MiB
"""All input files of a job together, decoded."""
MAX_JOB_BYTES = 12 * MiB
"""A job once encoded, files included."""

DEFAULT_MEMORY = "default"
"""The memory class of a job that names none."""
MEMORY_CLASS = r"[1-9][0-9]{0,2}g"
"""A larger memory class, as a pattern."""

Tenant = Annotated[
    str,
    matching(r"[a-z0-9][a-z0-9._-]{0,62}", "1-63 lower-case letters, digits, `.`, `_` and `-`"),
]
_JOB_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_RESERVED_ENV = re.compile(
    r"^(PATH|HOME|PWD|SHELL|USER|LOGNAME|TMPDIR|TMP|TEMP|NODE_OPTIONS|BUN_OPTIONS|BASH_ENV|ENV|IFS"
    r"|(LD|DYLD|CLAUDE|ANTHROPIC|AGENTHERD)_.*|CLAUDECODE)$"
)

PermissionMode = Literal["dontAsk", "acceptEdits", "plan", "default", "auto", "bypassPermissions"]
Effort = Literal["low", "medium", "high", "xhigh", "max"]
Name = Annotated[
    str, matching(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", "1-64 letters, digits, `_` and `-`")
]

MAX_ENV_BYTES = 256 * KiB
"""All names and values of one environment together."""


def _check_env(env: dict[str, str]) -> dict[str, str]:
    size_bytes = sum(len(name) + len(value.encode()) + 2 for name, value in env.items())
    if size_bytes > MAX_ENV_BYTES:
        raise ValueError(f"{size_bytes} bytes together; at most {MAX_ENV_BYTES}")
    return env


EnvName = Annotated[
    str, matching(r"[A-Za-z_][A-Za-z0-9_]{0,127}", "a name for an environment variable")
]
Environment = Annotated[
    dict[EnvName, Annotated[Text, at_most_bytes(32 * KiB)]],
    Field(max_length=64),
    AfterValidator(_check_env),
    BY_NAME,
]
"""Variables for a process; each value at most 32 KiB, all together 256 KiB."""


def _check_rules(rules: tuple[str, ...]) -> tuple[str, ...]:
    size_bytes = len(",".join(rules).encode())
    if size_bytes > MAX_ARGUMENT_BYTES:  # the CLI is given them as one
        raise ValueError(f"{size_bytes} bytes together; at most {MAX_ARGUMENT_BYTES}")
    return rules


ToolRules = Annotated[tuple[ToolRule, ...], Field(max_length=256), AfterValidator(_check_rules)]


class SystemPrompt(Contract):
    """The agent's system prompt: Claude Code's own with `text` appended, or `text` alone."""

    text: Annotated[str, Field(min_length=1, max_length=256 * KiB), PLAIN]
    mode: Literal["append", "replace"] = "append"


class NewSession(Contract):
    """Start a conversation. Without `id` a UUID is chosen at submit."""

    kind: Literal["new"] = "new"
    id: UUID | None = None


class ResumeSession(Contract):
    """Go on with the conversation `id` of the same tenant."""

    kind: Literal["resume"] = "resume"
    id: UUID


class ForkSession(Contract):
    """Go on from a copy of the conversation `id`, which stays as it is."""

    kind: Literal["fork"] = "fork"
    id: UUID
    new_id: UUID | None = None
    """The copy's id. Without it a UUID is chosen at submit."""

    @field_validator("new_id")
    @classmethod
    def _is_another(cls, new_id: UUID | None, info: ValidationInfo) -> UUID | None:
        if new_id is not None and new_id == info.data.get("id"):
            raise ValueError("must differ from `id`, the session that is copied")
        return new_id


Session = Annotated[NewSession | ResumeSession | ForkSession, Field(discriminator="kind")]


class StdioServer(Contract):
    """An MCP server that the CLI starts as a child process inside the job."""

    type: Literal["stdio"] = "stdio"
    command: Annotated[str, Field(min_length=1, max_length=1024), PLAIN]
    args: Annotated[tuple[Annotated[Text, at_most_bytes(32 * KiB)], ...], Field(max_length=64)] = ()
    env: Environment = {}


HeaderName = Annotated[
    str, matching(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", "the name of an HTTP header")
]
HeaderValue = Annotated[
    str,
    matching(r"[\t\x20-\x7e\x80-\xff]{0,8192}", "Latin-1 on one line, 8 KiB at most", secret=True),
]


class RemoteServer(Contract):
    """An MCP server reached over the network."""

    type: Literal["http", "sse"]
    url: Annotated[Text, matching(r"https?://\S{1,2040}", "an http or https URL", secret=True)]
    headers: Annotated[dict[HeaderName, HeaderValue], Field(max_length=32), BY_NAME] = {}


McpServer = Annotated[StdioServer | RemoteServer, Field(discriminator="type")]


def _default_to_stdio(value: Any) -> Any:
    if isinstance(value, dict) and "type" not in value:
        return {"type": "stdio", **value}
    return value


class Subagent(Contract):
    """A subagent that the agent may start with its Agent tool."""

    description: Annotated[str, Field(min_length=1, max_length=4 * KiB), PLAIN]
    """When to use it; the agent reads this."""
    prompt: Annotated[str, Field(min_length=1, max_length=64 * KiB), PLAIN]
    """Its system prompt."""
    tools: Annotated[tuple[ToolRule, ...], Field(max_length=128)] | None = None
    """The tools it may use; None: all of the job's."""
    model: ModelName | None = None
    max_turns: Annotated[int, Field(ge=1, le=1000)] | None = None


class RetryPolicy(Contract):
    """When a failed attempt is followed by another one. The session goes on, nothing restarts."""

    max_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    backoff_s: Annotated[float, Field(ge=0, le=3600)] = 10.0
    """Wait before the second attempt; doubled for each one after it, with jitter."""
    max_backoff_s: Annotated[float, Field(ge=0, le=24 * 3600)] = 600.0
    kinds: frozenset[FailureKind] = RETRYABLE
    """What to retry. Only kinds that another attempt can cure are accepted."""

    @field_validator("kinds")
    @classmethod
    def _curable(cls, kinds: frozenset[FailureKind]) -> frozenset[FailureKind]:
        if hopeless := sorted(kinds - RETRYABLE):
            raise ValueError(
                f"{', '.join(hopeless)}: another attempt can't cure these;"
                f" allowed: {', '.join(sorted(RETRYABLE))}"
            )
        return kinds

    @field_serializer("kinds")
    def _in_order(self, kinds: frozenset[FailureKind]) -> list[FailureKind]:
        """A set has another order in each process; the job's digest must not."""
        return sorted(kinds)


class Job(Contract):
    """One agent run. Frozen; every limit is checked when it is made, before anything is sent.

    Raises:
        InvalidJob: lists every field that is wrong and what is allowed.
    """

    prompt: Annotated[str, Field(min_length=1, max_length=512 * KiB), PLAIN]
    """What the agent is asked. Sent verbatim: no `@file` expansion, no slash commands."""
    system_prompt: SystemPrompt | None = None
    """A bare string appends to Claude Code's own system prompt."""
    model: ModelName | None = None
    """Model id or alias; None: the worker's default."""
    fallback_model: ModelName | None = None
    effort: Effort | None = None
    allowed_tools: ToolRules = ()
    """Tools the agent may use without being asked, which headless means: may use."""
    disallowed_tools: ToolRules = ()
    """Tools taken away from the agent altogether."""
    permission_mode: PermissionMode = "dontAsk"
    """What happens to a tool that no rule allows. `dontAsk` denies it.

    The CLI refuses `bypassPermissions` on workers that run as root.
    """
    max_turns: Annotated[int, Field(ge=1, le=10_000)] = 200
    max_budget_usd: Annotated[float, Field(gt=0, le=10_000)] = 10.0
    """Spend limit of the run, by the CLI's own estimate, checked after each response."""
    timeout_s: Annotated[float, Field(gt=0, le=7 * 24 * 3600)] = 3600.0
    """Wall clock of all attempts together, each from the start of its CLI.

    Time between attempts does not count.
    """
    idle_timeout_s: Annotated[float, Field(gt=0, le=24 * 3600)] = 900.0
    """Longest silence of the agent while none of its tools runs.

    Then it is ended and, where `retry.max_attempts` allows, resumed once. Tools have limits of
    their own: 600 s for a shell command.
    """
    output_schema: dict[str, Json] | None = None
    """JSON Schema (an object at the top, 64 KiB at most) that the structured output must fit."""
    mcp_servers: Annotated[
        dict[Name, Annotated[McpServer, BeforeValidator(_default_to_stdio)]],
        Field(max_length=32),
        BY_NAME,
    ] = {}
    subagents: Annotated[dict[Name, Subagent], Field(max_length=32), BY_NAME] = {}
    env: Environment = {}
    """Environment of the agent and its tools. Each name must be in the worker's allowlist."""
    files: Annotated[
        tuple[InputFile, ...], Field(max_length=1000), BeforeValidator(files_from_mapping)
    ] = ()
    """Files put into the workspace. A mapping of path to text or bytes is accepted too."""
    artifacts: Annotated[tuple[RelativePath, ...], Field(max_length=64)] = ()
    """Patterns of the files to keep when the run ends.

    `*` and `?` stay within a folder's or file's name; a part `**` stands for any folders.
    """
    tenant: Tenant = "default"
    session: Session = NewSession()
    memory: Annotated[
        str, matching(rf"{DEFAULT_MEMORY}|{MEMORY_CLASS}", "`default` or whole GiB such as `4g`")
    ] = DEFAULT_MEMORY
    """Memory class: `default`, or a larger ceiling such as `4g`. One queue a class."""
    priority: Annotated[int, Field(ge=0, le=9)] = 3
    """0 runs first. Celery on Redis keeps four steps: 0-2, 3-5, 6-8, 9."""
    not_before: AwareDatetime | None = None
    """Not started before this time. Needs a time zone."""
    expires_s: Annotated[float, Field(gt=0, le=30 * 24 * 3600)] | None = None
    """Seconds from submit after which a job that has not started is dropped as expired."""
    idempotency_key: (
        Annotated[str, matching(r"[\x21-\x7e]{1,128}", "1-128 printable ASCII characters")] | None
    ) = None
    """Unique per tenant. A second submit with it returns the first job."""
    metadata: Annotated[
        dict[
            Annotated[
                str, matching(r"[A-Za-z0-9_.-]{1,64}", "1-64 letters, digits, `_`, `.` and `-`")
            ],
            Annotated[str, Field(max_length=1024)],
        ],
        Field(max_length=32),
        BY_NAME,
    ] = {}
    """The caller's own labels; returned with the job, never read by agentherd."""
    retry: RetryPolicy = RetryPolicy()

    @field_validator("system_prompt", mode="before")
    @classmethod
    def _text_appends(cls, value: Any) -> Any:
        return {"text": value} if isinstance(value, str) else value

    @field_validator("prompt")
    @classmethod
    def _says_something(cls, prompt: str) -> str:
        if not prompt.strip():
            raise ValueError("must not be blank")
        return prompt

    @field_validator("output_schema")
    @classmethod
    def _is_json_schema(cls, schema: dict[str, Json] | None) -> dict[str, Json] | None:
        return None if schema is None else check_output_schema(schema)

    @field_validator("env")
    @classmethod
    def _no_reserved_names(cls, env: dict[str, str]) -> dict[str, str]:
        if reserved := sorted(name for name in env if _RESERVED_ENV.match(name)):
            raise ValueError(f"{', '.join(reserved)}: set by the worker, not by a job")
        return env

    @field_validator("files")
    @classmethod
    def _files_fit(cls, files: tuple[InputFile, ...]) -> tuple[InputFile, ...]:
        check_tree(files)
        size_bytes = sum(len(file.content) for file in files)
        if size_bytes > MAX_FILES_BYTES:
            raise ValueError(f"{size_bytes} bytes together; at most {MAX_FILES_BYTES}")
        return files

    @field_validator("fallback_model")
    @classmethod
    def _is_another_model(cls, fallback: str | None, info: ValidationInfo) -> str | None:
        if fallback is not None and fallback == info.data.get("model"):
            raise ValueError("must differ from `model`; the CLI refuses to start otherwise")
        return fallback

    @field_validator("disallowed_tools")
    @classmethod
    def _not_allowed_too(cls, rules: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        if both := sorted(set(rules) & set(info.data.get("allowed_tools", ()))):
            raise ValueError(f"also in allowed_tools: {', '.join(both)}")
        return rules

    @field_validator("mcp_servers")
    @classmethod
    def _servers_fit(cls, servers: dict[str, McpServer]) -> dict[str, McpServer]:
        size_bytes = sum(len(server.model_dump_json()) for server in servers.values())
        if size_bytes > 256 * KiB:
            raise ValueError(f"{size_bytes} bytes encoded; at most {256 * KiB}")
        return servers

    @property
    def session_id(self) -> str | None:
        """The session this job writes to, where the job itself fixes it."""
        match self.session:
            case NewSession(id=chosen) | ForkSession(new_id=chosen):
                return None if chosen is None else str(chosen)
            case ResumeSession(id=resumed):
                return str(resumed)


def check_job_id(job_id: str) -> str:
    """Return `job_id` if it can name a job.

    Raises:
        InvalidJob: it is not 1-128 letters, digits, `_`, `.`, `-`.
    """
    if not _JOB_ID.fullmatch(job_id):
        raise InvalidJob([("job_id", "must be 1-128 letters, digits, `_`, `.` and `-`")])
    return job_id
