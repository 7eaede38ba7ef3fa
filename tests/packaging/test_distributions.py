"""The two wheels, and the producer alone in a clean environment, used as a service uses it."""

import subprocess
import sys
import time
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

import agentherd
import agentherd_workers
from agentherd_workers.devkit.redis_server import RedisServer

ROOT = Path(__file__).parent.parent.parent
HEAVY = {"claude-agent-sdk", "mcp", "celery", "kombu", "psutil", "anyio"}
"""What a service must not get with the producer."""
SERVICE = """
import importlib.util, sys
import agentherd
from agentherd import Herd, Job
for module in ("claude_agent_sdk", "mcp", "celery", "kombu", "agentherd_workers", "click"):
    assert importlib.util.find_spec(module) is None, module
with Herd(sys.argv[1]) as herd:
    handle = herd.submit(Job(prompt="x", output_schema={"type": "object"}))
    print(agentherd.__version__, handle.state(), handle.id)
"""


def project(name: str) -> dict[str, Any]:
    """The `[project]` table of a distribution."""
    with (ROOT / name / "pyproject.toml").open("rb") as stream:
        table: dict[str, Any] = tomllib.load(stream)["project"]
    return table


def closure(name: str, extras: frozenset[str] = frozenset()) -> set[str]:
    """Every distribution that installing `name` brings along, itself included."""
    found: set[str] = set()
    pending = [(name, extras)]
    while pending:
        current, wanted = pending.pop()
        found.add(current)
        for line in requires(current) or []:
            requirement = Requirement(line)
            needed = requirement.marker is None or any(
                requirement.marker.evaluate({"extra": extra}) for extra in wanted | {""}
            )
            dependency = requirement.name.lower().replace("_", "-")
            if needed and dependency not in found and _installed(dependency):
                pending.append((dependency, frozenset(requirement.extras)))
    return found


def _installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def pip(*arguments: str) -> None:
    """Run pip; its output is the error's text."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both distributions, built without network."""
    folder = tmp_path_factory.mktemp("wheels")
    sources = [str(ROOT / name) for name in ("producer", "workers")]
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder), *sources)
    return {path.name.partition("-")[0]: path for path in folder.glob("*.whl")}


@pytest.fixture(scope="module")
def service_python(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a new environment with the producer, at the versions of our lock."""
    folder = tmp_path_factory.mktemp("service")
    pins = folder / "pins.txt"
    pins.write_text(_without_hashes((ROOT / "requirements" / "dev.txt").read_text()))
    started_s = time.monotonic()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "venv"], check=True)
    python = folder / "venv" / "bin" / "python"
    # Our own pip installs into it; compiling what is imported once would only cost time.
    arguments = ("--no-compile", "-c", str(pins), str(wheels["agentherd"]))
    pip("--python", str(python), "install", *arguments)
    assert time.monotonic() - started_s < 40
    return python


def _without_hashes(locked: str) -> str:
    """The pins alone: with hashes, pip would want one of our own wheel too."""
    lines = [line.removesuffix("\\").strip() for line in locked.splitlines()]
    return "\n".join(line for line in lines if line and not line.startswith(("#", "--hash")))


@pytest.mark.parametrize("extras", [frozenset(), frozenset({"cli"})])
def test_the_producer_brings_nothing_heavy(extras: frozenset[str]) -> None:
    brought = closure("agentherd", extras)
    assert {"pydantic", "redis", "jsonschema"} <= brought
    assert not brought & HEAVY


def test_the_workers_bring_it_all() -> None:
    assert closure("agentherd-workers") >= {"agentherd", "claude-agent-sdk", "celery", "click"}


def test_a_service_with_the_producer_alone_submits_a_job(service_python: Path) -> None:
    with RedisServer() as server:
        ended = subprocess.run(
            [service_python, "-I", "-W", "error", "-c", SERVICE, server.url],
            capture_output=True,
            text=True,
            check=False,
        )
    assert ended.returncode == 0, ended.stderr
    version, state, _job_id = ended.stdout.split()
    assert (version, state) == (agentherd.__version__, "queued")


def test_the_command_without_its_extra_says_what_to_install(service_python: Path) -> None:
    command = service_python.with_name("agentherd")
    ended = subprocess.run([command, "list"], capture_output=True, text=True, check=False)
    assert ended.returncode != 0
    assert "agentherd[cli]" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["agentherd", "agentherd_workers"])
def test_a_wheel_holds_its_whole_package_and_nothing_else(
    wheels: dict[str, Path], name: str
) -> None:
    source = ROOT / ("producer" if name == "agentherd" else "workers") / name
    files = {
        path.relative_to(source.parent).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    with zipfile.ZipFile(wheels[name]) as wheel:
        packed = {entry for entry in wheel.namelist() if ".dist-info/" not in entry}
    assert packed == files
    assert f"{name}/py.typed" in packed


def test_the_producers_wheel_holds_the_scripts(wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels["agentherd"]) as wheel:
        scripts = [entry for entry in wheel.namelist() if entry.endswith(".lua")]
    assert "agentherd/layout/lua/submit.lua" in scripts
    assert len(scripts) >= 10


def test_the_versions_agree_and_the_workers_pin_the_producer() -> None:
    producer, workers = project("producer"), project("workers")
    version = producer["version"]
    assert version == workers["version"] == agentherd.__version__ == agentherd_workers.__version__
    pins = [line for line in workers["dependencies"] if line.startswith("agentherd")]
    assert pins == [f"agentherd[cli]=={version}"]
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text().replace("[", "").replace("]", "")
