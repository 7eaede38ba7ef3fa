"""`agentherd result`."""

import click

from agentherd.cli.exits import CommandFailed, ExitCode
from agentherd.cli.outcome import exit_by, write_answer
from agentherd.cli.progress import WAITING
from agentherd.cli.screen import write_json
from agentherd.cli.session import CommandSession, job_argument, json_option, pass_session
from agentherd.errors import ResultTimeout


@click.command("result")
@job_argument
@click.option(
    "--timeout-s",
    type=click.FloatRange(min=0),
    metavar="S",
    help="Longest wait; without it, to the job's end.",
)
@click.option("--wait/--no-wait", default=True, show_default=True, help="Wait for the job's end.")
@json_option
@pass_session
def command(
    session: CommandSession, job_id: str, timeout_s: float | None, wait: bool, as_json: bool
) -> None:  # fmt: skip
    """Wait for a job's end and print its answer; exit by outcome.

    The answer is the structured output as JSON where the job asked for one, else the agent's
    last text.
    """
    try:
        result = session.job(job_id).result(timeout_s if wait else 0)
    except ResultTimeout as error:
        state = WAITING.get(error.state, f"still {error.state}")
        raise CommandFailed(ExitCode.NOT_ENDED, f"job {job_id}: {state}") from None
    except KeyboardInterrupt:
        raise CommandFailed(
            ExitCode.INTERRUPTED,
            f"the job goes on. Wait for it again: agentherd result {job_id}",
        ) from None
    if as_json:
        write_json(result.model_dump(mode="json"))
    else:
        write_answer(result)
    exit_by(result)
