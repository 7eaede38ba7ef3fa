"""Submit a job from a blocking service, follow it, and keep what it made."""

import os
import sys

from agentherd import EventKind, Herd, Job

with Herd(os.environ.get("AGENTHERD_REDIS_URL", "redis://127.0.0.1:6379/0")) as herd:
    handle = herd.submit(
        Job(
            prompt=sys.argv[1] if len(sys.argv) > 1 else "Write a haiku into haiku.txt.",
            allowed_tools=("Write",),
            artifacts=("*.txt",),
            max_budget_usd=0.50,
        )
    )
    for event in handle.events():
        if event.kind == EventKind.TOOL_STARTED:
            print("→", event.data["tool"], event.data["input"])
    result = handle.result().raise_for_failure()
    print(result.text)
    for artifact in result.artifacts:
        print(artifact.name, artifact.size_bytes, "bytes")
