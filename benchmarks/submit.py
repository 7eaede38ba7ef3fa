"""Submitting against Celery's own `send_task`.

Celery has a shared producer, no result backend and the same job in its message. It writes one
list entry; we also write the record, the session's owner, indexes and the event stream, so that
the job can be found, claimed, listed and followed.
"""

import time
from collections.abc import Callable
from typing import Any

from celery import Celery
from redis import Redis

from agentherd import Herd, Job
from agentherd.layout.keys import QUEUE
from agentherd.layout.messages import TASK_NAME
from agentherd_workers.devkit.redis_server import RedisServer
from benchmarks.figures import compared

ROUNDS = 9
JOBS = 400
"""A round and side."""
PROMPT = "Read the report and list what changed since last week. " * 8
TOOLS = ("Read", "Bash(git log *)")
METADATA = {"customer": "c-1234", "request": "r-5678"}


def measure() -> dict[str, Any]:
    """Rates of single and of bulk submits, turn about with `send_task`.

    Returns:
        The figures, and every round's jobs a second.
    """
    with RedisServer() as server, Herd(server.url) as herd:
        app = Celery("bench", broker=server.url, set_as_current=False)
        ways: dict[str, Callable[[], None]] = {
            "submit": lambda: _submit(herd),
            "submit_many": lambda: _submit_many(herd),
            "send_task": lambda: _send(app),
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        with Redis.from_url(server.url) as redis:
            for number in range(ROUNDS + 1):
                for name in sorted(ways, reverse=bool(number % 2)):
                    rate = _rate(ways[name])
                    if number:  # the first round opens connections and loads the script
                        rates[name].append(rate)
                    redis.flushall()
        app.close()
    send_task = rates["send_task"]
    return {
        "figures": [
            compared("Herd.submit", "jobs/s", rates["submit"], send_task, at_least=0.5),
            compared("Herd.submit_many", "jobs/s", rates["submit_many"], send_task, at_least=1.0),
        ],
        "jobs_a_second": rates,
    }


def _rate(send_all: Callable[[], None]) -> float:
    start_s = time.perf_counter()
    send_all()
    return JOBS / (time.perf_counter() - start_s)


def _job() -> Job:
    return Job(prompt=PROMPT, allowed_tools=TOOLS, metadata=METADATA)


def _submit(herd: Herd) -> None:
    for _ in range(JOBS):
        herd.submit(_job())


def _submit_many(herd: Herd) -> None:
    herd.submit_many(_job() for _ in range(JOBS))


def _send(app: Celery) -> None:
    with app.producer_pool.acquire(block=True) as producer:
        for _ in range(JOBS):
            job = {"prompt": PROMPT, "allowed_tools": TOOLS, "metadata": METADATA}
            app.send_task(TASK_NAME, kwargs={"job": job}, queue=QUEUE, producer=producer)
