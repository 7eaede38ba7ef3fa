"""Redis conversations written once, for a blocking and for an asyncio caller.

An *operation* is a generator that yields what it wants from Redis and is sent the
reply. `run` drives one over `redis.Redis`, `run_async` over `redis.asyncio.Redis`;
the operation itself does no I/O, so sync and async callers share every rule.

    def read_state(keys: Keys, job_id: str) -> Operation[str | None]:
        return (yield Command("HGET", keys.job(job_id), "state"))
"""

import asyncio
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha1
from importlib.resources import files
from typing import Any, TypeVar

from redis import Redis
from redis.asyncio import Redis as AsyncRedis
from redis.exceptions import NoScriptError, ResponseError

Argument = str | bytes | int | float


class Command:
    """One Redis command: `Command("HGET", key, field)`."""

    __slots__ = ("arguments",)

    def __init__(self, *arguments: Argument) -> None:
        self.arguments = arguments


@dataclass(frozen=True)
class Script:
    """One `.lua` file of the package, with the KEYS and ARGV its header names.

    Keys and arguments go to the script in the order given here, which a test
    compares with the header of the file.
    """

    name: str
    keys: Mapping[str, str]
    args: Mapping[str, Argument]
    rest: Sequence[Argument] = ()
    """Further arguments, as many as there are, behind the named ones."""

    @property
    def positional(self) -> tuple[Argument, ...]:
        return (len(self.keys), *self.keys.values(), *self.args.values(), *self.rest)

    @property
    def evalsha(self) -> tuple[Argument, ...]:
        """The command that runs it where Redis has it cached."""
        return ("EVALSHA", script_digest(self.name), *self.positional)

    @property
    def eval(self) -> tuple[Argument, ...]:
        """The command that runs it anyway."""
        return ("EVAL", script_source(self.name), *self.positional)


class Pipeline:
    """Several requests in one round trip, not atomic; the reply is a list in their order.

    All are sent, also where Redis refuses one. Then the first refusal is raised; with
    `keep_errors` each stands in the place of its reply.
    """

    __slots__ = ("keep_errors", "requests")

    def __init__(self, *requests: Command | Script, keep_errors: bool = False) -> None:
        self.requests = requests
        self.keep_errors = keep_errors


Request = Command | Pipeline | Script
T = TypeVar("T")
Operation = Generator[Request, Any, T]


@cache
def script_source(name: str) -> str:
    """The text of `lua/<name>.lua`."""
    return (files(__package__) / "lua" / f"{name}.lua").read_text(encoding="utf-8")


@cache
def script_digest(name: str) -> str:
    """What EVALSHA takes for the script `name`."""
    return sha1(script_source(name).encode(), usedforsecurity=False).hexdigest()


def run(operation: Operation[T], redis: Redis) -> T:
    """Drive `operation` to its end over a blocking client.

    Raises:
        redis.RedisError: whatever the client raises; an operation may catch it.
    """
    try:
        request = next(operation)
        while True:
            try:
                reply = _ask(redis, request)
            except Exception as error:
                request = operation.throw(error)
            else:
                request = operation.send(reply)
    except StopIteration as end:
        value: T = end.value
        return value


def _ask(redis: Redis, request: Request) -> Any:
    if isinstance(request, Command):
        return redis.execute_command(*request.arguments)
    if isinstance(request, Pipeline):
        pipeline = redis.pipeline(transaction=False)
        for item in request.requests:
            pipeline.execute_command(*_arguments(item))
        replies = pipeline.execute(raise_on_error=False)
        for index in _unknown_scripts(replies):
            try:
                replies[index] = _ask(redis, request.requests[index])
            except ResponseError as error:
                replies[index] = error
        return replies if request.keep_errors else _raise_first(replies)
    try:
        return redis.execute_command(*request.evalsha)
    except NoScriptError:
        return redis.execute_command(*request.eval)


def _arguments(request: Command | Script) -> tuple[Argument, ...]:
    return request.arguments if isinstance(request, Command) else request.evalsha


def _unknown_scripts(replies: list[Any]) -> list[int]:
    return [index for index, reply in enumerate(replies) if isinstance(reply, NoScriptError)]


def _raise_first(replies: list[Any]) -> list[Any]:
    for reply in replies:
        if isinstance(reply, Exception):
            raise reply
    return replies


async def run_async(operation: Operation[T], redis: AsyncRedis) -> T:
    """Drive `operation` to its end over an asyncio client; see `run`."""
    try:
        request = next(operation)
        while True:
            try:
                reply = await _ask_cancellably(redis, request)
            except Exception as error:
                request = operation.throw(error)
            else:
                request = operation.send(reply)
    except StopIteration as end:
        value: T = end.value
        return value


async def _ask_cancellably(redis: AsyncRedis, request: Request) -> Any:
    """The reply, unless the task is cancelled meanwhile.

    redis-py sends by `asyncio.wait_for`, which before Python 3.12 goes on as if nothing had
    happened where it is cancelled just after the command was sent.
    """
    task = asyncio.current_task()
    cancelled_before = task.cancelling() if task else 0
    try:
        return await _ask_async(redis, request)
    finally:
        if task and task.cancelling() > cancelled_before:
            raise asyncio.CancelledError


async def _ask_async(redis: AsyncRedis, request: Request) -> Any:
    if isinstance(request, Command):
        return await redis.execute_command(*request.arguments)
    if isinstance(request, Pipeline):
        pipeline = redis.pipeline(transaction=False)
        for item in request.requests:
            pipeline.execute_command(*_arguments(item))
        replies = await pipeline.execute(raise_on_error=False)
        for index in _unknown_scripts(replies):
            try:
                replies[index] = await _ask_async(redis, request.requests[index])
            except ResponseError as error:
                replies[index] = error
        return replies if request.keep_errors else _raise_first(replies)
    try:
        return await redis.execute_command(*request.evalsha)
    except NoScriptError:
        return await redis.execute_command(*request.eval)
