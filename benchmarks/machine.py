"""What the figures were measured on."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import psutil
from redis import Redis

from agentherd_workers.agent.cli import cli_version, find_cli
from agentherd_workers.devkit.redis_server import RedisServer

PACKAGES = ("claude-agent-sdk", "celery", "kombu", "redis")


def facts() -> dict[str, Any]:
    """Cores, RAM, versions."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "ram_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "claude CLI": cli_version(find_cli(None)),
        "redis server": _server_version(),
        **{package: version(package) for package in PACKAGES},
    }


def _server_version() -> str:
    with RedisServer() as server, Redis.from_url(server.url) as redis:
        info = redis.info("server")
    name = info.get("server_name", "redis")
    return f"{name} {info.get(f'{name}_version')}"
