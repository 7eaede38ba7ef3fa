"""Admission with real workers: what a closed gate leaves in Redis, and that nothing is lost."""

import json
import os
import re
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from click.testing import CliRunner

from agentherd import ClassNotServed, Herd, Job, JobHandle, JobResult, JobState
from agentherd.cli.app import app as command_line
from agentherd.contract.hosts import WorkerReport
from agentherd.layout import queues
from agentherd.layout.messages import task_message
from agentherd_workers.admission.ledger import Ledger
from agentherd_workers.admission.memory import HostMemory
from agentherd_workers.devkit import scripts
from agentherd_workers.devkit.model_api import ModelServer
from agentherd_workers.devkit.redis_server import RedisServer
from agentherd_workers.devkit.worker_process import WorkerFailed, WorkerProcess
from agentherd_workers.sizes import GiB, MiB
from support.fleet import Fleet, running_fleet
from support.waiting import wait_until

CEILING = 512 * MiB
LARGE = GiB
BUDGET = 4 * CEILING
SETTINGS = {
    "overhead_bytes": str(HostMemory().limit().size_bytes - BUDGET),
    "session_ceiling_bytes": "512MiB",
    "memory_classes": json.dumps({"2g": "1GiB", "64g": "64TiB"}),
    "concurrency": "8",
    "class_patience_s": "1",
}
"""Four small agents, or two of the class 2g, whatever RAM the machine has."""
QUICK = scripts.script("Say it", scripts.text("done"))
ENDLESS = scripts.script("Think", scripts.hang())
INVALID = {"prompt": ""}
"""A job that ends at once, as invalid: it passes the gate and needs no agent."""


class Host:
    """A fleet's host, its book of RAM, and a plain Celery client."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.herd = fleet.herd
        self.redis = fleet.herd.connection.redis
        self.book = Ledger(fleet.worker.workspace_root / "ledger")
        self.celery = Celery(broker=fleet.redis.url, backend=fleet.redis.url)

    def close(self) -> None:
        self.book.close()
        self.celery.close()

    def submit(self, prompt: str = QUICK, **fields: Any) -> JobHandle:
        return self.herd.submit(Job(prompt=prompt, **fields))

    def send(self, job: dict[str, Any], queue: str = "agents", **options: Any) -> JobHandle:
        """As a plain Celery client does."""
        sent = self.celery.send_task("agentherd.run", kwargs={"job": job}, queue=queue, **options)
        return self.herd.job(sent.id)

    def known(self, handle: JobHandle) -> bool:
        return bool(self.redis.exists(self.herd.keys.job(handle.id)))

    def depth(self, queue: str = "agents") -> int:
        return self.herd.connection.run(queues.depths([queue]))[queue]

    def result_of(self, sent: JobHandle) -> JobResult:
        """Of a job that a worker has to record first."""
        wait_until(lambda: self.known(sent), f"job {sent.id} is recorded", timeout_s=30.0)
        return sent.result(30)

    def unacked(self) -> int:
        return int(self.redis.hlen("unacked"))

    def polls(self) -> list[str]:
        """The clients with a BRPOP on the wire."""
        clients = self.redis.client_list()
        return [str(client["id"]) for client in clients if "b" in client["flags"]]

    def await_poll(self) -> str:
        return wait_until(self.polls, "a BRPOP is on the wire", timeout_s=5.0)[0]

    def worker(self) -> WorkerReport:
        [worker] = self.herd.workers()
        return worker

    def await_gate(self, reason: str | None) -> WorkerReport:
        wait_until(
            lambda: self.worker().gate.reason == reason,
            f"the gate says {reason}",
            show=lambda: str(self.worker()),
        )
        return self.worker()

    def stats(self) -> Any:
        """`celery inspect stats`; it has one worker."""
        replies = self.celery.control.inspect(timeout=3.0, limit=1).stats()
        assert replies is not None
        [stats] = replies.values()
        return stats

    def reserved(self) -> list[str]:
        """The ids of the messages that the worker has and that do not run yet."""
        replies = self.celery.control.inspect(timeout=3.0, limit=1).reserved() or {}
        return [message["id"] for messages in replies.values() for message in messages]

    def take_ballast(self, size: int = BUDGET) -> None:
        """Book RAM as another worker would, over the budget if need be."""
        self.book.reserve("ballast", size, lambda _others: None)

    def drop_ballast(self) -> None:
        self.book.release("ballast")

    @contextmanager
    def closed(self, running: int = 0) -> Iterator[None]:
        """The gate is closed, and its last BRPOP has returned; so many jobs run."""
        self.take_ballast()
        try:
            wait_until(
                lambda: self.book.booked().count == 1 + running,
                "only the ballast and what runs are booked",
                show=lambda: str(self.book.booked()),
            )
            yield
        finally:
            self.drop_ballast()

    def end(self, *handles: JobHandle) -> None:
        """Terminate running jobs."""
        for handle in handles:
            self.celery.control.revoke(handle.id, terminate=True)
        for handle in handles:
            handle.result(30)


@contextmanager
def running_host(directory: Path, **options: Any) -> Iterator[Host]:
    settings = SETTINGS | options.pop("settings", {})
    with running_fleet(directory, settings=settings, **options) as fleet:
        host = Host(fleet)
        try:
            yield host
        finally:
            host.close()
            if fleet.worker.log.exists():
                print(fleet.worker.output()[-8000:])  # noqa: T201 - shown where a test fails


def worker_at(directory: Path, redis_url: str, model_url: str, *arguments: str) -> WorkerProcess:
    """A worker of the host whose directory this is."""
    return WorkerProcess(
        directory,
        redis_url=redis_url,
        model_url=model_url,
        settings=SETTINGS,
        arguments=("--without-mingle", "--without-gossip", *arguments),
    )


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with running_host(tmp_path_factory.mktemp("fleet")) as host:
        yield host


@pytest.fixture
def host(shared: Host) -> Iterator[Host]:
    """Nothing waits, runs or is booked at the start of a test, nor at its end."""
    yield shared
    shared.drop_ballast()
    wait_until(
        lambda: shared.book.booked().count <= 1 and shared.unacked() == 0 and shared.depth() == 0,
        "all is given back but an idle poll's",
        show=lambda: f"{shared.book.booked()} {shared.unacked()} {shared.depth()}",
    )


def run_command(fleet: Fleet, *arguments: str, **variables: str) -> str:
    """What `agentherd …` prints."""
    env: dict[str, str | None] = {
        name: None for name in os.environ if name.startswith("AGENTHERD_")
    }
    env |= {f"AGENTHERD_{name.upper()}": value for name, value in (SETTINGS | variables).items()}
    ended = CliRunner().invoke(
        command_line, arguments, env=env | {"AGENTHERD_REDIS_URL": fleet.redis.url}
    )
    assert ended.exit_code == 0, ended.output
    return ended.output


def stays(host: Host, condition: Callable[[], bool], turns: int = 2) -> None:
    """It holds while the worker's loop turns: each answer of `inspect` is one."""
    for _ in range(turns):
        assert condition()
        assert host.celery.control.ping(timeout=3.0, limit=1)
        assert condition()


