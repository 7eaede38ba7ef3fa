"""The gate's decisions, on a ledger of its own and a host made up for each case."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from agentherd_workers.admission.gate import Gate, GateReason, Limits
from agentherd_workers.admission.ledger import Ledger
from agentherd_workers.admission.memory import HostMemory
from agentherd_workers.sizes import GiB, MiB
from support.waiting import wait_until

AGENTS, LARGE, HUGE = "agents", "agents.2g", "agents.4g"
CEILINGS = {AGENTS: GiB, LARGE: 2 * GiB, HUGE: 4 * GiB}
ALL = [AGENTS, LARGE, HUGE]
PATIENT_S = 3600.0


class MadeUpHost:
    """What the gate asks the kernel: files of a directory that a test writes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calm()

    def calm(self) -> None:
        """Nothing speaks against another job."""
        self.free_disk_bytes = 100 * GiB
        self.has_available(64 * GiB)
        self.is_pressed(0.0)

    def has_available(self, size: int) -> None:
        """So many bytes."""
        self._write("proc/meminfo", f"MemTotal: 67108864 kB\nMemAvailable: {size // 1024} kB\n")

    def is_pressed(self, percent: float) -> None:
        """Tasks wait for memory."""
        self._write("proc/pressure/memory", f"some avg10={percent}\nfull avg10=0.00\n")

    def _write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


class Bench:
    """A gate, and a second worker of the same host."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.host = MadeUpHost(root / "host")
        self.others = Ledger(root / "ledger")
        self._ledgers = [self.others]

    def gate(self, *, budget: int = 8 * GiB, slots: int = 8, patience_s: float = PATIENT_S) -> Gate:
        ledger = Ledger(self.root / "ledger")
        self._ledgers.append(ledger)
        return Gate(
            Limits(
                budget_bytes=budget,
                slots=slots,
                min_free_disk_bytes=5 * GiB,
                max_pressure_percent=20.0,
                patience_s=patience_s,
            ),
            CEILINGS,
            ledger,
            HostMemory(self.host.root),
            Path("/srv/agents"),
            free_disk=lambda _path: self.host.free_disk_bytes,
        )

    def book_elsewhere(self, size: int, name: str = "ballast") -> None:
        assert self.others.reserve(name, size, lambda _others: None) is None

    def close(self) -> None:
        for ledger in self._ledgers:
            ledger.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.close()


def run_one(gate: Gate, queue: str = AGENTS) -> str:
    """Let a message come from `queue` and its job start; the job's reservation."""
    assert queue in gate.offer(ALL)
    gate.arrived(queue)
    started: list[str] = []
    gate.admit(queue, started.append)
    [name] = started
    return name


def asked_again(gate: Gate, queues: list[str] = ALL) -> list[str]:
    """What is offered once a closed gate may be looked at again."""
    gate.release("nothing")
    return gate.offer(queues)


def test_an_open_gate_books_before_it_asks(bench: Bench) -> None:
    gate = bench.gate()
    assert gate.offer(ALL) == [AGENTS]
    assert bench.others.booked().ceilings_bytes == GiB
    assert gate.state.open
    assert gate.state.reason is None


def test_asking_again_books_nothing_more(bench: Bench) -> None:
    gate = bench.gate()
    for _ in range(5):
        assert gate.offer(ALL) == [AGENTS]
    assert bench.others.booked().count == 1


def test_queues_that_are_not_served_are_left_out(bench: Bench) -> None:
    gate = bench.gate()
    assert gate.offer(["agents.64g"]) == []
    assert gate.offer([]) == []
    assert bench.others.booked().count == 0


def slots_full(bench: Bench, gate: Gate) -> None:
    for _ in range(gate.limits.slots):
        run_one(gate)


def booked_elsewhere(bench: Bench, _gate: Gate) -> None:
    bench.book_elsewhere(7 * GiB + 1)


def little_memory(bench: Bench, _gate: Gate) -> None:
    bench.host.has_available(GiB - 1024)


def pressed(bench: Bench, _gate: Gate) -> None:
    bench.host.is_pressed(20.5)


def full_disk(bench: Bench, _gate: Gate) -> None:
    bench.host.free_disk_bytes = 5 * GiB - 1


def stopping(_bench: Bench, gate: Gate) -> None:
    gate.stop()


