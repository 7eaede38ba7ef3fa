"""What the agent finds around itself, what it leaves, and what of the job's options it gets."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from agentherd import (
    EventKind,
    FailureKind,
    ForkSession,
    InputFile,
    InvalidJob,
    Job,
    JobHandle,
    JobResult,
    JobState,
    NewSession,
    ResumeSession,
    StdioServer,
    Subagent,
    SystemPrompt,
)
from agentherd.contract.base import MiB
from agentherd_workers.devkit import scripts
from agentherd_workers.devkit.model_api import Step
from agentherd_workers.devkit.worker_process import DUMMY_API_KEY
from support.fleet import Fleet, events_so_far
from support.isolation import LEVELS, require
from support.waiting import wait_until

CANARIES = {
    "AWS_SECRET_ACCESS_KEY": "canary-aws",
    "DATABASE_URL": "postgres://user:canary-db@host/db",
    "ANTHROPIC_API_KEY": "canary-anthropic",
    "ANTHROPIC_BASE_URL": "http://canary-base.invalid",
    "CLAUDE_CODE_OAUTH_TOKEN": "canary-oauth",
    "GITHUB_TOKEN": "canary-github",
    "SITE": "passed on",
}
ARTIFACTS_CAP_BYTES = 20_000


@pytest.fixture(scope="module", params=LEVELS)
def fleet_options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """A worker on a host full of secrets, with one variable that agents may have."""
    return {
        "settings": {
            "isolation": require(request.param),
            "concurrency": "4",
            "pass_env": '["SITE"]',
            "job_env_allow": '["APP_*", "LEVEL"]',
            "max_artifacts_bytes": str(ARTIFACTS_CAP_BYTES),
        },
        "environment": CANARIES,
    }


Run = Callable[..., JobResult]


@pytest.fixture(scope="module")
def run(fleet: Fleet) -> Run:
    """Run a scripted job that must succeed."""

    def run_job(*steps: Step, **options: Any) -> JobResult:
        return fleet.herd.submit(job_of(*steps, **options)).result(30).raise_for_failure()

    return run_job


def job_of(*steps: Step, **options: Any) -> Job:
    """A scripted job that may use the shell."""
    chosen: dict[str, Any] = {"allowed_tools": ["Bash"], **options}
    return Job(prompt=scripts.script("Do it.", *steps), **chosen)


def artifact(fleet: Fleet, result: JobResult, name: str) -> bytes:
    """The bytes that the job kept under `name`."""
    return fleet.herd.job(result.job_id).artifact(name)


def requests_of(fleet: Fleet, result: JobResult) -> list[dict[str, Any]]:
    """What the model was sent for a session, side requests left out."""
    bodies = [one.body for one in fleet.model.requests if one.answered is not None]
    return [body for body in bodies if result.session_id in str(body.get("metadata"))]


# Environment.


def test_environment_holds_what_is_allowed(fleet: Fleet, run: Run) -> None:
    """Neither the shell's, nor its own nor its parent's start environment has the worker's."""
    command = (
        "{ env -0; cat /proc/self/environ /proc/$PPID/environ; } | tr '\\0' '\\n' > seen.txt;"
        " env > bash.txt"
    )
    result = run(
        scripts.bash(command),
        scripts.text("done"),
        env={"APP_MODE": "test", "LEVEL": "debug"},
        artifacts=["*.txt"],
    )
    seen = artifact(fleet, result, "seen.txt").decode()
    assert "canary" not in seen
    assert str(fleet.redis.port) not in seen
    assert "AGENTHERD_REDIS_URL" not in seen
    lines = artifact(fleet, result, "bash.txt").decode().splitlines()
    names = {line.partition("=")[0] for line in lines}
    switches = {
        name for name in names if name.startswith(("CLAUDE", "DISABLE_", "ENABLE_", "MCP_"))
    }
    assert names - switches - {"_", "SHLVL", "OLDPWD", "PWD"} <= {
        "PATH", "HOME", "LANG", "SHELL", "USER", "TMPDIR", "APP_MODE", "LEVEL", "SITE",
        "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL",
        "AGENTHERD_SPAWNED_MS", "AGENTHERD_JOB_ID", "AGENTHERD_ATTEMPT",
        # Of the CLI's own for its shell:
        "AI_AGENT", "COREPACK_ENABLE_AUTO_PIN", "GIT_EDITOR", "NoDefaultCurrentDirectoryInExePath",
    }  # fmt: skip
    assert "APP_MODE=test\n" in seen
    assert "LEVEL=debug\n" in seen
    assert "SITE=passed on\n" in seen


