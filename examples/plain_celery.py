"""Run an agent job from a service that has only Celery: no agentherd is imported."""

import os

from celery import Celery

url = os.environ.get("AGENTHERD_REDIS_URL", "redis://127.0.0.1:6379/0")
app = Celery(broker=url, backend=url)
job = {"prompt": "List the files here.", "files": [{"path": "a.txt", "text": "hello"}]}
result = app.send_task(
    "agentherd.run",
    kwargs={"job": job},
    queue="agents",  # required: workers read no other; "agents.4g" for the memory class 4g
    priority=3,  # 0 to 9; without one a message goes before all others, as with 0
    argsrepr="()",  # what Celery's events show of the arguments: by default the whole prompt
    kwargsrepr="{}",
)
print(result.get(timeout=120)["text"])
