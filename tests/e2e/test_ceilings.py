"""What one job may take, held by the kernel and by the watchdog alike: only it is hurt."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from agentherd import EventKind, FailureKind, Job, JobHandle, JobResult, JobState, RetryPolicy
from agentherd_workers.ceilings.cgroups import CgroupsUnavailable, choose_cgroups
from agentherd_workers.devkit import scripts
from agentherd_workers.devkit.model_api import Step
from agentherd_workers.sizes import MiB
from support.fleet import Fleet, await_event, processes_of, running_fleet
from support.waiting import wait_until

CEILING = 512 * MiB
DISK = 128 * MiB
PROCESSES = 128
CLASSES = '{"2g": "1GiB"}'
ONCE = RetryPolicy(max_attempts=1)
WAIT = "read -t 60 < <(sleep 60)"


def _cgroups_problem() -> str:
    try:
        choose_cgroups("cgroup")
    except CgroupsUnavailable as error:
        return str(error)
    return ""


WITHOUT_CGROUPS = _cgroups_problem()
ENFORCEMENTS = ["watchdog"] if WITHOUT_CGROUPS else ["watchdog", "cgroup"]


@pytest.fixture(scope="module", params=ENFORCEMENTS)
def fleet(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """A fleet with low ceilings, and who holds them."""
    settings = {
        "ceiling_enforcement": request.param,
        "session_ceiling_bytes": str(CEILING),
        "memory_classes": CLASSES,
        "job_disk_bytes": str(DISK),
        "job_processes": str(PROCESSES),
        "concurrency": "4",
    }
    with running_fleet(tmp_path_factory.mktemp("fleet"), settings=settings) as started:
        (report,) = wait_until(started.herd.workers, "the worker announces itself")
        assert report.ceiling_enforcement.startswith(request.param)
        yield started


def submit(fleet: Fleet, *steps: Step | str, **options: object) -> JobHandle:
    """A job with these commands, tried once."""
    answers = [scripts.bash(step) if isinstance(step, str) else step for step in steps]
    prompt = scripts.script("Do it.", *answers, scripts.text("done"))
    chosen = {"prompt": prompt, "allowed_tools": ["Bash"], "retry": ONCE, **options}
    return fleet.herd.submit(Job.model_validate(chosen))


def allocate(size_bytes: int, then: str = "", *, step_bytes: int = 16 * MiB) -> str:
    """A command that takes so much memory, step by step."""
    return f"""python3 -c '
