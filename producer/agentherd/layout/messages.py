"""The Celery message that says a job can run.

Celery message protocol 2 (docs.celeryq.dev, Internals, "Message Protocol") in the envelope of
kombu's Redis transport. We write it ourselves so that one script puts record and message
into Redis together: no job can be recorded and never queued. A test publishes the same
task with Celery and compares the two, field by field.
"""

import json
from base64 import b64encode
from uuid import uuid4

TASK_NAME = "agentherd.run"


def task_message(job_id: str, queue: str, priority: int, description: str) -> str:
    """The message as it stands in the queue's list.

    It carries the job's id and nothing else: the record has the rest. `description` is what
    Flower shows as the task's arguments.
    """
    body = [[], {}, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}]
    return json.dumps(
        {
            "body": b64encode(json.dumps(body).encode()).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": {
                "lang": "py",
                "task": TASK_NAME,
                "id": job_id,
                "shadow": None,
                "eta": None,
                "expires": None,
                "group": None,
                "group_index": None,
                "retries": 0,
                "timelimit": [None, None],
                "root_id": job_id,
                "parent_id": None,
                "argsrepr": "()",
                "kwargsrepr": description,
                "origin": "agentherd",
                "ignore_result": False,
                "replaced_task_nesting": 0,
                "stamped_headers": None,
                "stamps": {},
            },
            "properties": {
                "correlation_id": job_id,
                "reply_to": "",
                "delivery_mode": 2,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "priority": priority,
                "body_encoding": "base64",
                "delivery_tag": str(uuid4()),
            },
        }
    )
