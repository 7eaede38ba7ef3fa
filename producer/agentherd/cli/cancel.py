"""`agentherd cancel`."""

import click

from agentherd.cli.exits import CommandFailed, ExitCode
from agentherd.cli.parameters import converted, job_id
from agentherd.cli.screen import STATE_STYLES, note, write_json, write_line
from agentherd.cli.session import CommandSession, json_option, pass_session
from agentherd.contract.cancelling import Cancellation, CancelOutcome
from agentherd.contract.states import JobState
from agentherd.errors import JobNotFound


@click.command("cancel")
@click.argument("job_ids", nargs=-1, required=True, metavar="JOB...", callback=converted(job_id))
@click.option("--reason", default="", metavar="TEXT", help="Why; in the job's events and result.")
@click.option("--wait", is_flag=True, help="Return once the jobs have ended.")
@json_option
@pass_session
def command(
    session: CommandSession, job_ids: tuple[str, ...], reason: str, wait: bool, as_json: bool
) -> None:  # fmt: skip
    """End jobs, waiting or running.

    A job that waits has ended when this returns. One that runs is ended by its worker: its state
    says `cancelled` once nothing of its agent is left.
    """
    answers, missing = _cancelled(session, job_ids, reason)
    for answer in answers:
        told = _ended(session, answer) if wait else answer
        if as_json:
            write_json(told.model_dump(mode="json"))
        else:
            _write(told)
    if missing:
        raise CommandFailed(ExitCode.NOT_FOUND, "; ".join(missing))


def _cancelled(
    session: CommandSession, job_ids: tuple[str, ...], reason: str
) -> tuple[list[Cancellation], list[str]]:
    """Ask for all of them before any is waited for; the answers, and which are no jobs."""
    answers: list[Cancellation] = []
    missing: list[str] = []
    for one in dict.fromkeys(job_ids):
        try:
            answers.append(session.job(one).cancel(reason))
        except JobNotFound as error:
            missing.append(str(error))
    return answers, missing


def _ended(session: CommandSession, answer: Cancellation) -> Cancellation:
    if answer.outcome is not CancelOutcome.ASKED:
        return answer
    try:
        state = session.job(answer.job_id).result().state
    except KeyboardInterrupt:
        raise CommandFailed(
            ExitCode.INTERRUPTED, f"job {answer.job_id} was told to end; not waited for"
        ) from None
    return answer.model_copy(update={"state": state})


def _write(answer: Cancellation) -> None:
    write_line((f"{answer.job_id}  ", ""), (answer.state, STATE_STYLES.get(answer.state, "")))
    if answer.outcome is CancelOutcome.ENDED:
        note(f"job {answer.job_id} had ended before")
    elif answer.state is JobState.RUNNING:
        note(f"job {answer.job_id} runs; its worker ends it")
