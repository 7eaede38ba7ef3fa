"""What an agent can do to its host and to other jobs: tried by its own Bash tool.

Each test runs with workers of every kind that this user can start: under each isolation level,
as root and as an ordinary user.
"""

import os
import secrets
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from agentherd import EventKind, FailureKind, Job, JobHandle, JobResult, JobState, RetryPolicy
from agentherd_workers.devkit import scripts
from agentherd_workers.devkit.redis_server import RedisServer
from support.fleet import Fleet, await_event, cli_of, running_fleet
from support.isolation import require
from support.probes import PROBES, Confined, Probe, script_of
from support.programs import REPOSITORY
from support.unprivileged import as_ordinary_user, give_away
from support.waiting import wait_until

WORKER = ("celery", "-A", "agentherd_workers.app", "worker")
STAYS = scripts.bash("echo secret > secret.txt; read -t 100 < <(sleep 100)")
"""A victim: a job with a secret that goes on for as long as the tests do."""


@dataclass(frozen=True)
class Ward:
    """A fleet whose one job is attacked by another, and what of the host is attacked."""

    confined: Confined
    fleet: Fleet
    victim: JobHandle
    password: str
    closed: Path
    """A folder in which only root may write."""
    open: Path
    """One in which everybody may."""

    def run(self, command: str, **options: object) -> JobResult:
        """Run a job with one shell command, which the CLI itself must not have refused."""
        result = self.submit(command, **options).result(60)
        assert not result.permission_denials
        return result

    def submit(self, command: str, **options: object) -> JobHandle:
        """A job with one shell command."""
        prompt = scripts.script("Do it.", scripts.bash(command), scripts.text("done"))
        chosen = {"retry": RetryPolicy(max_attempts=1), **options}
        return self.fleet.herd.submit(
            Job.model_validate({"prompt": prompt, "allowed_tools": ["Bash"], **chosen})
        )

    @property
    def jobs(self) -> Path:
        """Where the host has the jobs' directories."""
        return self.fleet.worker.workspace_root / "jobs"

    def directory_of(self, handle: JobHandle) -> Path:
        """A running job's directory."""
        return self.jobs / f"default.{handle.record().session_id}"


KINDS = [
    pytest.param(("process", "own user"), id="process-user"),
    pytest.param(("bubblewrap", "own user"), id="bubblewrap-user"),
]
if os.geteuid() == 0:
    KINDS += [
        pytest.param(("process", "root"), id="process-root"),
        pytest.param(("bubblewrap", "root"), id="bubblewrap-root"),
    ]


@pytest.fixture(scope="module", params=KINDS)
def ward(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ward]:
    """The victim's tool runs when this is ready."""
    isolation, user = request.param
    require(isolation)
    confined: Confined = "bubblewrap"
    if isolation == "process":
        confined = "process, root" if user == "root" else "process, own user"
    directory = tmp_path_factory.mktemp("fleet")
    host = tmp_path_factory.mktemp("host")
    host.chmod(0o711)
    password = secrets.token_hex(16)
    with ExitStack() as stack:
        redis = stack.enter_context(RedisServer(password=password))
        fleet = stack.enter_context(
            running_fleet(
                directory,
                redis=redis,
                settings={"isolation": isolation, "concurrency": "3"},
                environment={"CANARY": "canary"},
                command=WORKER if user == "root" else as_ordinary_user(*WORKER),
                start=False,
            )
        )
        ward = Ward(
            confined=confined,
            fleet=fleet,
            victim=fleet.herd.submit(
                Job(prompt=scripts.script("Keep a secret.", STAYS), allowed_tools=("Bash",))
            ),
            password=password,
            closed=_folder(host / "closed", 0o755),
            open=_folder(host / "open", 0o777),
        )
        if user != "root":
            give_away(directory)
            give_away(ward.open)
        fleet.worker.start()
        await_event(ward.victim, EventKind.TOOL_STARTED)
        wait_until((ward.directory_of(ward.victim) / "workspace/secret.txt").exists, "the secret")
        yield ward
        os.kill(fleet.worker.pid, signal.SIGQUIT)  # the victim would go on
        wait_until(lambda: not fleet.worker.is_running, "the worker has ended", 20)


def _folder(path: Path, mode: int) -> Path:
    path.mkdir()
    path.chmod(mode)
    return path


# What is tried, and what of it works.


@pytest.fixture(scope="module")
def succeeded(ward: Ward) -> set[str]:
    """What worked, all tried by one agent."""
    variables = {
        "VICTIM": str(ward.directory_of(ward.victim)),
        "VICTIM_CLI": str(cli_of(ward.victim).pid),
        "WORKER": str(ward.fleet.worker.pid),
        "ROOT": str(ward.fleet.worker.workspace_root),
        "PORT": str(ward.fleet.redis.port),
        "CLOSED": str(ward.closed),
        "OPEN": str(ward.open),
        "DROWSSAP": ward.password[::-1],
    }
    result = ward.run(script_of(variables), artifacts=["succeeded.txt"])
    assert result.state is JobState.SUCCEEDED, result.failure
    content = ward.fleet.herd.job(result.job_id).artifact("succeeded.txt")
    return set(content.decode().splitlines())


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.what.replace(" ", "-"))
def test_attack(ward: Ward, succeeded: set[str], probe: Probe) -> None:
    """It works exactly where the documentation says so."""
    assert (probe.what in succeeded) is (ward.confined in probe.works_under)


