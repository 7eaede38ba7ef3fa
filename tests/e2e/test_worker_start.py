"""How a worker starts, and how it refuses to: with one line that says what to change."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentherd import EventKind, FailureKind, Herd, Job, JobState
from agentherd_workers.devkit import scripts
from agentherd_workers.devkit.redis_server import RedisServer
from agentherd_workers.devkit.worker_process import WorkerFailed, WorkerProcess
from support.fleet import QUIET, Fleet, await_event, running_fleet
from support.plain_celery import plain_celery
from support.waiting import wait_until

COMMANDS = {
    "celery": ("celery", "-A", "agentherd_workers.app", "worker"),
    "agentherd": ("agentherd", "worker"),
}


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_command_starts_a_worker(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Celery's command line and ours start the same worker."""
    with running_fleet(tmp_path, command=command) as fleet:
        result = fleet.herd.submit(Job(prompt=scripts.script("Do it.", scripts.text("done"))))
        assert result.result(30).text == "done"


def test_two_fleets_share_a_redis_and_no_job(tmp_path: Path) -> None:
    """A prefix covers the queues too."""
    (tmp_path / "green").mkdir()
    (tmp_path / "blue").mkdir()
    job = Job(prompt=scripts.script("Do it.", scripts.text("done")))
    with (
        RedisServer() as redis,
        running_fleet(tmp_path / "green", redis=redis) as fleet,
        running_fleet(tmp_path / "blue", redis=redis, settings={"prefix": "blue"}),
        Herd(redis.url, prefix="blue") as blue,
    ):
        herds = (fleet.herd, blue)
        for herd, handles in [(herd, [herd.submit(job) for _ in range(4)]) for herd in herds]:
            assert [handle.result(60).text for handle in handles] == ["done"] * 4
            [worker] = herd.workers()
            assert {handle.record().worker for handle in handles} == {worker.worker}
        assert blue.workers() != fleet.herd.workers()


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[Fleet]:
    """A fleet whose CLI never says a word."""
    cli = tmp_path / "claude"
    cli.write_text("#!/bin/sh\nexec tail -f /dev/null\n")
    cli.chmod(0o700)
    with running_fleet(tmp_path, settings={"cli_path": str(cli)}) as fleet:
        yield fleet


def test_silent_cli_is_ended_by_the_idle_deadline(stuck: Fleet) -> None:
    """Silence from the start counts as silence, twice; the SDK alone would wait a minute."""
    result = stuck.herd.submit(Job(prompt="Speak.", idle_timeout_s=1)).result(30)
    assert result.state is JobState.TIMED_OUT
    assert result.failure is not None
    assert result.failure.kind is FailureKind.IDLE_TIMEOUT
    assert result.attempts == 2


def test_silent_cli_can_be_cancelled(stuck: Fleet) -> None:
    """A job may be cancelled before its CLI has said a word."""
    handle = stuck.herd.submit(Job(prompt="Speak."))
    await_event(handle, EventKind.STARTED)
    with plain_celery(stuck.redis) as celery:
        wait_until(lambda: celery.AsyncResult(handle.id).state == "STARTED", "Celery runs it")
        celery.control.revoke(handle.id, terminate=True)
    assert handle.result(30).state is JobState.CANCELLED


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"cli_path": "/nonexistent/claude"}, "no claude CLI at /nonexistent/claude"),
        ({"cli_path": "/etc/passwd"}, "/etc/passwd is not executable: chmod +x it"),
        ({"api_key_file": "/nonexistent/key"}, "/nonexistent/key"),
        ({"workspace_root": "/tmp"}, "must not be writable by others"),  # noqa: S108
        ({"workspace_root": "here"}, "AGENTHERD_WORKSPACE_ROOT: must be an absolute path"),
        ({"lease_s": "0"}, "AGENTHERD_LEASE_S"),
        ({"redis_url": "http://x"}, "AGENTHERD_REDIS_URL"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_worker_refuses_to_start(
    tmp_path: Path, settings: dict[str, str], line: str, command: tuple[str, ...]
) -> None:
    """It ends at once, not with success, and says why without a traceback."""
    worker = WorkerProcess(
        tmp_path,
        redis_url="redis://127.0.0.1:1/0",
        model_url=None,
        settings=settings,
        arguments=QUIET,
        command=command,
    )
    with pytest.raises(WorkerFailed):
        worker.start()
    assert worker.returncode not in {None, 0}
    assert line in worker.output()
    assert "Traceback" not in worker.output()