def test_model_is_asked_with_the_workers_key(fleet: Fleet, run: Run) -> None:
    """The key comes from its file, not from the worker's environment."""
    result = run(scripts.text("done"))
    asked = [one for one in fleet.model.requests if result.session_id in str(one.body)]
    assert {one.api_key for one in asked} == {DUMMY_API_KEY}


@pytest.mark.parametrize("name", ["OTHER", "APP", "app_mode"])
def test_environment_not_allowed_fails_the_job(fleet: Fleet, name: str) -> None:
    """The worker names the variable and the setting."""
    result = fleet.herd.submit(job_of(scripts.text("never"), env={name: "x"})).result(30)
    assert result.failure is not None
    assert result.failure.kind is FailureKind.INVALID_JOB
    assert f"env.{name}" in result.failure.message
    assert "AGENTHERD_JOB_ENV_ALLOW" in result.failure.message


# Files.


def test_input_files_are_there(fleet: Fleet, run: Run) -> None:
    """Text, binary, a program, and folders; nothing else, and nobody else may read them."""
    every_byte = bytes(range(256))
    result = run(
        scripts.bash(
            "sha256sum raw.bin > sums; ./bin/deep/tool > said; cat 'Grüße €.txt' > text;"
            " find . -type f ! -name sums ! -name said ! -name text ! -name modes"
            " -printf '%P %m\\n' | sort > modes"
        ),
        scripts.text("done"),
        files=[
            InputFile.of("raw.bin", every_byte),
            InputFile.of("Grüße €.txt", "naïve ☃"),
            InputFile(path="bin/deep/tool", text="#!/bin/sh\necho ran\n", executable=True),
        ],
        artifacts=["sums", "said", "text", "modes", "raw.bin"],
    )
    assert artifact(fleet, result, "raw.bin") == every_byte
    assert artifact(fleet, result, "said") == b"ran\n"
    assert artifact(fleet, result, "text").decode() == "naïve ☃"
    assert artifact(fleet, result, "modes").decode().splitlines() == [
        "Grüße €.txt 600",
        "bin/deep/tool 700",
        "raw.bin 600",
    ]


def test_artifacts_are_kept_by_pattern(fleet: Fleet, run: Run) -> None:
    """`*` stays in its folder, `**` crosses folders; the rest goes with the workspace."""
    result = run(
        scripts.bash(
            "mkdir -p a/b; printf 1 > top.txt; printf 2 > a/in.txt; printf 3 > a/b/deep.md;"
            " printf 4 > left.log; printf 5 > a/b/deep.txt"
        ),
        scripts.text("done"),
        artifacts=["*.txt", "a/**/*.md", "none/*"],
    )
    assert [(one.name, one.size_bytes) for one in result.artifacts] == [
        ("a/b/deep.md", 1),
        ("top.txt", 1),
    ]
    assert artifact(fleet, result, "a/b/deep.md") == b"3"


def test_artifacts_over_the_cap_fail_the_job(fleet: Fleet) -> None:
    """Those that fit are kept, and the message names the others."""
    handle = fleet.herd.submit(
        job_of(
            scripts.bash("printf small > a.txt; head -c 50000 /dev/zero > b.txt; printf c > c.txt"),
            scripts.text("done"),
            artifacts=["*.txt"],
        )
    )
    result = handle.result(60)
    assert result.failure is not None
    assert result.failure.kind is FailureKind.ARTIFACTS_TOO_LARGE
    assert "b.txt (50000 bytes)" in result.failure.message
    assert [one.name for one in result.artifacts] == ["a.txt", "c.txt"]
    assert handle.artifact("a.txt") == b"small"
    assert result.text == "done"


