"""Redis connections for the client: bounded in time, errors as `BrokerUnavailable`."""

from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError
from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,  # noqa: A004 - redis' own, below the builtin of that name
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TimeoutError,  # noqa: A004
)
from redis.retry import Retry

from agentherd.contract.base import problems_of
from agentherd.errors import AgentherdError, BrokerUnavailable, InvalidSettings, Problem
from agentherd.layout.operations import Operation, run, run_async

T = TypeVar("T")

_UNAVAILABLE = (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    TimeoutError,
    OSError,
)
REFUSED = (AuthenticationError, NoPermissionError)
"""Redis is there, and does not let this user in or do this."""
_REFUSALS = ("MISCONF", "NOREPLICAS", "CLUSTERDOWN", "MASTERDOWN")
"""First words of what Redis answers to every write while it is not well."""
_SCHEMES = ("redis", "rediss", "unix")
_TRIES = 2
"""Every script may be sent twice: a repeat finds what the first one wrote."""


def check_url(url: str) -> str:
    """Return a Redis URL that can be used.

    Raises:
        InvalidSettings: another scheme, no host, or a port that is none.
    """
    if not _is_redis_url(url):
        raise InvalidSettings(
            [("redis_url", f"must look like redis://host:6379/0 ({', '.join(_SCHEMES)})")]
        )
    return url


def _is_redis_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _port = parts.port  # raises where it is none
    except ValueError:
        return False
    return parts.scheme in _SCHEMES and bool(parts.hostname or parts.scheme == "unix")


Prefix = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
TimeoutS = Annotated[float, Field(gt=0, le=300)]


class _Options(BaseModel):
    prefix: Prefix
    timeout_s: TimeoutS


def check_options(url: str, *, prefix: str, timeout_s: float) -> None:
    """Refuse what can't be used to reach a fleet, as `HerdSettings` does.

    Raises:
        InvalidSettings: every problem with the URL, prefix and time-out.
    """
    problems: list[Problem] = []
    try:
        check_url(url)
    except InvalidSettings as error:
        problems += error.problems
    try:
        _Options(prefix=prefix, timeout_s=timeout_s)
    except ValidationError as error:
        problems += problems_of(error)
    if problems:
        raise InvalidSettings(problems)


def display_url(url: str) -> str:
    """`url` without its password, for messages."""
    parts = urlsplit(url)
    host = f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"
    return f"{parts.scheme}://{host}{parts.path}"


def _options(timeout_s: float) -> dict[str, Any]:
    # No health checks: redis-py retries each of their pings, within the tries of a connect.
    return {
        "socket_timeout": timeout_s / _TRIES,
        "socket_connect_timeout": timeout_s / _TRIES,
        "client_name": "agentherd",
    }


def _is_outage(error: Exception) -> bool:
    return isinstance(error, _UNAVAILABLE) or str(error).startswith(_REFUSALS)


def _unavailable(url: str, error: Exception) -> BrokerUnavailable:
    what = "refused us" if isinstance(error, REFUSED) else "is not available"
    return BrokerUnavailable(f"Redis at {display_url(url)} {what}: {error}")


class Connection:
    """A blocking connection pool that drives operations."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self.url = check_url(url)
        self.redis = Redis.from_url(
            url,
            retry=Retry(ExponentialBackoff(cap=0.2, base=0.02), _TRIES - 1),
            **_options(timeout_s),
        )

    def run(self, operation: Operation[T]) -> T:
        """The operation's value; raises `BrokerUnavailable`."""
        try:
            return run(operation, self.redis)
        except AgentherdError:  # `ResultTimeout` is an OSError too
            raise
        except (RedisError, OSError) as error:
            if not _is_outage(error):
                raise
            raise _unavailable(self.url, error) from error

    def close(self) -> None:
        """Close every connection."""
        self.redis.close()


class AsyncConnection:
    """The same for asyncio."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self.url = check_url(url)
        self.redis = AsyncRedis.from_url(
            url,
            retry=AsyncRetry(ExponentialBackoff(cap=0.2, base=0.02), _TRIES - 1),
            **_options(timeout_s),
        )

    async def run(self, operation: Operation[T]) -> T:
        """The operation's value; raises `BrokerUnavailable`."""
        try:
            return await run_async(operation, self.redis)
        except AgentherdError:
            raise
        except (RedisError, OSError) as error:
            if not _is_outage(error):
                raise
            raise _unavailable(self.url, error) from error

    async def close(self) -> None:
        """Close every connection."""
        await self.redis.aclose()
