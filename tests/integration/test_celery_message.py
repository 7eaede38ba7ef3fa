"""Our own message against the one that Celery publishes for the same task."""

import json
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

import pytest
from celery import Celery
from kombu.transport.redis import Channel

from agentherd import Herd, Job
from agentherd.layout.keys import PRIORITY_STEPS, QUEUE, Keys, queue_list
from agentherd.layout.messages import TASK_NAME, task_message
from agentherd_workers.devkit.redis_server import RedisServer
from support.plain_celery import plain_celery

DESCRIPTION = "{}"
"""What Celery itself shows of a task without arguments."""


@pytest.fixture
def celery(redis_server: RedisServer, herd: Herd) -> Iterator[Celery]:
    """A plain Celery client on the same Redis, which `herd` emptied."""
    with plain_celery(redis_server) as app:
        yield app


def published(celery: Celery, herd: Herd, queue: str, priority: int) -> dict[str, Any]:
    """What Celery puts into the list."""
    celery.send_task(
        TASK_NAME,
        task_id="job-1",
        queue=queue,
        priority=priority,
        ignore_result=False,  # as of the task's own `apply_async`
    )
    redis = herd.connection.redis
    (message,) = redis.lrange(queue_list(queue, priority), 0, -1)
    document: dict[str, Any] = json.loads(message)
    return document


@pytest.mark.parametrize("queue", [QUEUE, Keys().queue("4g")])
@pytest.mark.parametrize("priority", range(10))
def test_it_is_celerys_field_by_field(
    celery: Celery, herd: Herd, queue: str, priority: int
) -> None:
    theirs = published(celery, herd, queue, priority)
    ours = json.loads(task_message("job-1", queue, priority, DESCRIPTION))
    # Named by each sender for itself: who sent it, where answers would go, the delivery.
    for document in (ours, theirs):
        assert isinstance(document["headers"].pop("origin"), str)
        assert isinstance(document["properties"].pop("reply_to"), str)
        assert document["properties"].pop("delivery_tag")
    assert json.loads(b64decode(ours.pop("body"))) == json.loads(b64decode(theirs.pop("body")))
    assert ours == theirs


@pytest.mark.parametrize("queue", [QUEUE, Keys().queue("4g")])
def test_the_list_is_kombus_for_every_priority(celery: Celery, queue: str) -> None:
    with celery.connection_for_write() as connection:
        channel = connection.default_channel
        assert isinstance(channel, Channel)
        assert tuple(channel.priority_steps) == PRIORITY_STEPS
        assert [queue_list(queue, n) for n in range(10)] == [
            channel._q_for_pri(queue, n)  # type: ignore[attr-defined]
            for n in range(10)
        ]


def test_celery_reads_what_we_wrote(celery: Celery, herd: Herd) -> None:
    """In the order of priorities, and within one in the order of submit."""
    priorities = [9, 3, 0, 6, 3]
    handles = herd.submit_many(Job(prompt="x", priority=priority) for priority in priorities)
    read = []
    with celery.connection_for_read(transport_options={"queue_order_strategy": "priority"}) as c:
        queue = c.SimpleQueue(QUEUE)
        for _ in handles:
            message = queue.get(block=False)
            message.ack()
            read.append(message.headers["id"])
            assert message.headers["task"] == TASK_NAME
            assert message.payload[:2] == [[], {}]
        queue.close()
    assert read == [handles[n].id for n in (2, 1, 4, 3, 0)]


def test_each_message_has_a_tag_of_its_own() -> None:
    tags = {
        json.loads(task_message("a", QUEUE, 3, ""))["properties"]["delivery_tag"]
        for _ in range(100)
    }
    assert len(tags) == 100


def test_the_message_shows_no_more_of_a_job_than_told(herd: Herd) -> None:
    secret = "x" * 100 + "secret"
    herd.submit(Job(prompt=secret, env={"TOKEN": "secret"}, metadata={"a": "secret"}))
    (message,) = herd.connection.redis.lrange(queue_list(QUEUE, 3), 0, -1)
    document = json.loads(message)
    assert "secret" not in json.dumps(document)
    assert b"secret" not in b64decode(document["body"])