def test_links_are_no_artifacts(fleet: Fleet, run: Run, tmp_path: Path) -> None:
    """Neither a link to a file, nor what lies behind a link to a folder, nor a pipe."""
    (tmp_path / "secret.txt").write_text("secret of the host")
    result = run(
        scripts.bash(
            f"ln -s /etc/passwd passwd.txt; ln -s {tmp_path} outside; mkfifo pipe.txt;"
            " ln -s good.txt inside.txt; printf good > good.txt"
        ),
        scripts.text("done"),
        artifacts=["**/*.txt"],
    )
    assert [one.name for one in result.artifacts] == ["good.txt"]
    log = wait_until(lambda: _line(fleet, f"{result.job_id}: not kept"), "the worker says so")
    assert "passwd.txt" in log


def _line(fleet: Fleet, part: str) -> str:
    lines = fleet.worker.output().splitlines()
    return next((line for line in lines if part in line), "")


# What is left.


def test_nothing_is_left(fleet: Fleet, run: Run) -> None:
    """Daemons of every kind are dead, and the directory is gone, when the result is there."""
    daemons = (
        "setsid sleep 7771 & nohup sleep 7772 >/dev/null 2>&1 & (setsid sh -c 'sleep 7773 &' &);"
        " pwd; chmod 000 . || true; mkdir -p locked/in && chmod 000 locked; sleep 0.2"
    )
    handle = fleet.herd.submit(job_of(scripts.bash(daemons), scripts.text("done")))
    handle.result(30).raise_for_failure()
    commands = [_command(one) for one in psutil.process_iter()]
    assert not [command for command in commands if command.startswith("sleep 777")]
    workspace = Path(events_so_far(handle, EventKind.TOOL_FINISHED)[0].data["output"].split()[0])
    assert workspace.is_absolute()
    assert not workspace.parent.exists()


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return ""


def test_worker_collects_orphans(fleet: Fleet, run: Run) -> None:
    """Ended processes don't pile up as zombies of the worker."""
    run(scripts.bash("for n in 1 2 3; do (setsid true &); done"), scripts.text("done"))
    wait_until(lambda: not _zombies(fleet), "no zombie is left", 15, show=lambda: _zombies(fleet))


def _zombies(fleet: Fleet) -> list[psutil.Process]:
    found = []
    for child in psutil.Process(fleet.worker.pid).children():
        with suppress(psutil.NoSuchProcess):  # it is collected at this moment
            if child.status() == psutil.STATUS_ZOMBIE:
                found.append(child)
    return found


# Options.


@pytest.mark.parametrize("mode", ["append", "replace"])
def test_system_prompt_reaches_the_model(fleet: Fleet, run: Run, mode: str) -> None:
    """Appended to Claude Code's own, or alone; also where it is too long for an argument."""
    words = "You speak only in rhymes. " + "Rhyme. " * 20_000
    result = run(scripts.text("done"), system_prompt=SystemPrompt(text=words, mode=mode))
    system = json.dumps(requests_of(fleet, result)[0]["system"])
    assert words in system
    assert ("authorized security testing" in system) is (mode == "append")


MCP_SERVER = """
import json, os, sys, time
time.sleep(1)  # servers may take their time to start
TOOL = {
    "name": "remember",
    "description": "Keep something in mind.",
    "inputSchema": {"type": "object", "properties": {"what": {"type": "string"}}},
}
for line in sys.stdin:
    request = json.loads(line)
    if "id" not in request:
        continue
    parameters, result = request.get("params", {}), {}
    if request["method"] == "initialize":
        result = {
            "protocolVersion": parameters["protocolVersion"],
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "notes", "version": "1"},
        }
    elif request["method"] == "tools/list":
        result = {"tools": [TOOL]}
    elif request["method"] == "tools/call":
        words = f"kept {parameters['arguments']['what']} for {os.environ['OWNER']}"
        words += f", {os.environ.get('DATABASE_URL')}"
        result = {"content": [{"type": "text", "text": words}]}
    print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}), flush=True)
"""


