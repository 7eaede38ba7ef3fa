"""`agentherd transcript`."""

import click

from agentherd.cli.conversation import write_entry
from agentherd.cli.screen import note, write_json
from agentherd.cli.session import CommandSession, job_argument, pass_session


@click.command("transcript")
@job_argument
@click.option("--jsonl", is_flag=True, help="Print the raw entries, a JSON object a line.")
@click.option("--full", is_flag=True, help="Don't cut long texts.")
@pass_session
def command(session: CommandSession, job_id: str, jsonl: bool, full: bool) -> None:
    """Show the conversation of a job's session as far as it is stored."""
    entries = session.job(job_id).transcript()
    if not entries:
        note("no transcript yet")
    for entry in entries:
        if jsonl:
            write_json(entry)
        else:
            write_entry(entry, full=full)
