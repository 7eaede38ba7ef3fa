"""What `doctor` makes of what Redis says, and where its commands and checks come from."""

from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints

import click
import pytest
from click.testing import CliRunner

from agentherd import BreakerReport, FailureKind
from agentherd.checks import Check, CheckStatus
from agentherd.cli import doctor, plugins
from agentherd.cli.exits import CommandFailed
from agentherd.cli.redis_checks import (
    breaker_check,
    clock_check,
    eviction_check,
    jobs_check,
    persistence_check,
    poison_check,
    version_check,
)


def refused(kind: FailureKind) -> BreakerReport:
    """The model API refuses the fleet."""
    return BreakerReport(kind=kind, message="m", worker="w", opened_at_ms=1, next_probe_ms=2)


OK, WARNING, FAILED = CheckStatus.OK, CheckStatus.WARNING, CheckStatus.FAILED


@pytest.mark.parametrize(
    ("check", "status"),
    [
        (version_check("7.2.4", "9.1.0"), OK),
        (version_check("6.2.0", None), WARNING),
        (version_check("6.0.16", None), FAILED),
        (version_check("", None), FAILED),
        (persistence_check({"aof_enabled": 1, "aof_last_write_status": "ok"}, False), OK),
        (persistence_check({"aof_enabled": 1, "aof_last_write_status": "err"}, False), FAILED),
        (persistence_check({"aof_enabled": 0}, True), OK),
        (persistence_check({"aof_enabled": 0}, False), WARNING),
        (persistence_check({"aof_enabled": 0}, None), WARNING),
        (persistence_check({"loading": 1}, None), WARNING),
        (eviction_check(0, "allkeys-lru"), OK),
        (eviction_check(2**20, "noeviction"), OK),
        (eviction_check(2**20, "allkeys-lru"), WARNING),
        (clock_check(0.01), OK),
        (clock_check(-3), WARNING),
        (breaker_check(None), OK),
        (breaker_check(refused(FailureKind.BILLING)), FAILED),
        (breaker_check(refused(FailureKind.AUTHENTICATION)), FAILED),
        (poison_check(0), OK),
        (poison_check(3), WARNING),
        (jobs_check({"queued": 1, "running": 1}, {"agents": 1}), OK),
        (jobs_check({"queued": 1, "running": 0}, {"agents": 1}), WARNING),
    ],
)
def test_a_finding_has_its_status_and_a_fix(check: Check, status: CheckStatus) -> None:
    assert check.status is status
    assert bool(check.fix) is (status is not OK)


def good() -> list[Check]:
    """A plug-in's checks."""
    return [Check("disk", OK, "plenty")]


def broken() -> Iterator[Check]:
    """A plug-in that fails half-way."""
    yield Check("disk", OK, "plenty")
    raise RuntimeError("boom")


@pytest.mark.parametrize(
    ("target", "statuses"),
    [("good", [OK]), ("broken", [OK, FAILED]), ("absent", [FAILED])],
)
def test_a_broken_plug_in_is_a_finding(target: str, statuses: list[CheckStatus]) -> None:
    entry = EntryPoint("host", f"{__name__}:{target}", doctor.GROUP)
    assert [check.status for check in doctor._run(entry)] == statuses


@pytest.fixture
def no_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where only the producer is installed."""
    monkeypatch.setattr(plugins, "entry_points", lambda group: EntryPoints())


@pytest.mark.usefixtures("no_plugins")
@pytest.mark.parametrize("name", ["worker", "demo"])
def test_a_lone_producer_says_what_to_install(name: str) -> None:
    command = plugins.load(name)
    assert command is not None
    for arguments in ([], ["--help"], ["--concurrency", "2"]):
        ended = CliRunner().invoke(command, arguments)
        assert ended.exit_code == 2
        assert (
            ended.stderr == f"agentherd: `agentherd {name}` needs: pip install agentherd-workers\n"
        )


@pytest.mark.usefixtures("no_plugins")
def test_an_unknown_command_is_nobody_s() -> None:
    assert plugins.load("invented") is None
    assert set(plugins.summaries()) == {"worker", "demo", "capacity"}


def test_a_plug_in_that_can_t_be_loaded_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = EntryPoints(
        [
            EntryPoint("worker", "agentherd_absent:worker", plugins.GROUP),
            EntryPoint("odd", f"{__name__}:good", plugins.GROUP),
            EntryPoint("fine", f"{__name__}:fine", plugins.GROUP),
        ]
    )
    monkeypatch.setattr(plugins, "entry_points", lambda group: entries)
    with pytest.raises(CommandFailed, match="can't be loaded"):
        plugins.load("worker")
    with pytest.raises(CommandFailed, match="not a click command"):
        plugins.load("odd")
    assert plugins.load("fine") is fine


@click.command()
def fine() -> None:
    """A plug-in's command."""
