"""`agentherd artifacts`."""

import sys
from pathlib import Path

import click

from agentherd.cli.exits import CommandFailed, ExitCode
from agentherd.cli.saving import plan_targets, save
from agentherd.cli.screen import note, write_json, write_table
from agentherd.cli.session import CommandSession, job_argument, json_option, pass_session
from agentherd.cli.untrusted import printable
from agentherd.client.blocking import JobHandle
from agentherd.contract.results import Artifact
from agentherd.contract.states import TERMINAL


@click.command("artifacts")
@job_argument
@click.option("--output", type=click.Path(path_type=Path), metavar="DIR", help="Save all of them.")
@click.option("--force", is_flag=True, help="With --output: replace files that exist.")
@click.option("--cat", "name", metavar="NAME", help="Print this one.")
@json_option
@pass_session
def command(
    session: CommandSession,
    job_id: str,
    output: Path | None,
    force: bool,
    name: str | None,
    as_json: bool,
) -> None:
    """List, save or print the files a job kept."""
    if name is not None and (output or as_json):
        raise click.UsageError("--cat excludes --output and --json")
    if force and output is None:
        raise click.UsageError("--force needs --output")
    handle = session.job(job_id)
    if name is not None:
        _print(handle.artifact(name), name)
        return
    artifacts = handle.artifacts()
    if output is not None:
        _save(handle, artifacts, output, force=force)
    if as_json:
        write_json({"job_id": job_id, "artifacts": [one.model_dump() for one in artifacts]})
    elif artifacts:
        write_table(
            ("NAME", "BYTES", "SHA-256"),
            [(one.name, str(one.size_bytes), one.sha256) for one in artifacts],
        )
    elif handle.state() in TERMINAL:
        note("the job kept no artifacts")
    else:
        note("the job has not ended; its artifacts are listed when it has")


def _save(
    handle: JobHandle, artifacts: tuple[Artifact, ...], directory: Path, *, force: bool
) -> None:
    # Every name is checked before the first byte is written.
    targets = plan_targets(directory, [one.name for one in artifacts], force=force)
    for name, target in targets.items():
        content = handle.artifact(name)
        try:
            save(target, content, force=force)
        except OSError as error:
            raise CommandFailed(
                ExitCode.USAGE, f"{target}: can't be written: {error.strerror}"
            ) from None


def _print(content: bytes, name: str) -> None:
    if not sys.stdout.isatty():
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    try:
        text = content.decode()
    except UnicodeDecodeError:
        raise CommandFailed(
            ExitCode.USAGE, f"{name} is not text; send it to a file, or use --output"
        ) from None
    click.echo(printable(text), nl=not text.endswith("\n"))
