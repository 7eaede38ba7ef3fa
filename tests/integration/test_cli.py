"""`agentherd` against a real Redis, with jobs moved through their life as a worker would."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoints
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from agentherd import (
    Artifact,
    EventKind,
    Failure,
    FailureKind,
    GateReport,
    Herd,
    JobResult,
    JobState,
    Usage,
    WorkerReport,
)
from agentherd.cli import doctor
from agentherd.cli.app import app
from agentherd.layout import hosts, records, transcripts
from agentherd.layout.records import Claim, JobRecord
from agentherd.layout.transcripts import Appended, Entry, SessionKeys
from agentherd_workers.devkit.redis_server import RedisServer, free_port
from support.records import claim, run_to_end
from support.waiting import wait_until

AGENTHERD = Path(sys.executable).with_name("agentherd")
PASSWORD = "s3cret"
EVIL = "\x1b[2J\x1b]0;owned\x07 [bold red]loud[/] \u202e done"

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    """A Redis with a password, so that every test could leak it."""
    with RedisServer(password=PASSWORD) as running:
        yield running


@pytest.fixture
def herd(server: RedisServer) -> Iterator[Herd]:
    """A client on an empty Redis."""
    with Herd(server.url) as client:
        client.connection.redis.flushall()
        yield client


@pytest.fixture
def run(server: RedisServer, herd: Herd) -> Run:
    """Runs one command in this process."""

    def invoke(*arguments: str, text: str | bytes | None = None, url: str = server.url) -> Result:
        env = {name: None for name in os.environ if name.startswith("AGENTHERD_")}
        ended = CliRunner().invoke(
            app, arguments, input=text, env={**env, "AGENTHERD_REDIS_URL": url}
        )
        assert PASSWORD not in ended.output
        if ended.exception is not None and not isinstance(ended.exception, SystemExit):
            raise ended.exception
        return ended

    return invoke


class Worker:
    """What a worker does to a job's record, without running anything."""

    def __init__(self, herd: Herd, job_id: str) -> None:
        self.herd, self.job_id = herd, job_id
        claim = herd.connection.run(
            records.claim(herd.keys, job_id, "default", "w1@host", lease_ms=60_000)
        )
        assert isinstance(claim, Claim)
        self.record: JobRecord = claim.record
        self.fence = claim.fence

    def report(self, kind: EventKind, **data: Any) -> None:
        """Append an event."""
        assert self.herd.connection.run(
            records.report(self.herd.keys, self.job_id, self.fence, [(kind, data)], {})
        )

    def keep(self, name: str, content: bytes) -> Artifact:
        """Store an artifact."""
        assert self.herd.connection.run(
            records.keep_artifact(self.herd.keys, self.job_id, self.fence, name, content)
        )
        return Artifact(name=name, size_bytes=len(content), sha256="0" * 64)

    def finish(self, state: JobState = JobState.SUCCEEDED, **fields: Any) -> None:
        """End the job."""
        result = JobResult(
            job_id=self.job_id,
            state=state,
            session_id=self.record.session_id,
            usage=Usage(cost_usd=0.25, input_tokens=10, output_tokens=5),
            attempts=1,
            turns=2,
            started_at_ms=self.record.started_at_ms,
            **fields,
        )
        assert self.herd.connection.run(
            records.finish(self.herd.keys, self.record, result, retention_ms=60_000)
        )


def submitted(run: Run, *options: str) -> str:
    """The id of a new job."""
    ended = run("submit", "Count the files", *options)
    assert ended.exit_code == 0, ended.output
    return ended.stdout.strip()


def spec_of(herd: Herd, job_id: str) -> str:
    """The job as it was recorded."""
    record = herd.connection.run(records.read_record(herd.keys, job_id, content=True))
    assert record is not None
    return record.spec


def lines(text: str) -> list[Any]:
    """A JSON stream."""
    return [json.loads(line) for line in text.splitlines()]