Cause = Callable[[Bench, Gate], None]
REFUSALS: list[tuple[Cause, GateReason, str]] = [
    (stopping, GateReason.STOPPING, "the worker is shutting down"),
    (slots_full, GateReason.SLOTS, "2 of 2 slots in use"),
    (
        booked_elsewhere,
        GateReason.BOOKED,
        "1 sessions have booked 7168 MiB of 8 GiB; one more needs 1 GiB",
    ),
    (
        little_memory,
        GateReason.MEMORY,
        "1024 MiB are available, of which sessions may still grow into 0 MiB; one more needs 1 GiB",
    ),
    (pressed, GateReason.PRESSURE, "tasks wait for memory 20.5 % of the time; calm is 20 %"),
    (
        full_disk,
        GateReason.DISK,
        "5120 MiB are free at /srv/agents; a session may need 5 GiB",
    ),
]


@pytest.mark.parametrize(("cause", "reason", "detail"), REFUSALS)
def test_each_reason_closes_the_gate_and_says_its_numbers(
    bench: Bench, cause: Cause, reason: GateReason, detail: str
) -> None:
    gate = bench.gate(slots=2)
    cause(bench, gate)
    assert gate.offer(ALL) == []
    assert (gate.state.open, gate.state.reason, gate.state.detail) == (False, reason, detail)
    report = gate.report()
    assert (report.open, report.reason, report.detail) == (False, reason, detail)


@pytest.mark.parametrize("first", range(len(REFUSALS)))
def test_of_several_reasons_the_first_is_told(bench: Bench, first: int) -> None:
    gate = bench.gate(slots=2)
    for cause, _reason, _detail in reversed(REFUSALS[first:]):
        if cause is slots_full and first != 1:
            continue  # jobs can only be started while nothing else speaks against it
        if cause is slots_full:
            bench.host.calm()
            bench.others.release("ballast")
            cause(bench, gate)
            for later, *_ in REFUSALS[2:]:
                later(bench, gate)
        else:
            cause(bench, gate)
    assert asked_again(gate) == []
    assert gate.state.reason is REFUSALS[first][1]


def test_exactly_enough_is_enough(bench: Bench) -> None:
    gate = bench.gate(slots=2)
    bench.book_elsewhere(7 * GiB)
    bench.others.measure({"ballast": 7 * GiB})
    bench.host.has_available(GiB)
    bench.host.is_pressed(20.0)
    bench.host.free_disk_bytes = 5 * GiB
    assert gate.offer(ALL) == [AGENTS]


def test_a_closed_gate_holds_nothing_and_opens_when_room_is_given_back(bench: Bench) -> None:
    gate = bench.gate(budget=2 * GiB)
    first, second = run_one(gate), run_one(gate)
    assert gate.offer(ALL) == []
    assert gate.state.reason is GateReason.BOOKED
    assert bench.others.booked().count == 2
    gate.release(first)
    assert gate.offer(ALL) == [AGENTS]
    gate.release(second)


def test_what_sessions_use_counts_against_what_is_available(bench: Bench) -> None:
    """4 GiB available and a session that may grow by 3 of them leave room for one more of 1."""
    gate = bench.gate(budget=32 * GiB)
    bench.host.has_available(4 * GiB)
    bench.book_elsewhere(4 * GiB)
    assert gate.offer(ALL) == []
    assert gate.state.reason is GateReason.MEMORY
    bench.others.measure({"ballast": GiB})
    assert asked_again(gate) == [AGENTS]
    bench.others.measure({"ballast": GiB - 1})
    assert asked_again(gate) == []
    bench.others.measure({"ballast": 9 * GiB})  # above its ceiling it grows into nothing
    assert asked_again(gate) == [AGENTS]


def test_own_sessions_that_have_grown_leave_room_too(bench: Bench) -> None:
    gate = bench.gate()
    bench.host.has_available(GiB + 512 * MiB)
    job = run_one(gate)
    assert gate.offer(ALL) == []
    gate.measure({job: 512 * MiB, "gone": 5})
    assert asked_again(gate) == [AGENTS]