def test_a_closed_gate_leaves_messages_in_redis_and_the_worker_answers(
    host: Host, capsys: pytest.CaptureFixture[str]
) -> None:
    with host.closed():
        handles = [host.submit() for _ in range(3)]
        stays(host, lambda: host.depth() == 3 and host.unacked() == 0 and not host.polls())
        gate = host.stats()["gate"]
        assert (gate["open"], gate["reason"]) == (False, "booked")
        assert gate["detail"].endswith("of 2 GiB; one more needs 512 MiB")
        # A report may be of a moment before, when something else had closed the gate.
        wait_until(lambda: host.await_gate("booked").gate.headroom_bytes == 0, "it is reported")
        assert host.await_gate("booked").gate.workers_on_host == 2
        [shown] = json.loads(run_command(host.fleet, "hosts", "--json"))["workers"]
        assert (shown["gate"]["open"], shown["gate"]["reason"]) == (False, "booked")
        assert shown["capacity"] == {"default": 4, "2g": 2}
        table = run_command(host.fleet, "hosts")
        assert "closed: booked" in table
        assert "one more needs 512 MiB" in table
        assert {handle.state() for handle in handles} == {JobState.QUEUED}
        host.drop_ballast()
        released_s = time.monotonic()
        wait_until(lambda: host.depth() < 3, "the gate opens")
        opened_s = time.monotonic() - released_s
    with capsys.disabled():
        print(f"\ngate opened {opened_s * 1000:.0f} ms after RAM came back")  # noqa: T201
    assert opened_s <= 1.0
    assert all(handle.result(30).succeeded for handle in handles)
    host.await_gate(None)
    assert "open" in run_command(host.fleet, "hosts")
    assert host.stats()["gate"]["open"] is True