def test_submit_prints_the_id_and_says_that_it_waits(run: Run, herd: Herd) -> None:
    ended = run("submit", "Count the files", "--metadata", "team=a", "--job-id", "j1")
    assert (ended.exit_code, ended.stdout) == (0, "j1\n")
    assert ended.stderr == "queued; no worker has taken it yet\n"
    assert herd.job("j1").record().metadata == {"team": "a"}
    later = run("submit", "p", "--not-before", "2100-01-01T00:00Z")
    assert later.stderr == "scheduled; waits for its time\n"
    again = run("submit", "Count the files", "--metadata", "team=a", "--job-id", "j1", "--json")
    assert json.loads(again.stdout) == {
        "job_id": "j1",
        "state": "queued",
        "tenant": "default",
        "session_id": herd.job("j1").record().session_id,
    }
    assert again.stderr == ""


def test_a_prompt_and_a_whole_job_come_from_stdin(run: Run, herd: Herd, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    file = f"{tmp_path / 'notes.txt'}:in/notes.txt"
    job_id = run("submit", "-", "--file", file, text="from stdin").stdout.strip()
    spec = json.loads(spec_of(herd, job_id))
    assert spec["prompt"] == "from stdin"
    assert spec["files"] == [{"path": "in/notes.txt", "text": "hello"}]
    job_id = run("submit", "--job", "-", text='{"prompt": "whole", "priority": 9}').stdout.strip()
    assert herd.job(job_id).record().priority == 9
    assert run("submit", "-", text=b"\xff").exit_code == 2


def test_invalid_input_is_told_a_problem_a_line_and_sends_nothing(run: Run, herd: Herd) -> None:
    ended = run("submit", "p", "--max-turns", "0", "--tenant", "NO", "--file", "/absent")
    assert ended.exit_code == 2
    assert ended.stdout == ""
    first, *problems = ended.stderr.splitlines()
    assert first == "agentherd: 3 problems"
    fields = [problem.split(":")[0].strip() for problem in problems]
    assert fields == ["--file /absent", "max_turns", "tenant"]
    assert not herd.jobs().jobs


@pytest.mark.parametrize(
    "arguments",
    [
        ("submit",),
        ("submit", "p", "--resume", "11111111-2222-3333-4444-555555555555"),
        ("status", "not a job"),
        ("list", "--limit", "0"),
        ("list", "--cursor", "invented"),
        ("list", "--since", "soon"),
        ("events", "j", "--after", "x"),
        ("artifacts", "j", "--cat", "a", "--json"),
        ("artifacts", "j", "--force"),
        ("invented",),
    ],
)
def test_wrong_usage_ends_with_2(run: Run, arguments: tuple[str, ...]) -> None:
    ended = run(*arguments)
    assert ended.exit_code == 2
    assert ended.stdout == ""


def test_a_key_or_session_in_use_ends_with_2(run: Run, herd: Herd) -> None:
    submitted(run, "--idempotency-key", "k")
    assert "belongs to job" in run("submit", "other", "--idempotency-key", "k").stderr
    job_id = submitted(run)
    busy = run("submit", "p", "--resume", herd.job(job_id).record().session_id)
    assert busy.exit_code == 2
    assert f"in use by job {job_id}" in busy.stderr


@pytest.mark.parametrize("command", ["status", "result", "events", "transcript", "artifacts"])
def test_an_unknown_job_ends_with_3(run: Run, command: str) -> None:
    ended = run(command, "absent")
    assert ended.exit_code == 3
    assert ended.stderr == "agentherd: no job absent: never submitted, or past its retention\n"


def test_cancel_tells_what_became_of_each_job(run: Run, herd: Herd) -> None:
    """Also where one of them is unknown: the others are cancelled all the same."""
    waits, ended, runs = (submitted(run) for _ in range(3))
    run_to_end(herd, ended)
    claim(herd, runs)
    told = run("cancel", waits, "absent", ended, runs, "--reason", "enough")
    assert told.exit_code == 3
    assert told.stdout.splitlines() == [
        f"{waits}  cancelled", f"{ended}  succeeded", f"{runs}  running"
    ]  # fmt: skip
    assert told.stderr.splitlines() == [
        f"job {ended} had ended before",
        f"job {runs} runs; its worker ends it",
        "agentherd: no job absent: never submitted, or past its retention",
    ]
    as_json = run("cancel", waits, "--json")
    assert as_json.exit_code == 0
    assert json.loads(as_json.stdout) == {
        "job_id": waits, "outcome": "ended", "state": "cancelled"
    }  # fmt: skip


@pytest.mark.parametrize(
    "arguments", [("submit", "p"), ("submit", "p", "--follow"), ("status", "j"), ("list",)]
)
def test_redis_out_of_reach_is_one_line_and_4(run: Run, arguments: tuple[str, ...]) -> None:
    url = f"redis://user:{PASSWORD}@127.0.0.1:{free_port()}/0"
    ended = run(*arguments, url=url)
    assert ended.exit_code == 4
    assert ended.stdout == ""
    assert ended.stderr.startswith("agentherd: Redis at redis://127.0.0.1:")
    assert ended.stderr.count("\n") == 1


def test_a_wrong_password_is_one_line_and_4(run: Run, server: RedisServer) -> None:
    ended = run("list", url=server.url.replace(PASSWORD, "wrong"))
    assert ended.exit_code == 4
    assert ended.stderr.count("\n") == 1
    assert "wrong" not in ended.stderr.replace("WRONGPASS", "")


@pytest.mark.parametrize(
    "url",
    ["http://h", f"redis://u:{PASSWORD}#x@h:1/0", f"redis://u:{PASSWORD}/x@h", "redis://h:none"],
)
def test_an_unusable_url_is_not_quoted(run: Run, url: str) -> None:
    ended = run("--redis-url", url, "list")
    assert ended.exit_code == 2
    assert "redis_url" in ended.stderr.lower()


def test_the_option_overrides_the_variable(run: Run, server: RedisServer) -> None:
    ended = run("--redis-url", server.url, "list", url="redis://127.0.0.1:1/0")
    assert (ended.exit_code, ended.stderr) == (0, "no such jobs\n")


def test_a_job_s_life_as_status_shows_it(run: Run, herd: Herd) -> None:
    job_id = submitted(run)
    waiting = run("status", job_id)
    assert "state      queued" in waiting.stdout
    assert waiting.stderr == (
        "queued; no worker has taken it yet; no live worker serves its memory class\n"
    )
    worker = Worker(herd, job_id)
    assert "worker     w1@host" in run("status", job_id).stdout
    worker.finish(
        JobState.FAILED, failure=Failure(kind=FailureKind.CRASHED, message=f"died {EVIL}")
    )
    ended = run("status", job_id)
    assert ended.exit_code == 0
    assert "failure    crashed: died \\x1b[2J\\x1b]0;owned\\x07 [bold red]" in ended.stdout
    whole = json.loads(run("status", job_id, "--json").stdout)
    assert whole["state"] == "failed"
    assert whole["attempt"] == 1
    assert whole["result"]["failure"]["kind"] == "crashed"
    assert whole["finished_at_ms"] >= whole["submitted_at_ms"] > 0
    assert "spec" not in whole


def test_result_of_each_outcome(run: Run, herd: Herd) -> None:
    job_id = submitted(run)
    not_ended = run("result", job_id, "--no-wait")
    assert not_ended.exit_code == 5
    assert not_ended.stderr == f"agentherd: job {job_id}: queued; no worker has taken it yet\n"
    worker = Worker(herd, job_id)
    assert run("result", job_id, "--timeout-s", "0.05").exit_code == 5
    worker.finish(text="There are 3.\nReally.")
    ended = run("result", job_id)
    assert (ended.exit_code, ended.stdout, ended.stderr) == (0, "There are 3.\nReally.\n", "")
    whole = json.loads(run("result", job_id, "--json").stdout)
    assert JobResult.model_validate(whole) == herd.job(job_id).result()

    structured = submitted(run)
    Worker(herd, structured).finish(text="{}", structured_output={"n": 3})
    assert json.loads(run("result", structured).stdout) == {"n": 3}


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.CANCELLED, JobState.TIMED_OUT])
def test_an_end_without_success_is_1(run: Run, herd: Herd, state: JobState) -> None:
    job_id = submitted(run)
    kind = FailureKind.WALL_TIMEOUT
    Worker(herd, job_id).finish(state, text="partly", failure=Failure(kind=kind, message="late"))
    ended = run("result", job_id)
    assert (ended.exit_code, ended.stdout) == (1, "partly\n")
    assert ended.stderr == f"agentherd: job {job_id}: {state}, wall_timeout: late\n"
    assert run("result", job_id, "--json").exit_code == 1