def test_a_larger_class_is_asked_for_only_while_it_has_messages(bench: Bench) -> None:
    gate = bench.gate()
    assert gate.offer(ALL) == [AGENTS]
    gate.note_waiting(frozenset({LARGE}))
    assert gate.offer(ALL) == [LARGE, AGENTS]
    assert bench.others.booked().ceilings_bytes == 2 * GiB
    gate.note_waiting(frozenset({LARGE, HUGE}))
    assert gate.offer(ALL) == [HUGE, LARGE, AGENTS]
    assert bench.others.booked().ceilings_bytes == 4 * GiB
    gate.note_waiting(frozenset())
    assert gate.offer(ALL) == [AGENTS]
    assert bench.others.booked().ceilings_bytes == GiB


def test_the_largest_that_fits_is_booked(bench: Bench) -> None:
    gate = bench.gate()
    gate.note_waiting(frozenset({LARGE, HUGE}))
    bench.book_elsewhere(5 * GiB)
    assert gate.offer(ALL) == [LARGE, AGENTS]
    bench.book_elsewhere(7 * GiB)
    assert gate.offer(ALL) == [AGENTS]
    assert gate.state.open


def test_a_smaller_job_than_the_poll_booked_for_gives_the_rest_back(bench: Bench) -> None:
    gate = bench.gate()
    gate.note_waiting(frozenset({HUGE}))
    assert gate.offer(ALL) == [HUGE, AGENTS]
    gate.arrived(AGENTS)
    assert bench.others.booked().ceilings_bytes == GiB


def test_classes_take_turns(bench: Bench) -> None:
    gate = bench.gate(budget=64 * GiB, slots=64)
    gate.note_waiting(frozenset({LARGE}))
    run_one(gate, LARGE)
    assert gate.offer(ALL) == [AGENTS, LARGE]
    run_one(gate, AGENTS)
    assert gate.offer(ALL) == [LARGE, AGENTS]


def test_smaller_jobs_overtake_a_class_that_does_not_fit_only_for_a_while(bench: Bench) -> None:
    patience_s = 0.2
    gate = bench.gate(budget=2 * GiB, patience_s=patience_s)
    small = run_one(gate)
    gate.note_waiting(frozenset({LARGE}))
    assert gate.offer(ALL) == [AGENTS], "one more small one, for the large one does not fit"
    wait_until(lambda: asked_again(gate) == [], "room is kept", timeout_s=5.0)
    assert gate.state.reason is GateReason.BOOKED
    assert "one more needs 2 GiB" in gate.state.detail
    assert bench.others.booked().count == 1, "the poll's was given back"
    gate.release(small)
    assert gate.offer(ALL) == [LARGE], "nothing else can take its room now"
    gate.arrived(LARGE)
    assert gate.offer([AGENTS]) == [AGENTS], "not a job: the room is anyone's again"


def test_room_is_no_longer_kept_when_the_class_has_no_messages(bench: Bench) -> None:
    gate = bench.gate(budget=2 * GiB, patience_s=0.0)
    run_one(gate)
    gate.note_waiting(frozenset({LARGE}))
    assert gate.offer(ALL) == []
    gate.note_waiting(frozenset())
    assert asked_again(gate) == [AGENTS]


def test_the_polls_reservation_becomes_the_jobs(bench: Bench) -> None:
    gate = bench.gate()
    job = run_one(gate)
    assert bench.others.booked().count == 1
    assert gate.offer(ALL) == [AGENTS]
    assert bench.others.booked().count == 2
    gate.release(job)
    gate.release(job)
    assert bench.others.booked().count == 1


def test_a_message_that_never_becomes_a_job_gives_its_reservation_back(bench: Bench) -> None:
    gate = bench.gate(budget=GiB)
    for _ in range(3):
        assert gate.offer(ALL) == [AGENTS]
        gate.arrived(AGENTS)
    assert bench.others.booked().count == 1


def test_a_reservation_is_no_use_to_a_job_of_another_class(bench: Bench) -> None:
    """A message of 1 GiB came; then a timer brings a job of 2 GiB that was held for its time."""
    gate = bench.gate(budget=2 * GiB)
    started: list[str] = []
    assert gate.offer(ALL) == [AGENTS]
    gate.arrived(AGENTS)
    gate.admit(LARGE, started.append)
    assert started == [], "it would have run with too little booked"
    assert asked_again(gate) == []
    assert len(started) == 1
    assert bench.others.booked().ceilings_bytes == 2 * GiB


def test_a_job_without_a_reservation_stands_in_line(bench: Bench) -> None:
    gate = bench.gate(budget=GiB)
    started: list[str] = []
    job = run_one(gate)
    gate.admit(AGENTS, started.append)
    gate.turn()
    assert started == []
    gate.release(job)
    gate.turn()
    assert len(started) == 1
    assert bench.others.booked().ceilings_bytes == GiB


