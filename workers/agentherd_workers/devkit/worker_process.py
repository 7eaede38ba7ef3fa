"""A real worker in a process of its own, with an environment that holds nothing of ours."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from agentherd_workers.processes import die_with_parent

DUMMY_API_KEY = "sk-ant-dummy-key-of-the-devkit"
_READY = " ready."
_POLL_S = 0.02


class WorkerFailed(RuntimeError):
    """The worker ended, or was not ready in time. Carries the end of its log."""


class WorkerProcess:
    """`celery -A agentherd_workers.app worker` on a Redis and a model of the devkit.

    Args:
        directory: for its log, key file and workspaces; must exist.
        model_url: of the simulated model.
        settings: further `AGENTHERD_*` variables, without the prefix, in lower case.
        environment: further variables of the worker process, as an operator's host has them.
        command: what to start instead, e.g. `("agentherd", "worker")`.
    """

    def __init__(
        self,
        directory: Path,
        *,
        redis_url: str,
        model_url: str | None,
        settings: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        arguments: tuple[str, ...] = (),
        api_key_file: Path | None = None,
        command: tuple[str, ...] = ("celery", "-A", "agentherd_workers.app", "worker"),
    ) -> None:
        self.directory = directory
        self.log = directory / f"worker-{time.monotonic_ns()}.log"
        self.workspace_root = directory / "workspaces"
        program = str(Path(sys.executable).parent / command[0])
        self._command = (program, *command[1:], "--loglevel", "INFO", *arguments)
        self._environment = self._variables(redis_url, model_url, api_key_file, settings or {})
        self._environment |= environment or {}
        self._process: subprocess.Popen[bytes] | None = None

    def _variables(
        self,
        redis_url: str,
        model_url: str | None,
        api_key_file: Path | None,
        settings: Mapping[str, str],
    ) -> dict[str, str]:
        if api_key_file is None:
            api_key_file = self.directory / "dummy-api-key"
            api_key_file.write_text(DUMMY_API_KEY)
            api_key_file.chmod(0o600)
        chosen = {
            "redis_url": redis_url,
            "workspace_root": str(self.workspace_root),
            "api_key_file": str(api_key_file),
            "concurrency": "2",
        }
        if model_url is not None:
            chosen["model_base_url"] = model_url
        chosen |= settings
        return {
            "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin",
            "HOME": str(self.directory),
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            **{f"AGENTHERD_{name.upper()}": value for name, value in chosen.items()},
        }

    @property
    def pid(self) -> int:
        """The worker's process id."""
        if self._process is None:
            raise WorkerFailed("not started")
        return self._process.pid

    def launch(self) -> Self:
        """Start it and return at once."""
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                cwd=self.directory,
                process_group=0,  # Ctrl-C is for us, and we end it in order
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, before any thread
            )
        return self

    def start(self, timeout_s: float = 30.0) -> Self:
        """Start it and wait until it takes jobs.

        Raises:
            WorkerFailed: it ended, or was not ready in time.
        """
        self.launch()
        deadline_s = time.monotonic() + timeout_s
        while _READY not in self.output():
            if self.returncode is not None or time.monotonic() > deadline_s:
                output = self.output()
                self.kill()
                raise WorkerFailed(f"worker not ready: exit {self.returncode}\n{output[-4000:]}")
            time.sleep(_POLL_S)
        return self

    def output(self) -> str:
        """Its log so far."""
        return self.log.read_text(errors="replace")

    @property
    def returncode(self) -> int | None:
        """Its exit status, or None while it runs."""
        return None if self._process is None else self._process.poll()

    @property
    def is_running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def stop(self, timeout_s: float = 30.0) -> None:
        """Warm shutdown (SIGTERM): it ends when its jobs have; killed after `timeout_s`."""
        if self._process is None or not self.is_running:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None and self._process.poll() is None:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.stop()