def test_events_of_a_job(run: Run, herd: Herd) -> None:
    job_id = submitted(run)
    worker = Worker(herd, job_id)
    worker.report(EventKind.TEXT, text=EVIL)
    so_far = lines(run("events", job_id, "--json").stdout)
    assert [event["kind"] for event in so_far] == ["submitted", "started", "text"]
    assert so_far[2].keys() == {"type", "id", "job_id", "attempt", "at_ms", "kind", "data"}
    worker.finish()
    shown = run("events", job_id, "--follow").stdout.splitlines()
    assert [line.split()[1] for line in shown] == ["submitted:", "started:", "text:", "ended:"]
    assert "\\x1b[2J\\x1b]0;owned\\x07 [bold red]loud[/] \\u202e done" in shown[2]
    rest = run("events", job_id, "--after", so_far[2]["id"], "--json").stdout
    assert [event["kind"] for event in lines(rest)] == ["ended"]


def test_a_transcript_as_conversation_and_raw(run: Run, herd: Herd) -> None:
    job_id = submitted(run)
    assert run("transcript", job_id).stderr == "no transcript yet\n"
    entries: list[Entry] = [
        {"type": "user", "uuid": "u1", "message": {"role": "user", "content": "Count"}},
        {"type": "assistant", "message": {"content": [{"type": "text", "text": EVIL}]}},
        {"type": "summary", "of": "nothing to read"},
    ]
    session = SessionKeys("default", herd.job(job_id).record().session_id)
    stored = transcripts.append(session, "", entries, fence=0, ttl_ms=60_000, max_bytes=1_000_000)
    assert isinstance(herd.connection.run(stored), Appended)
    shown = run("transcript", job_id)
    assert shown.stdout.startswith("user\n  Count\nassistant\n  \\x1b[2J\\x1b]0;owned\\x07 [bold")
    assert lines(run("transcript", job_id, "--jsonl").stdout) == entries
    herd.connection.redis.hset(session.entries, "0:", "not JSON")
    damaged = run("transcript", job_id)
    assert (damaged.exit_code, damaged.stderr.count("\n")) == (1, 1)


