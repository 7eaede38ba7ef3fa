"""A service that has Celery and knows a task's name, and nothing of agentherd."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Any

from celery import Celery
from celery.result import AsyncResult

from agentherd_workers.devkit.redis_server import RedisServer
from support.waiting import wait_until


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


@contextmanager
def followed_events(app: Celery) -> Iterator[list[dict[str, Any]]]:
    """The events that workers send from now on, as Flower gets them."""
    events: list[dict[str, Any]] = []
    with app.connection() as connection:
        receiver = app.events.Receiver(connection, handlers={"*": events.append})
        thread = Thread(target=receiver.capture, kwargs={"limit": None}, daemon=True)
        thread.start()
        wait_until(lambda: events, "a worker answered the receiver's wake-up")
        try:
            yield events
        finally:
            receiver.should_stop = True
            thread.join()
