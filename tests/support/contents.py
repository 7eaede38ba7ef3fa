"""All that a Redis holds, as values to compare.

Not by DUMP: Redis moves the fields of a large hash while they are read, and dumps them in the new
order.
"""

from collections.abc import Callable
from typing import Any, cast

from redis import Redis

_READ: dict[bytes, Callable[[Any, bytes], Any]] = {
    b"string": lambda redis, key: redis.get(key),
    b"hash": lambda redis, key: redis.hgetall(key),
    b"list": lambda redis, key: redis.lrange(key, 0, -1),
    b"set": lambda redis, key: redis.smembers(key),
    b"zset": lambda redis, key: redis.zrange(key, 0, -1, withscores=True),
    b"stream": lambda redis, key: redis.xrange(key),
}


def contents(redis: Redis) -> dict[bytes, Any]:
    """Every key's value."""
    return {key: _READ[cast("bytes", redis.type(key))](redis, key) for key in redis.scan_iter()}