def test_documentation_says_the_same() -> None:
    """The table of docs/isolation.md has these rows: what works where."""
    lines = (REPOSITORY / "docs/isolation.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "| " in line]
    shown = {row[0]: tuple(cell == "yes" for cell in row[1:]) for row in rows if len(row) == 4}
    columns: tuple[Confined, ...] = ("process, root", "process, own user", "bubblewrap")
    for probe in PROBES:
        assert shown[probe.what] == tuple(column in probe.works_under for column in columns)


# What is left, and what is kept.

DAEMONS = """
setsid sleep {tag} >/dev/null 2>&1 &
nohup sleep {tag} >/dev/null 2>&1 & disown
env -i /usr/bin/setsid /bin/sleep {tag} >/dev/null 2>&1 &
(setsid sh -c 'sleep {tag} & exec sleep {tag}' >/dev/null 2>&1 &)
python3 - <<'END'
import os, resource
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for limit in (1000, resource.RLIM_INFINITY):
            try:
                resource.setrlimit(resource.RLIMIT_RTTIME, (limit, limit))
            except (OSError, ValueError):
                pass
        os.closerange(0, 100)
        os.execv("/bin/sleep", ["sleep", "{tag}"])
    os._exit(0)
END
until [ "$(ps ax -o args | grep -Ec '^(/bin/)?sleep {tag}$')" = 6 ]; do :; done
"""


def test_no_daemon_outlives_its_job(ward: Ward) -> None:
    """A normal end ends also what left the CLI's tree, its session and its environment."""
    tag = str(40_000_000 + secrets.randbelow(10_000_000))
    handle = ward.submit(DAEMONS.format(tag=tag))
    result = handle.result(60)
    assert result.state is JobState.SUCCEEDED
    assert result.resources.peak_processes >= 6
    assert not [one for one in psutil.process_iter() if _runs(one, ["sleep", tag])]


def test_agents_do_not_outlive_the_kill_of_all_they_see(ward: Ward) -> None:
    """An agent that kills every process it may kill ends its own job only.

    Not under `process`: there it would end the worker and, as root, the host.
    """
    assert ward.victim.state() is JobState.RUNNING
    if ward.confined == "bubblewrap":
        result = ward.run("kill -9 -1")
        assert result.failure is not None
        assert result.failure.kind is FailureKind.CRASHED
    assert ward.fleet.worker.is_running
    assert ward.victim.state() is JobState.RUNNING
    assert ward.victim.record().attempt == 1


def test_no_link_is_followed_for_artifacts(ward: Ward) -> None:
    """Neither a link to a file of the host, nor one to a folder."""
    (ward.closed / "host.txt").write_text("the host's")
    command = (
        f"ln -s {ward.closed}/host.txt file.txt; ln -s {ward.closed} folder; ln -s /etc etc;"
        " echo mine > own.txt"
    )
    result = ward.run(command, artifacts=["**/*.txt"])
    assert [one.name for one in result.artifacts] == ["own.txt"]
    assert (ward.closed / "host.txt").read_text() == "the host's"


def test_a_link_in_place_of_the_workspace_leads_nowhere(ward: Ward) -> None:
    """What it points to is neither kept nor removed; the job's directory is."""
    (ward.open / "host.txt").write_text("the host's")
    command = f"cd ..; mv workspace elsewhere; ln -s {ward.open} workspace"
    handle = ward.submit(command, artifacts=["**"])
    directory = ward.directory_of(handle)
    result = handle.result(60)
    assert not result.artifacts
    assert (ward.open / "host.txt").read_text() == "the host's"
    assert not directory.exists()


def test_whatever_an_agent_makes_is_removed(ward: Ward) -> None:
    """Folders deeper than a path can be and than Python can recurse, and closed ones."""
    deep = """
mkdir -p closed/inner; echo 1 > closed/inner/file; chmod 0 closed/inner closed
python3 -c '
import os
for _ in range(3000):
    os.mkdir("d")
    os.chdir("d")
open("file", "w").close()'
"""
    handle = ward.submit(deep, artifacts=["**/file"])
    directory = ward.directory_of(handle)
    result = handle.result(60)
    assert result.state is JobState.SUCCEEDED
    assert [one.name for one in result.artifacts] == ["closed/inner/file"]
    assert not directory.exists()


def test_the_guard_is_started_again(ward: Ward) -> None:
    """An agent of the same user can kill it; the worker notices. Under bubblewrap it can't."""
    (guard,) = _guards_of(ward)
    ward.run(f"kill -9 {guard.pid}")
    if ward.confined == "bubblewrap":
        assert guard.is_running()
        return
    wait_until(lambda: set(_guards_of(ward)) - {guard}, "there is another guard")


def _guards_of(ward: Ward) -> list[psutil.Process]:
    children = psutil.Process(ward.fleet.worker.pid).children()
    return [one for one in children if "agentherd_workers.guard" in " ".join(_arguments(one))]


def _runs(process: psutil.Process, arguments: list[str]) -> bool:
    return _arguments(process) == arguments


def _arguments(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return []