import time
taken = []
for _ in range({size_bytes // step_bytes}):
    taken.append(bytearray(b"x" * {step_bytes}))
    time.sleep(0.01)
{then}'"""


def failed(handle: JobHandle, kind: FailureKind) -> JobResult:
    """The result of a job that must have failed so, with none of its processes left."""
    result = handle.result(60)
    assert result.failure is not None
    assert result.failure.kind is kind, result.failure.message
    assert not processes_of(handle)
    return result


# Each ceiling.


def test_memory_and_the_job_beside_it(fleet: Fleet) -> None:
    """A job over its ceiling is killed; one with nearly as much goes on beside it."""
    calm = submit(fleet, allocate(CEILING // 4, then="time.sleep(3)"))
    greedy = submit(fleet, f"{allocate(4 * CEILING)}; {WAIT}")
    result = failed(greedy, FailureKind.OUT_OF_MEMORY)
    assert result.resources.peak_memory_bytes >= CEILING
    assert result.failure is not None
    assert "512 MiB" in result.failure.message
    beside = calm.result(60)
    assert beside.state is JobState.SUCCEEDED
    assert CEILING // 4 < beside.resources.peak_memory_bytes < CEILING


def test_memory_of_many_small_tools(fleet: Fleet) -> None:
    """The ceiling is the tree's: none of its processes is over it alone."""
    each = allocate(CEILING // 6, then="time.sleep(60)")
    handle = submit(fleet, f"for i in 1 2 3 4 5 6 7 8; do {each} & done; wait")
    failed(handle, FailureKind.OUT_OF_MEMORY)


def test_larger_class_has_the_larger_ceiling(fleet: Fleet) -> None:
    """What kills a job of the default class fits there, on its record too."""
    result = submit(fleet, allocate(CEILING, then="time.sleep(0.5)"), memory="2g").result(60)
    assert result.state is JobState.SUCCEEDED
    assert CEILING < result.resources.peak_memory_bytes < 1024 * MiB


def test_shared_memory_counts_once(fleet: Fleet) -> None:
    """Eight processes with one mapping: together far below what RSS makes of it."""
    share = f"""python3 -c '
import mmap, os, time
size = {CEILING // 4}
shared = mmap.mmap(-1, size)
shared.write(b"x" * size)
for _ in range(7):
    if os.fork() == 0:
        sum(shared[at] for at in range(0, size, 4096))
        time.sleep(2)
        os._exit(0)
for _ in range(7):
    os.wait()'"""
    result = submit(fleet, share).result(60)
    assert result.state is JobState.SUCCEEDED
    assert CEILING // 4 < result.resources.peak_memory_bytes < CEILING


def test_page_cache_kills_no_job(fleet: Fleet) -> None:
    """Files written and read again and again fill the cache, which the kernel takes back."""
    command = (
        "for i in $(seq 12); do head -c 80M /dev/zero > big; cat big big > /dev/null; rm big; done"
    )
    result = submit(fleet, command).result(60)
    assert result.state is JobState.SUCCEEDED


def test_processes(fleet: Fleet) -> None:
    """A fork bomb that stops by itself at ten times the ceiling, in case nobody does.

    It takes its time, so that a watchdog of a busy host comes to look at it meanwhile.
    """
    bomb = f"""python3 -c '
import os, time
for _ in range({10 * PROCESSES}):
    time.sleep(.004)
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)'; {WAIT}"""
    result = failed(submit(fleet, bomb), FailureKind.TOO_MANY_PROCESSES)
    assert result.resources.peak_processes > PROCESSES // 3  # threads count under a cgroup
    assert result.resources.peak_processes < 10 * PROCESSES


def test_true_fork_bomb(fleet: Fleet) -> None:
    """Where the kernel counts, also one without an end is ended."""
    (report,) = fleet.herd.workers()
    bomb = ":(){ :|:& };:"
    if not report.ceiling_enforcement.startswith("cgroup"):
        bomb = f"n=0; while [ $((n++)) -lt {8 * PROCESSES} ]; do sleep 60 & done"
    failed(submit(fleet, f"{bomb}; {WAIT}"), FailureKind.TOO_MANY_PROCESSES)


@pytest.mark.parametrize(
    "fill",
    [
        f"head -c 100M /dev/zero > a; head -c 100M /dev/zero > b; {WAIT}",
        f'head -c 100M /dev/zero > a; head -c 100M /dev/zero > "$TMPDIR/b"; {WAIT}',
        f"mkdir -p x/y; for i in 1 2; do head -c 90M /dev/zero > x/y/$i; done; chmod 0 x; {WAIT}",
        f"""python3 -c '
import os
for _ in range(1500):
    os.mkdir("d")
    os.chdir("d")
for name in "ab":
    open(name, "wb").write(bytes(90 << 20))'; {WAIT}""",
        f"head -c 300M /dev/zero > one; {WAIT}",
    ],
    ids=["workspace", "tmp", "closed folder", "deep folder", "one file"],
)
def test_disk(fleet: Fleet, fill: str) -> None:
    """Wherever in its directory, and however hard to count."""
    result = failed(submit(fleet, fill), FailureKind.DISK_FULL)
    assert result.resources.peak_disk_bytes > DISK


def test_sparse_and_linked_files_count_what_they_take(fleet: Fleet) -> None:
    """A hole takes no disk, and a second name no second time."""
    command = (
        "truncate -s 100M hole; truncate -s 100M hole2; head -c 60M /dev/zero > file;"
        " for i in 1 2 3; do ln file $i; done"
    )
    result = submit(fleet, command).result(60)
    assert result.state is JobState.SUCCEEDED
    assert 60 * MiB < result.resources.peak_disk_bytes < DISK


def test_time(fleet: Fleet) -> None:
    """Also what has left the CLI's tree ends, and what was used is on the record."""
    command = f"setsid sleep 60 & (setsid sh -c 'sleep 60 &' &); {WAIT}"
    handle = submit(fleet, command, timeout_s=7)
    result = failed(handle, FailureKind.WALL_TIMEOUT)
    assert result.state is JobState.TIMED_OUT
    assert result.resources.peak_processes >= 3


# The record.


def test_what_a_job_took_is_on_its_result_and_record(fleet: Fleet) -> None:
    """Peaks while it ran, CPU time of its tools, disk at the end of a quick job too."""
    command = (
        "python3 -c 'sum(i * i for i in range(12_000_000))'; head -c 50M /dev/zero > last-moment"
    )
    handle = submit(fleet, command)
    result = handle.result(60)
    assert result.state is JobState.SUCCEEDED
    took = result.resources
    assert 100 * MiB < took.peak_memory_bytes < CEILING
    assert took.peak_processes >= 1
    assert 50 * MiB < took.peak_disk_bytes < DISK
    assert 0.5 < took.cpu_s < 30
    assert fleet.herd.job(handle.id).result(1).resources == took


def test_attempts_add_up(fleet: Fleet, tmp_path: Path) -> None:
    """The larger peaks, and the CPU time of both."""
    marker = tmp_path / "begun"
    command = (
        f"[ -e {marker} ] || {{ head -c 70M /dev/zero > big;"
        f" python3 -c 'sum(i * i for i in range(6_000_000))'; touch {marker}; {WAIT}; }}"
    )
    handle = submit(fleet, command, retry=RetryPolicy(backoff_s=0))
    await_event(handle, EventKind.TOOL_STARTED)
    wait_until(marker.exists, "the first attempt works", 20)
    for process in processes_of(handle):
        process.kill()
    result = handle.result(60)
    assert (result.state, result.attempts) == (JobState.SUCCEEDED, 2)
    assert result.resources.peak_disk_bytes >= 70 * MiB  # the second attempt made no such file
    assert result.resources.cpu_s > 0.6
