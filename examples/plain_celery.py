"""Run an agent job from a service that has only Celery: no agentherd is imported."""

import os

from celery import Celery

url = os.environ.get("AGENTHERD_REDIS_URL", "redis://127.0.0.1:6379/0")
app = Celery(broker=url, backend=url)
job = {"prompt": "List the files here.", "files": [{"path": "a.txt", "text": "hello"}]}
result = app.send_task("agentherd.run", kwargs={"job": job}, queue="agents")
print(result.get(timeout=120)["text"])