def test_mcp_server_of_the_job(fleet: Fleet, run: Run) -> None:
    """The CLI starts it inside the job: with its own variables, and none of the worker's."""
    server = StdioServer(command="python3", args=("server.py",), env={"OWNER": "the job"})
    result = run(
        scripts.tool("mcp__notes__remember", what="milk"),
        scripts.text("done"),
        files={"server.py": MCP_SERVER},
        mcp_servers={"notes": server},
        allowed_tools=["mcp__notes"],
    )
    events = events_so_far(fleet.herd.job(result.job_id), EventKind.TOOL_FINISHED)
    assert "kept milk for the job, None" in events[0].data["output"]


def test_subagent(fleet: Fleet, run: Run) -> None:
    """A subagent has its own prompt; its events say whose they are; its usage counts."""
    part = scripts.script("Your part.", scripts.bash("echo from below"), scripts.text("part done"))
    result = run(
        scripts.subagent(part, kind="reviewer"),
        scripts.text("all done"),
        subagents={"reviewer": Subagent(description="Reviews.", prompt="You review, tersely.")},
        allowed_tools=["Bash", "Task"],
    )
    assert result.text == "all done"
    handle = fleet.herd.job(result.job_id)
    started = events_so_far(handle, EventKind.TOOL_STARTED)
    assert started[0].data["subagent"] is None
    assert started[1].data["subagent"] == started[0].data["tool_use_id"]
    prompts = [json.dumps(body["system"]) for body in requests_of(fleet, result)]
    assert any("You review, tersely." in prompt for prompt in prompts)
    assert result.usage.output_tokens == 20


def test_thinking_is_an_event(fleet: Fleet, run: Run) -> None:
    """Thoughts are not part of the answer."""
    result = run(scripts.thinking("hm, let me see", "42"))
    assert result.text == "42"
    thoughts = events_so_far(fleet.herd.job(result.job_id), EventKind.THINKING)
    assert [event.data["text"] for event in thoughts] == ["hm, let me see"]


def test_long_output(fleet: Fleet, run: Run) -> None:
    """Megabytes arrive whole in result and transcript, and cut in the event."""
    result = run(scripts.long_output(4 * MiB))
    assert result.text is not None
    assert len(result.text) == 4 * MiB
    handle = fleet.herd.job(result.job_id)
    event = events_so_far(handle, EventKind.TEXT)[0].data["text"]
    assert event == result.text[: len(event) - 1] + "…"
    assert result.text in [
        block.get("text")
        for entry in handle.transcript()
        if entry.get("type") == "assistant"
        for block in entry["message"]["content"]
    ]


def test_unicode_survives(fleet: Fleet, run: Run) -> None:
    """From prompt to shell to answer to event."""
    words = "Grüße, 世界 🐑 \u2028 <script> \\ \" '"
    result = run(
        scripts.bash("printf '🐑 %s' 世界"), scripts.text(words), metadata={"who": "Zoë 🐑"}
    )
    assert result.text == words
    handle = fleet.herd.job(result.job_id)
    assert events_so_far(handle, EventKind.TOOL_FINISHED)[0].data["output"] == "🐑 世界"
    assert events_so_far(handle, EventKind.TEXT)[0].data["text"] == words
    assert handle.record().metadata == {"who": "Zoë 🐑"}


def test_denied_tools_are_listed(run: Run) -> None:
    """What no rule allows is denied, and the agent goes on without it."""
    result = run(
        scripts.bash("touch no"),
        scripts.write_file("/etc/agentherd-was-here", "no"),
        scripts.text("done"),
        allowed_tools=["Read"],
        disallowed_tools=["WebFetch"],
    )
    assert result.permission_denials == ("Bash", "Write")
    assert not Path("/etc/agentherd-was-here").exists()


def test_prompt_is_taken_verbatim(fleet: Fleet, run: Run) -> None:
    """Neither `@file` nor a slash command in a prompt does anything."""
    prompt = "/compact @/etc/hostname !env " + scripts.script("", scripts.text("done"))
    handle = fleet.herd.submit(Job(prompt=prompt))
    result = handle.result(60)
    assert result.text == "done"
    assert "/compact @/etc/hostname !env" in str(requests_of(fleet, result)[0]["messages"])


# Sessions.


