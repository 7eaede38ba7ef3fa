"""Redis connections for the client: bounded in time, errors as `BrokerUnavailable`."""

from typing import Any, TypeVar
from urllib.parse import urlsplit

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.asyncio.retry import Retry as AsyncRetry
from redis.backoff import ExponentialBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,  # noqa: A004 - redis' own, below the builtin of that name
    OutOfMemoryError,
    ReadOnlyError,
    TimeoutError,  # noqa: A004
)
from redis.retry import Retry

from agentherd.errors import AgentherdError, BrokerUnavailable, InvalidSettings
from agentherd.layout.operations import Operation, run, run_async

T = TypeVar("T")

_UNAVAILABLE = (
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,
    OutOfMemoryError,
    ReadOnlyError,
    TimeoutError,
    OSError,
)
_SCHEMES = ("redis", "rediss", "unix")
_TRIES = 2
"""Every script may be sent twice: a repeat finds what the first one wrote."""


def check_url(url: str) -> str:
    """Return a Redis URL that can be used.

    Raises:
        InvalidSettings: another scheme, or no host.
    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES or not (parts.hostname or parts.scheme == "unix"):
        raise InvalidSettings(
            [("redis_url", f"must look like redis://host:6379/0 ({', '.join(_SCHEMES)})")]
        )
    return url


def display_url(url: str) -> str:
    """`url` without its password, for messages."""
    parts = urlsplit(url)
    host = f"{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}"
    return f"{parts.scheme}://{host}{parts.path}"


def _options(timeout_s: float) -> dict[str, Any]:
    return {
        "socket_timeout": timeout_s / _TRIES,
        "socket_connect_timeout": timeout_s / _TRIES,
        "health_check_interval": 30,
        "client_name": "agentherd",
    }


def _unavailable(url: str, error: Exception) -> BrokerUnavailable:
    return BrokerUnavailable(f"Redis at {display_url(url)} is not available: {error}")


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
        except _UNAVAILABLE as error:
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
        except _UNAVAILABLE as error:
            raise _unavailable(self.url, error) from error

    async def close(self) -> None:
        """Close every connection."""
        await self.redis.aclose()
