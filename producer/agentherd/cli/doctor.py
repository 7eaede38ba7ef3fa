"""`agentherd doctor`."""

from collections.abc import Iterator
from importlib.metadata import EntryPoint, entry_points

import click

from agentherd.checks import Check, CheckSource, CheckStatus
from agentherd.cli.exits import CommandFailed, ExitCode
from agentherd.cli.redis_checks import redis_checks
from agentherd.cli.screen import write_json, write_table
from agentherd.cli.session import CommandSession, json_option, pass_session

GROUP = "agentherd.checks"


@click.command("doctor")
@json_option
@pass_session
def command(session: CommandSession, as_json: bool) -> None:
    """Check Redis and, where the workers are installed, this host.

    Each check is ok, a warning or failed, and says what to do.
    """
    checks = [*redis_checks(session.herd), *_added_checks()]
    failed = [check.name for check in checks if check.status is CheckStatus.FAILED]
    if as_json:
        write_json({"ok": not failed, "checks": [_as_json(check) for check in checks]})
    else:
        write_table(
            ("CHECK", "STATUS", "DETAIL", "WHAT TO DO"),
            [(check.name, str(check.status), check.detail, check.fix) for check in checks],
            wraps=("DETAIL", "WHAT TO DO"),
        )
    if failed:
        raise CommandFailed(ExitCode.UNSUCCESSFUL, f"failed: {', '.join(failed)}")


def _as_json(check: Check) -> dict[str, str]:
    return {
        "name": check.name,
        "status": str(check.status),
        "detail": check.detail,
        "fix": check.fix,
    }


def _added_checks() -> Iterator[Check]:
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        yield from _run(entry)


def _run(entry: EntryPoint) -> Iterator[Check]:
    """The checks of one distribution; that they can't run is a finding too."""
    try:
        source: CheckSource = entry.load()
        yield from source()
    except Exception as error:  # a broken plug-in must not hide the other checks
        yield Check(
            entry.name,
            CheckStatus.FAILED,
            f"{entry.value} could not be run: {type(error).__name__}: {error}",
            "install agentherd and agentherd-workers of the same version",
        )