def test_nothing_is_asked_for_while_a_job_stands_in_line(bench: Bench) -> None:
    gate = bench.gate(budget=2 * GiB)
    started: list[str] = []
    job = run_one(gate)
    gate.admit(LARGE, started.append)
    assert asked_again(gate) == [], "it would take the room that the line waits for"
    assert gate.state.reason is GateReason.BOOKED
    gate.release(job)
    assert gate.offer(ALL) == []
    assert len(started) == 1


def test_the_line_comes_before_the_poll_that_holds_the_last_room(bench: Bench) -> None:
    gate = bench.gate(budget=GiB)
    started: list[str] = []
    assert gate.offer(ALL) == [AGENTS]
    gate.admit(AGENTS, started.append)
    assert started == [], "the BRPOP on the wire may bring a job"
    assert asked_again(gate) == []
    assert len(started) == 1


def test_the_line_counts_the_poll_as_a_slot(bench: Bench) -> None:
    gate = bench.gate(slots=1)
    started: list[str] = []
    assert gate.offer(ALL) == [AGENTS]
    gate.admit(AGENTS, started.append)
    assert started == []
    gate.arrived(AGENTS)
    gate.admit(AGENTS, started.append)
    assert len(started) == 1


def test_a_job_of_an_unknown_queue_is_taken_for_the_largest_class(bench: Bench) -> None:
    gate = bench.gate()
    started: list[str] = []
    gate.admit("somewhere", started.append)
    assert len(started) == 1
    assert bench.others.booked().ceilings_bytes == 4 * GiB


def test_a_stopped_gate_gives_the_polls_reservation_back_and_starts_nothing(bench: Bench) -> None:
    gate = bench.gate()
    job = run_one(gate)
    assert gate.offer(ALL) == [AGENTS]
    gate.stop()
    assert bench.others.booked().count == 1, "the running job's"
    gate.arrived(AGENTS)
    gate.admit(AGENTS, lambda _name: pytest.fail("started while shutting down"))
    gate.release(job)
    gate.turn()
    assert asked_again(gate) == []
    assert gate.state.reason is GateReason.STOPPING
    assert bench.others.booked().count == 0


def test_a_closed_gate_is_not_looked_at_all_the_time_unless_something_is_given_back(
    bench: Bench,
) -> None:
    gate = bench.gate(budget=GiB)
    woken: list[bool] = []
    gate.wake = lambda: woken.append(True)
    bench.book_elsewhere(GiB)
    assert gate.offer(ALL) == []
    bench.others.release("ballast")
    assert gate.offer(ALL) == [], "asked a moment ago"
    wait_until(lambda: gate.offer(ALL) == [AGENTS], "looked at again", timeout_s=1.0)
    assert woken == []
    bench.book_elsewhere(GiB)
    assert gate.offer(ALL) == []
    bench.others.release("ballast")
    gate.release("any")
    assert gate.offer(ALL) == [AGENTS]
    assert woken == [True]


def test_the_state_tells_since_when(bench: Bench) -> None:
    gate = bench.gate()
    assert gate.offer(ALL) == [AGENTS]
    opened_s = gate.state.since_s
    assert gate.offer(ALL) == [AGENTS]
    assert gate.state.since_s == opened_s
    bench.host.is_pressed(99.0)
    assert gate.offer(ALL) == []
    assert gate.state.since_s > opened_s


def test_the_report_has_the_hosts_numbers(bench: Bench) -> None:
    gate = bench.gate()
    bench.book_elsewhere(2 * GiB)
    run_one(gate)
    report = gate.report()
    assert (report.budget_bytes, report.booked_bytes) == (8 * GiB, 3 * GiB)
    assert (report.sessions_booked, report.workers_on_host) == (2, 2)
    assert report.headroom_bytes == 5 * GiB
    bench.host.has_available(4 * GiB)
    assert gate.report().headroom_bytes == GiB, "what sessions may grow into is no headroom"
    bench.host.has_available(GiB)
    assert gate.report().headroom_bytes == 0