def test_a_gate_that_closes_while_a_brpop_is_on_the_wire_strands_no_message(host: Host) -> None:
    """100 times: the message is run under the poll's reservation, or stays in its list."""
    outcomes = {"ran": 0, "stayed": 0}
    for turn in range(100):
        wait_until(lambda: host.book.booked().count == 1, "only the poll's is booked")
        poll = host.await_poll()
        host.take_ballast()
        match turn % 4:
            case 0 | 1:  # the poll brings it
                handle = host.send(INVALID)
            case 2:  # the poll returns empty at the same moment
                host.redis.client_unblock(int(poll))
                handle = host.send(INVALID)
            case _:  # and the other way round
                handle = host.send(INVALID)
                host.redis.client_unblock(int(poll))

        def decided(handle: JobHandle = handle) -> str:
            booked = host.book.booked()
            assert booked.ceilings_bytes <= BUDGET + CEILING, "only what the poll had booked"
            if host.known(handle) and handle.state() is JobState.FAILED:
                return "ran"
            if booked.count == 1 and host.depth() == 1 and not host.polls():
                return "stayed"
            return ""

        outcome = wait_until(decided, f"round {turn}: it ran or stayed", timeout_s=5.0)
        outcomes[outcome] += 1
        if outcome == "stayed":
            assert host.unacked() == 0
            assert not host.known(handle)
        host.drop_ballast()
        assert host.result_of(handle).state is JobState.FAILED
    assert outcomes["ran"] >= 50
    assert sum(outcomes.values()) == 100


def test_a_message_with_a_time_of_its_own_waits_for_admission_too(host: Host) -> None:
    held = host.send({"prompt": QUICK}, countdown=0.5)
    wait_until(lambda: host.unacked() == 1, "the worker holds it until its time")
    with host.closed():
        wait_until(lambda: held.id in host.reserved(), "its time has come")
        waiting = host.submit()
        stays(host, lambda: not host.known(held) and host.depth() == 1)
        assert host.stats()["gate"]["reason"] == "booked"
    assert host.result_of(held).succeeded
    assert waiting.result(30).succeeded


def test_a_larger_class_has_its_own_queue_and_its_ceilings_worth_is_booked(host: Host) -> None:
    with host.closed():
        handle = host.submit(ENDLESS, memory="2g")
        assert (handle.record().queue, handle.record().served) == ("agents.2g", True)
    wait_until(lambda: handle.state() is JobState.RUNNING, "it runs")
    wait_until(
        lambda: host.book.booked().ceilings_bytes == LARGE + CEILING, "it and a small poll's"
    )
    host.end(handle)


def test_a_larger_class_is_not_starved_by_small_jobs_that_keep_coming(host: Host) -> None:
    """Four small ones fill the host; more wait; two places must come free for the large one."""
    small = [host.submit(ENDLESS) for _ in range(4)]
    wait_until(lambda: all(one.state() is JobState.RUNNING for one in small), "all places taken")
    more = [host.submit(ENDLESS) for _ in range(3)]
    large = host.submit(memory="2g")
    stays(host, lambda: host.depth("agents.2g") == 1 and host.depth() == 3)
    wait_until(lambda: host.stats()["gate"]["detail"].endswith("needs 1 GiB"), "room is kept")
    host.end(small[0])
    stays(host, lambda: host.depth() == 3)
    assert large.state() is JobState.QUEUED
    host.end(small[1])
    assert large.result(30).succeeded
    wait_until(lambda: host.depth() <= 1, "the small ones go on")
    wait_until(lambda: sum(one.state() is JobState.RUNNING for one in more) >= 2, "two of them")
    host.end(*small[2:])
    wait_until(lambda: host.depth() == 0, "and the third")
    wait_until(lambda: all(one.state() is JobState.RUNNING for one in more), "all run")
    host.end(*more)


def test_a_plain_celery_job_in_the_wrong_queue_is_sent_on(host: Host) -> None:
    handle = host.send({"prompt": QUICK, "memory": "2g"}, queue="agents")
    wait_until(lambda: host.known(handle), "it is recorded")
    result = handle.result(30)
    assert result.succeeded
    assert result.attempts == 1
    assert handle.record().queue == "agents.2g"


