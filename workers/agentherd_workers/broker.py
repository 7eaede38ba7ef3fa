"""kombu's Redis transport, with one defect mended."""

from typing import Any

from kombu.transport import redis as kombu_redis
from redis.exceptions import ConnectionError as RedisConnectionError


class Channel(kombu_redis.Channel):
    """A channel that says so when it has lost its connection.

    kombu 5.7 closes a channel twice when Redis refuses connections, and acknowledges on the old
    channel what was taken before; both then end in an AttributeError on
    `self.connection.client`, which is None by then, and the worker with it. A connection error
    is what Celery expects and survives.
    """

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        if self.connection.client is None:
            raise RedisConnectionError("the channel's connection to Redis is gone")
        parameters: dict[str, Any] = super()._connparams(asynchronous=asynchronous)  # type: ignore[misc] # not in celery-types
        return parameters


def mend_transport() -> None:
    """Use our channel for `redis://` and `rediss://`, in this process."""
    kombu_redis.Transport.Channel = Channel
