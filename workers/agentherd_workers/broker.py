"""kombu's Redis transport, with two defects mended: what it does with a connection that is gone,
and with a message that is none."""

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, cast

from celery import signals
from kombu.transport import redis as kombu_redis
from kombu.utils.json import dumps
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from agentherd.layout import poison
from agentherd.layout.operations import run
from agentherd.layout.replies import text
from agentherd_workers import metrics
from agentherd_workers.admission.cycle import GatedQueues
from agentherd_workers.poison import Poison, read_message

log = logging.getLogger(__name__)


class PollClient(Redis):
    """The client that waits for messages; what it pops may be held back before kombu sees it."""

    wanted: Callable[[str, bytes], bool] = staticmethod(lambda _list, _raw: True)
    """Whether kombu is to deliver what came from this Redis list."""

    def parse_response(self, connection: Any, command_name: Any, **options: Any) -> Any:
        """A reply; a message that is held back is no message, as when none had come in time."""
        reply = super().parse_response(connection, command_name, **options)  # type: ignore[no-untyped-call]
        if command_name == "BRPOP" and reply and not self.wanted(text(reply[0]), reply[1]):
            return None
        return reply


class Channel(kombu_redis.Channel):
    """A channel that says so when it has lost its connection, and survives what it pops.

    kombu 5.7 closes a channel twice when Redis refuses connections, and acknowledges on the old
    channel what was taken before; both then end in an AttributeError on
    `self.connection.client`, which is None by then, and the worker with it. A connection error
    is what Celery expects and survives.

    It also raises in the worker's event loop where a popped text is not a message (poison.py).
    """

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        if self.connection.client is None:
            raise RedisConnectionError("the channel's connection to Redis is gone")
        parameters: dict[str, Any] = super()._connparams(asynchronous=asynchronous)  # type: ignore[misc] # not in celery-types
        return parameters

    def _get_client(self) -> type[PollClient]:
        super()._get_client()  # type: ignore[misc] # checks redis-py's version
        return PollClient

    def _create_client(self, asynchronous: bool = False) -> PollClient:
        client: PollClient = super()._create_client(asynchronous=asynchronous)  # type: ignore[misc]
        if asynchronous:
            client.wanted = self._wanted
        return client

    def set_aside(self, raw: bytes, queue: str, reason: str) -> None:
        """Keep a message that no worker can run for a person to look at."""
        log.error("set aside a message of %d bytes from %s: %s", len(raw), queue, reason)
        metrics.count_poison(queue)
        keys, worker = self._queues.owner()
        with suppress(RedisError, OSError), self.conn_or_acquire() as client:
            run(poison.keep(keys, raw, queue=queue, worker=worker, reason=reason), client)

    @property
    def _queues(self) -> GatedQueues:
        return cast("GatedQueues", self._queue_cycle)  # type: ignore[attr-defined] # likewise

    def _wanted(self, redis_list: str, raw: bytes) -> bool:
        queue = redis_list.rsplit(self.sep, 1)[0]
        if not self._queues.is_gated(queue):
            return True
        if not self._queues.accepts():
            # The gate was closed while the BRPOP was on the wire: back to where it stood.
            with self.conn_or_acquire() as client:
                client.rpush(redis_list, raw)
            return False
        try:
            read_message(raw)
        except Poison as error:
            self.set_aside(raw, queue, str(error))
            return False
        return True


def mend_transport() -> None:
    """Use our channel for `redis://` and `rediss://`, in this process."""
    kombu_redis.Transport.Channel = Channel
    signals.task_unknown.connect(_on_unknown, weak=False)
    signals.task_rejected.connect(_on_rejected, weak=False)


def _on_unknown(message: Any, name: str, **_: Any) -> None:
    _set_aside(message, f"no task is called {name!r}")


def _on_rejected(message: Any, exc: Exception | None, **_: Any) -> None:
    _set_aside(message, f"Celery can't read it: {exc or 'unknown format'}")


def _set_aside(message: Any, reason: str) -> None:
    """Celery has told its sender, if it could, and thrown it away."""
    if isinstance(message.channel, Channel):
        raw = dumps(message._raw).encode(errors="replace")
        message.channel.set_aside(raw, str(message.delivery_info.get("routing_key")), reason)