def test_a_class_that_no_host_can_hold_is_not_consumed_and_the_sender_is_told(host: Host) -> None:
    with pytest.warns(ClassNotServed, match="no live worker serves the memory class 64g") as told:
        handle = host.submit(memory="64g")
    assert isinstance(told[0].message, ClassNotServed)
    assert told[0].message.memory == "64g"
    assert handle.record().served is False
    stays(host, lambda: host.depth("agents.64g") == 1 and host.unacked() == 0)
    assert "no live worker serves its memory class" in run_command(host.fleet, "status", handle.id)
    assert json.loads(run_command(host.fleet, "status", handle.id, "--json"))["served"] is False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert host.submit(memory="2g").result(30).succeeded
    said = run_command(host.fleet, "submit", "hello", "--memory", "64g")
    assert "no live worker serves its memory class; see: agentherd hosts" in said
    host.redis.delete(*queues.lists_of("agents.64g"))


def test_capacity_shows_the_arithmetic_and_what_history_supports(host: Host) -> None:
    assert host.submit().result(30).succeeded
    shown = json.loads(run_command(host.fleet, "capacity", "--json"))
    assert shown["agents"] == {"default": 4, "2g": 2, "64g": 0}
    assert shown["host_ram_bytes"] - shown["overhead_bytes"] == BUDGET
    text = run_command(host.fleet, "capacity")
    assert re.search(r"2g\t1 GiB\t2\t\(\d+ \w+ - \d+ \w+\) / 1 GiB, rounded down", text)
    assert "0: not served here" in text
    rows = json.loads(run_command(host.fleet, "capacity", "--from-history", "--json"))["classes"]
    default = next(row for row in rows if row["memory"] == "default")
    assert default["jobs"] >= 1
    assert 64 * MiB < default["p50_bytes"] <= default["p95_bytes"] <= default["max_bytes"] < GiB
    assert default["supported_bytes"] >= default["p99_bytes"]
    assert default["agents"] == BUDGET // default["supported_bytes"]
    assert "SUPPORTED is the p99 peak" in run_command(host.fleet, "capacity", "--from-history")


def test_a_broken_record_holds_up_no_other(host: Host) -> None:
    """One among the scheduled ones; those behind it are released."""
    keys = host.herd.keys
    host.redis.hset(
        keys.job("broken"),
        mapping={"tenant": "default", "priority": "high", "queue": "agents"},
    )
    host.redis.zadd(keys.scheduled, {"broken": 0})
    try:
        soon = datetime.now(UTC) + timedelta(seconds=0.2)
        assert host.submit(not_before=soon).result(30).succeeded
        assert "job broken can't be moved" in host.fleet.worker.output()
    finally:
        host.redis.zrem(keys.scheduled, "broken")
        host.redis.delete(keys.job("broken"))


def test_a_full_disk_closes_the_gate(tmp_path: Path) -> None:
    with running_host(tmp_path, settings={"job_disk_bytes": "4096TiB"}) as host:
        host.submit()
        worker = host.await_gate("disk")
        assert "a session may need 4194304 GiB" in worker.gate.detail
        stays(host, lambda: host.depth() == 1 and host.unacked() == 0)


def test_slots_close_the_gate_and_a_held_message_takes_none_away(tmp_path: Path) -> None:
    """One slot: a message that was popped while a held one became due would have no reader."""
    with running_host(tmp_path, settings={"concurrency": "1"}) as host:
        running = host.submit(ENDLESS)
        host.await_gate("slots")
        waiting = host.submit()
        stays(host, lambda: host.depth() == 1 and host.unacked() == 1)
        host.end(running)
        assert waiting.result(30).succeeded
        for _ in range(2):
            held = host.send({"prompt": QUICK}, countdown=0.5)
            wait_until(lambda: host.unacked() == 1, "the worker holds it until its time")
            # One after the other, while that becomes due: each finds the only slot free or not.
            others = [host.send(INVALID) for _ in range(20)]
            assert host.result_of(held).succeeded
            for other in others:
                host.result_of(other)
        assert host.depth() == 0


def test_celerys_own_option_for_concurrency_is_the_gates(tmp_path: Path) -> None:
    with (
        running_host(tmp_path, start=False) as host,
        worker_at(tmp_path, host.fleet.redis.url, host.fleet.model.url, "--concurrency", "1"),
    ):
        running = host.submit(ENDLESS)
        assert host.await_gate("slots").slots == 1
        host.end(running)


def test_a_worker_for_some_queues_serves_only_their_classes(tmp_path: Path) -> None:
    with (
        running_host(tmp_path, start=False) as host,
        worker_at(tmp_path, host.fleet.redis.url, host.fleet.model.url, "-Q", "agents.2g"),
    ):
        wait_until(lambda: len(host.herd.workers()) == 1, "it has reported itself")
        assert host.worker().capacity == {"2g": 2}
        other = host.submit()
        assert host.submit(memory="2g").result(30).succeeded
        assert host.depth() == 1
        assert other.record().served is False


