"""Entry point for Celery: `celery -A agentherd_workers.app worker`. Settings: AGENTHERD_*."""

from agentherd_workers.celery_app import create_app
from agentherd_workers.settings import WorkerSettings

app = create_app(WorkerSettings())
