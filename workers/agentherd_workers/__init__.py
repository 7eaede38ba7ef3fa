"""agentherd's worker half: run Claude agents from a Celery queue on this host."""

__version__ = "0.1.0"
