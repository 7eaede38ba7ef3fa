"""A plain Celery app whose children would each run agents: what memory.py compares with."""

import claude_agent_sdk
from celery import Celery

app = Celery("prefork", set_as_current=False)


@app.task
def run(prompt: str) -> str:
    """Never called: a child that can run an agent has the SDK in memory."""
    return f"{claude_agent_sdk.__version__} {prompt}"
