"""`agentherd events`."""

import re

import click

from agentherd.cli.following import follow as follow_job
from agentherd.cli.progress import event_json, write_event
from agentherd.cli.screen import write_json
from agentherd.cli.session import CommandSession, job_argument, json_option, pass_session
from agentherd.layout.events import FIRST

_POSITION = re.compile(r"\d{1,19}(-\d{1,19})?")


@click.command("events")
@job_argument
@click.option("--follow", is_flag=True, help="Go on to the job's end.")
@click.option(
    "--after", default=FIRST, metavar="ID", help="Only events after the one with this id."
)
@json_option
@pass_session
def command(session: CommandSession, job_id: str, follow: bool, after: str, as_json: bool) -> None:
    """Show what happened to a job, an event a line."""
    if not _POSITION.fullmatch(after):
        raise click.BadParameter("must be the id of an event", param_hint="--after")
    handle = session.job(job_id)
    for event in follow_job(handle, after) if follow else handle.events(after, follow=False):
        if as_json:
            write_json(event_json(event))
        else:
            write_event(event)