def test_list_by_state_tenant_and_page(run: Run, herd: Herd) -> None:
    jobs = [submitted(run, "--tenant", "acme") for _ in range(3)]
    other = submitted(run)
    Worker(herd, other).finish()
    page = run("list", "--tenant", "acme", "--since", "1h", "--limit", "2")
    header, *rows = page.stdout.splitlines()
    assert header.split("\t")[:3] == ["JOB", "STATE", "TENANT"]
    assert [row.split("\t")[0] for row in rows] == [jobs[2], jobs[1]]
    assert page.stderr.startswith("more jobs: agentherd list --tenant acme --since ")
    next_page = page.stderr.removeprefix("more jobs: agentherd ").split()
    assert jobs[0] in run(*next_page).stdout
    ended = json.loads(run("list", "--state", "succeeded", "--state", "failed", "--json").stdout)
    assert [job["job_id"] for job in ended["jobs"]] == [other]
    assert ended["jobs"][0]["cost_usd"] == 0.25
    assert ended["cursor"] is None
    assert run("list", "--until", "1h").stderr == "no such jobs\n"


def test_artifacts_are_listed_saved_and_printed(run: Run, herd: Herd, tmp_path: Path) -> None:
    job_id = submitted(run)
    assert "has not ended" in run("artifacts", job_id).stderr
    worker = Worker(herd, job_id)
    worker.finish(
        artifacts=(worker.keep("out/a.bin", b"\xff\x00"), worker.keep("b.txt", b"hello\n"))
    )
    assert "out/a.bin\t2\t" in run("artifacts", job_id).stdout
    listed = json.loads(run("artifacts", job_id, "--json").stdout)
    assert [one["name"] for one in listed["artifacts"]] == ["out/a.bin", "b.txt"]
    assert run("artifacts", job_id, "--cat", "out/a.bin").stdout_bytes == b"\xff\x00"
    absent = run("artifacts", job_id, "--cat", "absent")
    assert absent.exit_code == 3
    target = tmp_path / "saved"
    assert run("artifacts", job_id, "--output", str(target)).exit_code == 0
    assert (target / "out" / "a.bin").read_bytes() == b"\xff\x00"
    again = run("artifacts", job_id, "--output", str(target))
    assert again.exit_code == 2
    assert "--force replaces it" in again.stderr
    assert run("artifacts", job_id, "--output", str(target), "--force").exit_code == 0