class TwoWorkers(RuleBasedStateMachine):
    """Two workers of one host, whatever they do: never over the budget, nothing leaks."""

    BUDGET = 7 * GiB
    SLOTS = 2

    @initialize()
    def start(self) -> None:
        self.directory = tempfile.TemporaryDirectory(prefix="gates-")
        self.bench = Bench(Path(self.directory.name))
        self.gates = [
            self.bench.gate(budget=self.BUDGET, slots=self.SLOTS, patience_s=0.0) for _ in range(2)
        ]
        self.asked: list[list[str]] = [[], []]
        """The queues of the BRPOP on the wire."""
        self.jobs: list[list[tuple[str, str]]] = [[], []]
        """(queue, reservation) of those that run."""
        self.in_line = [0, 0]

    def _start(self, worker: int, queue: str) -> Callable[[str], None]:
        return lambda name: self.jobs[worker].append((queue, name))

    @rule(worker=st.integers(0, 1), waiting=st.frozensets(st.sampled_from([LARGE, HUGE])))
    def messages_wait(self, worker: int, waiting: frozenset[str]) -> None:
        self.gates[worker].note_waiting(waiting)

    @rule(worker=st.integers(0, 1))
    def ask(self, worker: int) -> None:
        """kombu asks only while no BRPOP is on the wire; here that one brought nothing."""
        self.asked[worker] = asked_again(self.gates[worker])
        assert set(self.asked[worker]) <= set(ALL)

    @rule(worker=st.integers(0, 1), data=st.data(), becomes_a_job=st.booleans())
    def a_message_comes(self, worker: int, data: st.DataObject, becomes_a_job: bool) -> None:
        if not self.asked[worker]:
            return
        queue = data.draw(st.sampled_from(self.asked[worker]))
        self.asked[worker] = []
        self.gates[worker].arrived(queue)
        if becomes_a_job:
            before = len(self.jobs[worker])
            self.gates[worker].admit(queue, self._start(worker, queue))
            assert len(self.jobs[worker]) == before + 1, "its RAM was booked before it came"

    @rule(worker=st.integers(0, 1), queue=st.sampled_from(ALL))
    def a_held_job_becomes_due(self, worker: int, queue: str) -> None:
        self.gates[worker].admit(queue, self._start(worker, queue))

    @rule(worker=st.integers(0, 1))
    def turn(self, worker: int) -> None:
        self.gates[worker].turn()

    @rule(worker=st.integers(0, 1), data=st.data())
    def a_job_ends(self, worker: int, data: st.DataObject) -> None:
        if self.jobs[worker]:
            at = data.draw(st.integers(0, len(self.jobs[worker]) - 1))
            _queue, name = self.jobs[worker].pop(at)
            self.gates[worker].release(name)

    @rule(worker=st.integers(0, 1), used=st.integers(0, 8 * GiB))
    def measured(self, worker: int, used: int) -> None:
        self.gates[worker].measure(dict.fromkeys((name for _, name in self.jobs[worker]), used))

    @invariant()
    def within_the_budget(self) -> None:
        booked = self.bench.others.booked().ceilings_bytes
        jobs = sum(CEILINGS[queue] for jobs in self.jobs for queue, _ in jobs)
        polls = sum(max(CEILINGS[queue] for queue in asked) for asked in self.asked if asked)
        assert jobs + polls <= booked <= self.BUDGET

    @invariant()
    def within_the_slots(self) -> None:
        for jobs, asked in zip(self.jobs, self.asked, strict=True):
            assert len(jobs) + bool(asked) <= self.SLOTS

    @precondition(lambda self: any(self.jobs))
    @rule()
    def everything_ends(self) -> None:
        for _ in range(20):  # those in line come to run, and end too
            for gate, jobs in zip(self.gates, self.jobs, strict=True):
                while jobs:
                    gate.release(jobs.pop()[1])
                gate.turn()

    def teardown(self) -> None:
        if not hasattr(self, "bench"):
            return
        for _ in range(400):
            for worker in (0, 1):
                self.ask(worker)
            self.everything_ends()
            if not any(gate._line for gate in self.gates):
                break
        assert not any(self.jobs)
        for gate in self.gates:
            gate.stop()
            asked_again(gate)
        left = self.bench.others.booked()
        assert (left.count, left.ceilings_bytes) == (0, 0)
        self.bench.close()
        self.directory.cleanup()


TwoWorkers.TestCase.settings = settings(max_examples=40, stateful_step_count=40, deadline=None)
test_two_workers = TwoWorkers.TestCase