def test_resumed_session_goes_on(fleet: Fleet, run: Run) -> None:
    """The model sees the earlier words; the agent works at the same path, in a fresh folder."""
    first = run(scripts.bash("pwd; touch left"), scripts.text("I am Ada"))
    second = run(
        scripts.bash("pwd; ls"),
        scripts.text("still Ada"),
        session=ResumeSession(id=first.session_id),
        system_prompt="Second job.",
    )
    assert second.session_id == first.session_id
    paths = [
        events_so_far(fleet.herd.job(result.job_id), EventKind.TOOL_FINISHED)[0].data["output"]
        for result in (first, second)
    ]
    assert paths[0] == paths[1]
    assert "I am Ada" in str(requests_of(fleet, second)[-1]["messages"])
    started = events_so_far(fleet.herd.job(second.job_id), EventKind.STARTED)[0]
    assert started.data["resumed"] is False
    assert second.usage.input_tokens == 20


def test_forked_session_leaves_the_original(fleet: Fleet, run: Run) -> None:
    """The copy goes on with the earlier words under an id of its own."""
    first = run(scripts.text("I am Ada"))
    before = fleet.herd.job(first.job_id).transcript()
    copy = run(scripts.text("and I am her copy"), session=ForkSession(id=first.session_id))
    assert copy.session_id != first.session_id
    assert fleet.herd.job(first.job_id).transcript() == before
    assert "I am Ada" in str(requests_of(fleet, copy)[-1]["messages"])
    again = run(scripts.text("copy again"), session=ResumeSession(id=copy.session_id))
    assert "and I am her copy" in str(requests_of(fleet, again)[-1]["messages"])


def test_session_id_can_be_chosen(run: Run) -> None:
    """By the caller, at submit."""
    chosen = "0b5a0a3c-7a6d-4c9b-9d3e-0a3c7a6d4c9b"
    assert run(scripts.text("done"), session=NewSession(id=chosen)).session_id == chosen


def test_sessions_of_tenants_are_apart(fleet: Fleet, run: Run) -> None:
    """One tenant's session is unknown to another one."""
    mine = run(scripts.text("my secret"), tenant="ada")
    theirs = job_of(scripts.text("?"), tenant="eve", session=ResumeSession(id=mine.session_id))
    with pytest.raises(InvalidJob, match="no session"):
        fleet.herd.submit(theirs)


# Many, and in order.


def test_events_are_in_order_and_resumable(fleet: Fleet, run: Run) -> None:
    """Each id is a place to go on from; a tool ends after it began."""
    result = run(scripts.bash("echo 1"), scripts.bash("echo 2"), scripts.text("done"))
    handle = fleet.herd.job(result.job_id)
    events = list(handle.events())
    kinds = [event.kind for event in events]
    assert kinds == [
        EventKind.SUBMITTED,
        EventKind.STARTED,
        EventKind.AGENT_READY,
        EventKind.TOOL_STARTED,
        EventKind.TOOL_FINISHED,
        EventKind.TOOL_STARTED,
        EventKind.TOOL_FINISHED,
        EventKind.TEXT,
        EventKind.ENDED,
    ]
    assert [event.at_ms for event in events] == sorted(event.at_ms for event in events)
    for place, event in enumerate(events):
        assert list(handle.events(after=event.id, follow=False)) == events[place + 1 :]


def test_many_jobs_beside_each_other(fleet: Fleet) -> None:
    """Each has its own words, files and folder, also with more jobs than slots."""
    handles: list[JobHandle] = []
    for number in range(12):
        step = scripts.bash(f"sleep 0.1; cat mine; [ $(ls | wc -l) = 1 ] && echo alone {number}")
        job = job_of(step, scripts.text(f"answer {number}"), files={"mine": f"file {number} "})
        handles.append(fleet.herd.submit(job))
    with ThreadPoolExecutor(len(handles)) as threads:
        results = list(threads.map(lambda handle: handle.result(90), handles))
    for number, (handle, result) in enumerate(zip(handles, results, strict=True)):
        assert (result.state, result.text) == (JobState.SUCCEEDED, f"answer {number}")
        output = events_so_far(handle, EventKind.TOOL_FINISHED)[0].data["output"]
        assert output == f"file {number} alone {number}"
    assert len({result.session_id for result in results}) == len(results)
    assert not list((fleet.worker.workspace_root / "jobs").iterdir())
