"""The host's book of RAM under real processes: races, deaths, garbage, cost."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentherd_workers.admission.gate import Gate, Limits
from agentherd_workers.admission.ledger import Booked, Ledger, Reservation
from agentherd_workers.admission.memory import HostMemory
from agentherd_workers.processes import die_with_parent
from agentherd_workers.sizes import GiB, MiB
from support.waiting import wait_until

BUDGET = 10 * GiB
PROCESSES = 5
EACH = 10
RACER = """
import sys
from pathlib import Path
from agentherd_workers.admission.ledger import Ledger

directory, budget, ceiling, count = Path(sys.argv[1]), *map(int, sys.argv[2:])
ledger = Ledger(directory)
print("ready", flush=True)
for turn in sys.stdin:  # each line is a starting shot
    admitted = 0
    for number in range(count):
        if ledger.reserve(
            f"{turn.strip()}-{number}", ceiling,
            lambda others: None if others.ceilings_bytes + ceiling <= budget else "full",
        ) is None:
            admitted += 1
    print(admitted, flush=True)
    sys.stdin.readline()
    for name in ledger.names():
        ledger.release(name)
    print("empty", flush=True)
"""


class Racer:
    """Another worker process, as far as the book is concerned."""

    def __init__(self, directory: Path, *, ceiling: int = GiB, count: int = EACH) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", RACER, directory, *map(str, (BUDGET, ceiling, count))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - one system call, before any thread
        )
        assert self.reads() == "ready"

    def told(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def reads(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def ledger(directory: Path) -> Iterator[Ledger]:
    """A worker that watches."""
    made = Ledger(directory)
    yield made
    made.close()


@pytest.fixture
def racers(directory: Path) -> Iterator[list[Racer]]:
    started = [Racer(directory) for _ in range(PROCESSES)]
    yield started
    for racer in started:
        racer.end()


def files_of(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if path.name != "mutex"]


def test_fifty_racing_admissions_never_exceed_the_budget(
    ledger: Ledger, racers: list[Racer]
) -> None:
    for turn in range(20):
        for racer in racers:
            racer.told(str(turn))
        seen = 0
        while seen < BUDGET:  # also while they race
            seen = ledger.booked().ceilings_bytes
            assert seen <= BUDGET
        assert sum(int(racer.reads()) for racer in racers) == BUDGET // GiB
        assert ledger.booked() == Booked(10, BUDGET, BUDGET, 1 + PROCESSES)
        for racer in racers:
            racer.told("release")
        assert {racer.reads() for racer in racers} == {"empty"}
        assert ledger.booked().count == 0


def test_the_reservations_of_a_killed_worker_disappear_by_themselves(
    directory: Path, ledger: Ledger, racers: list[Racer]
) -> None:
    for racer in racers:
        racer.told("go")
    assert sum(int(racer.reads()) for racer in racers) == 10
    for racer in racers[1:]:
        os.kill(racer.process.pid, signal.SIGKILL)
    wait_until(lambda: ledger.booked().workers == 2, "only one other worker is left")
    racers[0].told("release")
    assert racers[0].reads() == "empty"
    assert ledger.booked() == Booked(0, 0, 0, 2)
    assert len(files_of(directory)) == 2, "what the dead left is gone"
    racers[0].told("again")
    assert int(racers[0].reads()) == 10, "their room is anyone's"


def test_a_worker_killed_while_it_holds_the_mutex_blocks_nobody(
    directory: Path, ledger: Ledger
) -> None:
    for _ in range(10):
        racer = Racer(directory, ceiling=1, count=10_000_000)  # busy with the book
        racer.told("go")
        wait_until(lambda: ledger.booked().count > 0, "it books", timeout_s=5.0)
        racer.end()
        assert ledger.reserve("mine", GiB, lambda _others: None) is None
        assert ledger.booked() == Booked(1, GiB, GiB, 1)
        ledger.release("mine")


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"job-1": {"ceiling_bytes": 5', b"\0" * 4096, b"\xff\xfe", b"[1]\n"]
)
def test_what_dead_workers_left_torn_does_no_harm(
    directory: Path, ledger: Ledger, content: bytes
) -> None:
    (directory / "4194305-deadbeef").write_bytes(content)
    assert ledger.booked() == Booked(0, 0, 0, 1)
    assert len(files_of(directory)) == 1
    assert ledger.reserve("mine", GiB, lambda _others: None) is None


def test_a_shorter_line_over_a_longer_one_is_read_whole(directory: Path, ledger: Ledger) -> None:
    with_more = Ledger(directory)
    for number in range(200):
        with_more.reserve(f"job-{number}", GiB, lambda _others: None)
    with_more.measure({f"job-{number}": 900 * MiB for number in range(200)})
    assert ledger.booked() == Booked(200, 200 * GiB, 200 * 124 * MiB, 2)
    for number in range(199):
        with_more.release(f"job-{number}")
    assert ledger.booked() == Booked(1, GiB, 124 * MiB, 2)
    with_more.close()
    assert ledger.booked() == Booked(0, 0, 0, 1)


def test_the_most_jobs_that_a_worker_may_run_fit_the_book(directory: Path, ledger: Ledger) -> None:
    other = Ledger(directory)
    other._reservations |= {
        f"job-{10**6 + number}": Reservation(999 * GiB, 998 * GiB) for number in range(1000)
    }
    other.reserve("poll", 999 * GiB, lambda _others: None)
    assert ledger.booked().count == 1001
    other.close()


def test_a_gates_decision_costs_little(tmp_path: Path, directory: Path, ledger: Ledger) -> None:
    """With this machine's own kernel files, another worker and eight sessions."""
    own = Ledger(directory)
    gate = Gate(
        Limits(
            budget_bytes=1024 * GiB,
            slots=1000,
            min_free_disk_bytes=1,
            max_pressure_percent=100.0,
            patience_s=10.0,
        ),
        {"agents": 1},
        own,
        HostMemory(),
        tmp_path,
    )
    for number in range(8):
        ledger.reserve(f"job-{number}", MiB, lambda _others: None)
    decisions = 2000
    started_s = time.process_time()
    for _ in range(decisions):
        assert gate.offer(["agents"]) == ["agents"]
    decision_ms = (time.process_time() - started_s) / decisions * 1000
    print(f"\none decision of an open gate: {decision_ms:.3f} ms CPU")  # noqa: T201 - the figure
    assert decision_ms <= 3.0
    own.close()