def test_an_artifact_can_t_leave_the_directory(run: Run, herd: Herd, tmp_path: Path) -> None:
    job_id = submitted(run)
    worker = Worker(herd, job_id)
    names = ("../escaped", str(tmp_path / "absolute"), "link/x", "fine")
    worker.finish(artifacts=tuple(worker.keep(name, b"x") for name in names))
    target = tmp_path / "saved"
    target.mkdir()
    (target / "link").symlink_to(tmp_path)
    ended = run("artifacts", job_id, "--output", str(target), "--force")
    assert ended.exit_code == 2
    assert ended.stderr.count("would leave") == 3
    assert [path.name for path in tmp_path.rglob("*")] == ["saved", "link"]


def test_doctor_on_redis(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "entry_points", lambda group: EntryPoints())
    submitted(run, "--memory", "4g")
    ended = run("doctor", "--json")
    found = json.loads(ended.stdout)
    assert (ended.exit_code, found["ok"]) == (0, True)
    by_name = {check["name"]: check for check in found["checks"]}
    assert {name: check["status"] for name, check in by_name.items()} == {
        "Redis": "ok",
        "version": "ok",
        "persistence": "warning",
        "eviction": "ok",
        "clock": "ok",
        "jobs": "warning",
        "breaker": "ok",
        "poison": "ok",
    }
    assert "1 queued" in by_name["jobs"]["detail"]
    assert "agents.4g: 1 waiting" in by_name["jobs"]["detail"]
    assert run("doctor").stdout.startswith("CHECK\tSTATUS\tDETAIL\tWHAT TO DO\n")
    broken = run("doctor", url=f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/0")
    assert broken.exit_code == 1
    assert "Redis\tfailed\t" in broken.stdout


@pytest.mark.parametrize(
    ("user", "to_do"),
    [
        (":wrong", "set user and password in AGENTHERD_REDIS_URL"),
        ("guest:guest", "let this user run it (ACL SETUSER)"),
    ],
)
def test_doctor_says_what_to_do_by_cause(
    run: Run,
    herd: Herd,
    server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    user: str,
    to_do: str,
) -> None:
    monkeypatch.setattr(doctor, "entry_points", lambda group: EntryPoints())
    herd.connection.redis.execute_command("ACL", "SETUSER", "guest", "on", ">guest", "+client")
    ended = run("doctor", "--json", url=f"redis://{user}@127.0.0.1:{server.port}/0")
    [check] = json.loads(ended.stdout)["checks"]
    assert (ended.exit_code, check["status"]) == (1, "failed")
    assert "refused us" in check["detail"]
    assert check["fix"].startswith(to_do)


@pytest.mark.parametrize("option", [(), ("--json",), ("--follow",)])
def test_an_id_is_told_where_redis_fails_after_the_submit(
    run: Run, herd: Herd, server: RedisServer, option: tuple[str, ...]
) -> None:
    herd.connection.redis.execute_command(
        "ACL", "SETUSER", "writer", "on", ">writer", "~*", "+@all", "-hmget"
    )
    url = f"redis://writer:writer@127.0.0.1:{server.port}/0"
    ended = run("submit", "p", "--job-id", "j", *option, url=url)
    assert ended.exit_code == 4
    assert ended.stdout == ("" if option else "j\n")
    assert "job j is queued, but " in ended.stderr
    assert herd.job("j").state() is JobState.QUEUED


def test_doctor_knows_its_redis(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "entry_points", lambda group: EntryPoints())
    settings = {"maxmemory": "64mb", "maxmemory-policy": "allkeys-lru", "save": "3600 1"}
    with RedisServer(settings=settings) as other:
        found = json.loads(run("doctor", "--json", url=other.url).stdout)
    by_name = {check["name"]: check for check in found["checks"]}
    assert by_name["eviction"]["status"] == "warning"
    assert "noeviction" in by_name["eviction"]["fix"]
    assert by_name["persistence"]["detail"].startswith("snapshots")


# From here on: the installed program in a process of its own.


def environment(url: str) -> dict[str, str]:
    """All that the program gets to know."""
    return {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", "AGENTHERD_REDIS_URL": url}


def test_help_names_the_exit_codes_and_imports_little() -> None:
    code = (
        "import sys; from agentherd.cli.__main__ import main\n"
        "sys.argv = ['agentherd', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'claude_agent_sdk', 'celery', 'agentherd_workers'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment(""), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stderr) == (0, "")
    for word in ("Exit codes:", "130", "worker", "demo", "doctor"):
        assert word in ended.stdout


def test_without_click_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['click'] = None\n"
        "from agentherd.cli.__main__ import main; sys.exit(main())"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment(""), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert ended.stderr.endswith("pip install 'agentherd[cli]'\n")
    assert ended.stderr.count("\n") == 1


def test_redis_out_of_reach_never_shows_a_traceback() -> None:
    url = f"redis://:{PASSWORD}@127.0.0.1:{free_port()}/0"
    ended = subprocess.run(
        [AGENTHERD, "status", "j"], env=environment(url), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (4, "")
    assert ended.stderr.count("\n") == 1
    assert PASSWORD not in ended.stderr


@pytest.mark.parametrize(
    ("state", "code"), [(JobState.SUCCEEDED, 0), (JobState.FAILED, 1)], ids=["good", "bad"]
)
@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
def test_follow_shows_progress_then_the_answer(
    server: RedisServer, herd: Herd, state: JobState, code: int, as_json: bool
) -> None:
    arguments = [
        str(AGENTHERD),
        "submit",
        "p",
        "--job-id",
        "j",
        "--follow",
        *["--json"][: int(as_json)],
    ]
    with subprocess.Popen(
        arguments, env=environment(server.url), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    ) as process:  # fmt: skip
        wait_until(lambda: bool(herd.jobs(state=JobState.QUEUED).jobs), "the job is queued")
        worker = Worker(herd, "j")
        worker.report(EventKind.TOOL_STARTED, tool="Bash", input={"command": "ls"})
        failure = Failure(kind=FailureKind.REFUSED, message="no") if code else None
        worker.finish(state, text="answer", failure=failure)
        out, err = process.communicate(timeout=20)
    assert process.returncode == code
    if as_json:
        stream = lines(out)
        assert [line["type"] for line in stream] == ["submitted", *["event"] * 4, "result"]
        assert (stream[0]["job_id"], stream[-1]["text"]) == ("j", "answer")
    else:
        assert out == "answer\n"
        for shown in ("queued; no worker has taken it yet", 'Bash {"command": "ls"}', "$0.2500"):
            assert shown in err
    assert ("refused: no" in err) is bool(code)


@pytest.mark.parametrize("command", ["submit", "events", "result"])
def test_ctrl_c_detaches_and_says_how_to_go_on(
    server: RedisServer, herd: Herd, run: Run, command: str
) -> None:
    if command == "submit":
        arguments = ["submit", "p", "--job-id", "j", "--follow"]
    else:
        submitted(run, "--job-id", "j")
        arguments = [command, "j", *(["--follow"] if command == "events" else [])]
    with subprocess.Popen(
        [AGENTHERD, *arguments], env=environment(server.url), stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        wait_until(lambda: _blocked_on_events(herd), "it waits for events")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    again = "result j" if command == "result" else "events j --follow --after "
    assert f"agentherd {again}" in err.splitlines()[-1]
    assert herd.job("j").state() is JobState.QUEUED


def test_a_redis_that_goes_away_while_following_is_one_line() -> None:
    with (
        RedisServer() as mortal,
        Herd(mortal.url) as herd,
        subprocess.Popen(
            [AGENTHERD, "submit", "p", "--job-id", "j", "--follow", "--json"],
            env=environment(mortal.url),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process,
    ):
        wait_until(lambda: _blocked_on_events(herd), "it waits for events")
        mortal.kill()
        _, err = process.communicate(timeout=20)
    assert process.returncode == 4
    assert err.count("\n") == 1
    assert "follow again: agentherd events j --follow --after" in err


def _blocked_on_events(herd: Herd) -> bool:
    clients: Any = herd.connection.redis.client_list()
    return any(client["cmd"] == "xread" and "b" in client["flags"] for client in clients)


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_hosts_are_readable_on_any_terminal(server: RedisServer, herd: Herd, columns: int) -> None:
    gate = GateReport(open=False, reason="memory", detail="512 MiB free, 1024 MiB needed")
    for worker in ("build-host-17:4321", "build-host-18:99"):
        report = WorkerReport(
            worker=worker,
            host=worker.partition(":")[0],
            version="0.1.0",
            started_at_ms=0,
            slots=12,
            running=11,
            capacity={"default": 12, "2g": 6, "4g": 3},
            mark=1,
            isolation="bubblewrap",
            ceiling_enforcement="cgroup",
            gate=gate,
        )
        herd.connection.run(hosts.announce(herd.keys, report))
    ended, screen = _on_terminal(server.url, "hosts", columns=columns)
    assert ended == 0
    for shown in (
        "build-host-17:4321", "build-host-18:99", "closed: memory", "11 of 12", "12 default, 6 2g",
        "bubblewrap, cgroup", "512 MiB free, 1024 MiB needed",
    ):  # fmt: skip
        assert shown in screen
    assert ("WHY CLOSED" in screen) == (columns == 200)
    assert ("why closed" in screen) == (columns < 200)


def test_nothing_an_agent_says_acts_on_a_terminal(
    server: RedisServer, herd: Herd, run: Run
) -> None:
    job_id = submitted(run)
    worker = Worker(herd, job_id)
    worker.report(EventKind.TEXT, text=EVIL)
    message = {"content": [{"type": "tool_use", "name": EVIL, "input": {EVIL: EVIL}}]}
    session = SessionKeys("default", worker.record.session_id)
    entry = {"type": "assistant", "message": message}
    herd.connection.run(
        transcripts.append(session, "", [entry], fence=0, ttl_ms=60_000, max_bytes=1_000_000)
    )
    name = "\x1b]52;c;ZXZpbA==\x07.txt"
    worker.finish(
        text=EVIL, artifacts=(worker.keep(name, EVIL.encode()), worker.keep("b", b"\xff"))
    )
    for arguments, code in (
        (("result", job_id), 0),
        (("status", job_id), 0),
        (("events", job_id), 0),
        (("list",), 0),
        (("artifacts", job_id), 0),
        (("transcript", job_id), 0),
        (("artifacts", job_id, "--cat", name), 0),
        (("artifacts", job_id, "--cat", "b"), 2),
        (("artifacts", job_id, "--output", "/nonexistent"), 2),
    ):
        ended, screen = _on_terminal(server.url, *arguments)
        assert ended == code, screen
        for sequence in ("\x1b[2J", "\x1b]", "\x07", "\u202e"):
            assert sequence not in screen
        if arguments == ("list",):
            assert job_id in screen, "an id is never cut"
        if arguments[0] in ("result", "events"):
            assert "[bold red]loud[/]" in screen


def _on_terminal(url: str, *arguments: str, columns: int = 60) -> tuple[int, str]:
    """Exit code and what a terminal receives."""
    ours, theirs = pty.openpty()
    env = {**environment(url), "TERM": "xterm-256color", "COLUMNS": str(columns)}
    env["LC_ALL"] = "C.UTF-8"
    with subprocess.Popen(
        [AGENTHERD, *arguments], env=env, stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        received = b""
        while chunk := _read(ours):
            received += chunk
    os.close(ours)
    return process.returncode, received.decode()


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # EIO: the last process has closed the terminal
        return b""
