"""Why a job ended without success, as something a program can branch on."""

from enum import StrEnum


class FailureKind(StrEnum):
    """One reason a job can end for. Retry policy reads this, never a message text."""

    INVALID_JOB = "invalid_job"
    """The job itself can't be run: wrong field, unknown wire version, env name not allowed."""
    INVALID_OUTPUT = "invalid_output"
    """No output that fits the job's schema."""
    REFUSED = "refused"
    """The model refused."""
    MAX_TURNS = "max_turns"
    """`max_turns` reached. The session can be resumed with a higher limit."""
    BUDGET_EXCEEDED = "budget_exceeded"
    """`max_budget_usd` reached. It is checked after each response, so it is overshot a little."""
    WALL_TIMEOUT = "wall_timeout"
    """`timeout_s` passed."""
    IDLE_TIMEOUT = "idle_timeout"
    """No message from the agent for `idle_timeout_s`, again after it was resumed once."""
    CANCELLED = "cancelled"
    """Someone cancelled the job."""
    EXPIRED = "expired"
    """Not started within `expires_s`."""
    RATE_LIMITED = "rate_limited"
    """The model API's rate limit, after the CLI's own retries."""
    MODEL_UNAVAILABLE = "model_unavailable"
    """The model API was overloaded, broken or out of reach, after the CLI's own retries."""
    AUTHENTICATION = "authentication"
    """The model API refused the key (401, 403)."""
    BILLING = "billing"
    """The account can't pay: credit used up, spend limit reached."""
    BAD_REQUEST = "bad_request"
    """The model API refused the request for good: unknown model, prompt too long, 400, 413."""
    SESSION_MISSING = "session_missing"
    """The session to resume or fork is not in the store."""
    SESSION_CORRUPT = "session_corrupt"
    """What is stored of the session to go on with can't be read."""
    SESSION_BUSY = "session_busy"
    """Another job of that session had not ended when this one came by plain Celery."""
    CONFIGURATION = "configuration"
    """The CLI could not start as configured: missing, not executable, an option it rejects."""
    START_TIMEOUT = "start_timeout"
    """The CLI started and never said it was ready."""
    CRASHED = "crashed"
    """The CLI died, or its output ended without a result."""
    OUT_OF_MEMORY = "out_of_memory"
    """Killed over its memory ceiling, or by the kernel."""
    DISK_FULL = "disk_full"
    """Its directory grew over its disk ceiling."""
    TOO_MANY_PROCESSES = "too_many_processes"
    """It had more processes than its ceiling."""
    ARTIFACTS_TOO_LARGE = "artifacts_too_large"
    """The run ended well, and its artifacts exceed the cap. Those that fit are stored."""
    AGENT_ERROR = "agent_error"
    """The CLI reported an error during execution that fits nothing else."""
    LOST = "lost"
    """The worker went away and no attempts are left."""
    INTERNAL = "internal"
    """A defect in agentherd, or a host out of disk. The worker's log has the traceback."""


RETRYABLE = frozenset(
    {
        FailureKind.RATE_LIMITED,
        FailureKind.MODEL_UNAVAILABLE,
        FailureKind.START_TIMEOUT,
        FailureKind.CRASHED,
        FailureKind.AGENT_ERROR,
        FailureKind.LOST,
        FailureKind.INTERNAL,
    }
)
"""What another attempt may cure. The rest would fail, or cost, the same again."""
