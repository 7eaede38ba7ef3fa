"""The proof that a fleet has left its host clean: no process, no directory, no key for ever."""

from pathlib import Path

from agentherd import Herd
from agentherd.checks import Check, CheckStatus
from agentherd_workers.devkit.lasting_keys import ALWAYS, lasting_keys
from agentherd_workers.devkit.worker_process import WorkerProcess
from agentherd_workers.processes import marked_by_worker


def host_is_clean(herd: Herd, worker: WorkerProcess, mark: int) -> list[Check]:
    """What the jobs and the worker left. The worker has been stopped.

    Args:
        mark: of the worker's agents; see `WorkerReport.mark`.
    """
    return [
        _worker_ended(worker),
        _no_process(mark),
        _no_directory(worker.workspace_root),
        _no_key_for_ever(herd),
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


def _no_key_for_ever(herd: Herd) -> Check:
    redis = herd.connection.redis
    lasting = lasting_keys(redis, ALWAYS, prefix=herd.keys.prefix)
    leaked = [name for name, reason in lasting.items() if reason is None]
    if leaked:
        return Check("Redis keys", CheckStatus.FAILED, f"without expiry: {', '.join(leaked)}")
    expiring = redis.dbsize() - len(lasting)
    detail = f"{expiring} expire by themselves; {len(lasting)} stay for a reason"
    reasons = [f"{name}: {reason}" for name, reason in lasting.items()]
    return Check("Redis keys", CheckStatus.OK, "\n".join([detail, *reasons]))
