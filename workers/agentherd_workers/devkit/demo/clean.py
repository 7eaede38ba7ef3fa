"""The proof that a fleet has left its host clean: no process, no directory, no key for ever."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

from redis import Redis

from agentherd import Herd
from agentherd.checks import Check, CheckStatus
from agentherd.layout.keys import Keys
from agentherd_workers.devkit.worker_process import WorkerProcess
from agentherd_workers.processes import marked_by_worker

NO_EXPIRY = -1
"""What PTTL says of a key that stays for ever."""


def exemptions(keys: Keys) -> dict[str, str]:
    """Patterns of the keys that may stay for ever, and why. All of them stay small."""
    return {
        keys.fence_counter: "counts fencing tokens: none may ever come twice",
        "_kombu.binding.*": "Celery's routing table: a line a queue",
        "_kombu.binding_permanent.*": "Celery's list of routes that do not expire",
        "_kombu.binding_deadlines": "Celery's list of routes that do",
    }


def host_is_clean(herd: Herd, worker: WorkerProcess, mark: int) -> list[Check]:
    """What the jobs and the worker left. The worker has been stopped.

    Args:
        mark: of the worker's agents; see `WorkerReport.mark`.
    """
    return [
        _worker_ended(worker),
        _no_process(mark),
        _no_directory(worker.workspace_root),
        _no_key_for_ever(herd.connection.redis, exemptions(herd.keys)),
    ]


def _worker_ended(worker: WorkerProcess) -> Check:
    code = worker.returncode
    if code == 0:
        return Check("worker", CheckStatus.OK, "ended by itself when it was asked to")
    return Check("worker", CheckStatus.FAILED, f"ended with exit status {code}")


def _no_process(mark: int) -> Check:
    alive = sorted(marked_by_worker(mark))
    if alive:
        return Check("processes", CheckStatus.FAILED, f"still alive: {alive}")
    detail = f"none is alive that carries the worker's mark {mark:#x} (see /proc/PID/limits)"
    return Check("processes", CheckStatus.OK, detail)


def _no_directory(root: Path) -> Check:
    left = sorted(str(path) for folder in ("jobs", "workers") for path in (root / folder).iterdir())
    if left:
        return Check("directories", CheckStatus.FAILED, f"left behind: {', '.join(left)}")
    return Check("directories", CheckStatus.OK, f"none is left in {root}")


def _no_key_for_ever(redis: Redis, allowed: dict[str, str]) -> Check:
    names = list(redis.scan_iter(count=1000))
    lasting = sorted(
        name.decode(errors="replace") for name in names if redis.pttl(name) == NO_EXPIRY
    )
    leaked = [name for name in lasting if not any(fnmatchcase(name, one) for one in allowed)]
    if leaked:
        return Check("Redis keys", CheckStatus.FAILED, f"without expiry: {', '.join(leaked)}")
    detail = f"{len(names) - len(lasting)} expire by themselves; {len(lasting)} stay for a reason"
    return Check("Redis keys", CheckStatus.OK, "\n".join([detail, *_reasons(lasting, allowed)]))


def _reasons(lasting: list[str], allowed: dict[str, str]) -> Iterator[str]:
    for name in lasting:
        reason = next(why for pattern, why in allowed.items() if fnmatchcase(name, pattern))
        yield f"{name}: {reason}"
