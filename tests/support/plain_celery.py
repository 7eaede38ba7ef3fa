"""A service that has Celery and knows a task's name, and nothing of agentherd."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery import Celery
from celery.result import AsyncResult

from agentherd_workers.devkit.redis_server import RedisServer


@contextmanager
def plain_celery(redis: RedisServer) -> Iterator[Celery]:
    """Its Celery app, its connections closed at the end."""
    app = Celery("service", broker=redis.url, backend=redis.url, set_as_current=False)
    app.conf.update(accept_content=["json"], task_serializer="json", result_serializer="json")
    try:
        yield app
    finally:
        app.close()


def send(app: Celery, job: Any, **options: Any) -> "AsyncResult[Any]":
    """Send a job as a JSON object; whatever else `job` is, too."""
    chosen = {"queue": "agents", **options}
    return app.send_task("agentherd.run", kwargs={"job": job}, **chosen)