def test_two_workers_of_a_host_share_its_budget(tmp_path: Path) -> None:
    with running_host(tmp_path) as host:
        urls = host.fleet.redis.url, host.fleet.model.url
        with worker_at(tmp_path, *urls, "--hostname", "second@%h"):
            slow = scripts.script("Say it", scripts.slow("well, well", chunks=4, delay_s=0.1))
            handles = [host.submit(slow) for _ in range(7)]
            most = 0
            while not all(handle.state() is JobState.SUCCEEDED for handle in handles):
                booked = host.book.booked()
                most = max(most, booked.ceilings_bytes)
                assert booked.ceilings_bytes <= BUDGET
                assert booked.workers == 3
                assert host.redis.zcard(host.herd.keys.leases) <= BUDGET // CEILING
            assert most == BUDGET, "all of it was in use"
            assert len({handle.record().worker for handle in handles}) == 2
            assert len(host.herd.workers()) == 2
        wait_until(lambda: len(host.herd.workers()) == 1, "the one that ended is gone at once")


def test_a_host_that_holds_no_agent_starts_no_worker(tmp_path: Path) -> None:
    with running_host(tmp_path, settings={"overhead_bytes": "900TiB"}, start=False) as host:
        with pytest.raises(WorkerFailed) as failed:
            host.fleet.worker.start()
        lines = str(failed.value).splitlines()
        assert "exit 1" in lines[0]
        [said] = [line for line in lines if "agentherd worker: this host can't run agents" in line]
        assert "not one agent fits" in said
        assert "lower AGENTHERD_OVERHEAD_BYTES or AGENTHERD_SESSION_CEILING_BYTES" in said
        assert "Traceback" not in str(failed.value)


def test_a_worker_that_can_serve_none_of_its_queues_does_not_start(tmp_path: Path) -> None:
    with RedisServer() as redis:
        worker = worker_at(tmp_path, redis.url, "http://127.0.0.1:9", "-Q", "agents.64g")
        with pytest.raises(WorkerFailed, match=r"not one agent of agents\.64g fits") as failed:
            worker.start()
    assert "this host can serve agents, agents.2g" in str(failed.value)


def test_the_gate_is_right_after_redis_was_away(tmp_path: Path) -> None:
    with (
        RedisServer(appendonly=True) as redis,
        ModelServer() as model,
        Herd(redis.url) as herd,
        worker_at(tmp_path, redis.url, model.url) as worker,
        closing(Host(Fleet(redis, model, worker, herd))) as host,
    ):
        running = host.submit(ENDLESS)
        wait_until(lambda: running.state() is JobState.RUNNING, "it runs")
        host.await_poll()
        redis.restart()
        wait_until(host.polls, "it asks again", timeout_s=20.0)
        with host.closed(running=1):
            handles = [host.submit() for _ in range(2)]
            stays(host, lambda: host.depth() == 2)
            assert host.stats()["gate"]["reason"] == "booked"
        assert all(handle.result(30).succeeded for handle in handles)
        assert running.state() is JobState.RUNNING
        host.end(running)
        wait_until(lambda: host.book.booked().count <= 1, "all is given back")


def test_a_worker_that_shuts_down_strands_no_message(tmp_path: Path) -> None:
    """What its last BRPOP pops goes back at once, not when the last job has ended."""
    with running_host(tmp_path, settings={"drain_grace_s": "60"}) as host:
        running = host.submit(
            scripts.script("Wait", scripts.slow("x" * 40, chunks=40, delay_s=0.1))
        )
        wait_until(lambda: running.state() is JobState.RUNNING, "it runs")
        host.redis.client_unblock(int(host.await_poll()))
        host.await_poll()  # a new one, which lasts for a second
        os.kill(host.fleet.worker.pid, signal.SIGTERM)
        wait_until(lambda: host.book.booked().count == 1, "the gate has stopped")
        host.redis.lpush("agents", task_message("never-submitted", "agents", 3, "{}"))
        wait_until(lambda: host.depth() == 1 and not host.polls(), "it is back in its list")
        wait_until(lambda: host.book.booked().count == 1, "only the running job is booked")
        assert running.state() is JobState.RUNNING
        assert host.unacked() == 1
        assert running.result(30).succeeded
        wait_until(lambda: host.fleet.worker.returncode is not None, "the worker has ended")
        assert host.depth() == 1
        assert host.unacked() == 0
