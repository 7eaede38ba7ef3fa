"""Entry point for Celery: `celery -A agentherd_workers.app worker`. Settings: AGENTHERD_*."""

from agentherd.errors import InvalidSettings
from agentherd_workers.celery_app import create_app
from agentherd_workers.settings import WorkerSettings

try:
    app = create_app(WorkerSettings())
except InvalidSettings as error:
    # Anything else would reach the operator as a traceback in Celery's usage text.
    raise SystemExit(f"agentherd worker: {error}") from None
