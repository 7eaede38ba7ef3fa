"""The options of `submit` that describe the job, and the job they describe."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_args

import click

from agentherd.cli.input_files import input_files
from agentherd.cli.parameters import converted, json_object, pair
from agentherd.cli.times import time
from agentherd.contract.job import Effort, Job, PermissionMode
from agentherd.contract.wire import job_from_wire
from agentherd.errors import InvalidJob, Problem

Command = TypeVar("Command", bound=Callable[..., Any])

# A parameter is named for the field of `Job` it sets. Ranges are the contract's to check, so
# that one run tells every problem.
_OPTIONS = (
    click.option("--file", "files", metavar="SRC[:DEST]", multiple=True,
                 help="Put a file or directory into the workspace. Repeatable."),
    click.option("--artifact", "artifacts", metavar="GLOB", multiple=True,
                 help="Keep the files that match, such as 'out/**/*.csv'. Repeatable."),
    click.option("--model", metavar="NAME", help="Model id or alias."),
    click.option("--fallback-model", metavar="NAME", help="Model where the first is overloaded."),
    click.option("--effort", type=click.Choice(get_args(Effort))),
    click.option("--allow", "allowed_tools", metavar="TOOL", multiple=True,
                 help="Tool or rule the agent may use, such as 'Bash(git *)'. Repeatable."),
    click.option("--disallow", "disallowed_tools", metavar="TOOL", multiple=True,
                 help="Tool or rule taken away from the agent. Repeatable."),
    click.option("--permission-mode", type=click.Choice(get_args(PermissionMode)),
                 help="What happens to a tool that no rule allows."),
    click.option("--system-prompt", metavar="TEXT"),
    click.option("--system-prompt-mode", type=click.Choice(["append", "replace"]),
                 help="Append to Claude Code's own system prompt (the default) or replace it."),
    click.option("--max-turns", type=int, metavar="N"),
    click.option("--max-budget-usd", type=float, metavar="USD"),
    click.option("--timeout-s", type=float, metavar="S", help="Wall clock for one attempt."),
    click.option("--idle-timeout-s", type=float, metavar="S", help="Longest silence of the agent."),
    click.option("--output-schema", callback=converted(json_object), metavar="FILE",
                 help="JSON Schema that the structured output must fit."),
    click.option("--mcp-config", "mcp_servers", callback=converted(json_object), metavar="FILE",
                 help='MCP servers by name, with or without "mcpServers" around them.'),
    click.option("--subagents", callback=converted(json_object), metavar="FILE",
                 help="Subagents by name."),
    click.option("--env", callback=converted(pair), metavar="NAME=VALUE", multiple=True,
                 help="Environment variable of the agent; its name must be in the workers'"
                      " allowlist. Repeatable."),
    click.option("--tenant", metavar="NAME"),
    click.option("--resume", type=click.UUID, metavar="SESSION",
                 help="Go on with the conversation of an earlier job."),
    click.option("--fork", type=click.UUID, metavar="SESSION",
                 help="Go on from a copy of it."),
    click.option("--memory", metavar="CLASS", help="Memory class: default, or such as 4g."),
    click.option("--priority", type=int, metavar="0-9", help="0 runs first; the default is 3."),
    click.option("--not-before", callback=converted(time), metavar="ISO",
                 help="Earliest start; local time where it names no zone."),
    click.option("--expires-s", type=float, metavar="S",
                 help="Drop the job where it has not started by then."),
    click.option("--idempotency-key", metavar="KEY",
                 help="A second submit with it returns the first job."),
    click.option("--metadata", callback=converted(pair), metavar="NAME=VALUE", multiple=True,
                 help="A label of your own. Repeatable."),
    click.option("--max-attempts", type=int, metavar="N"),
    click.option("--job", "base", callback=converted(json_object), metavar="FILE",
                 help="A whole job as JSON (-: stdin). Every other option replaces its field."),
)  # fmt: skip

_PLAIN_FIELDS = (
    "artifacts", "model", "fallback_model", "effort", "allowed_tools", "disallowed_tools",
    "permission_mode", "max_turns", "max_budget_usd", "timeout_s", "idle_timeout_s",
    "output_schema", "subagents", "tenant", "memory", "priority", "not_before", "expires_s",
    "idempotency_key",
)  # fmt: skip


def job_options(command: Command) -> Command:
    """Give a command every option that describes a job."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def job_from(prompt: str | None, options: Mapping[str, Any]) -> Job:
    """The job that the options describe.

    Raises:
        InvalidJob: lists every field that is wrong, files that can't be read included.
    """
    fields = dict(options["base"] or {})
    if prompt is not None:
        fields["prompt"] = prompt
    elif "prompt" not in fields:
        raise click.UsageError("give a PROMPT (- for stdin), or a job with --job FILE")
    fields |= {name: options[name] for name in _PLAIN_FIELDS if options[name] not in (None, ())}
    fields |= {name: dict(options[name]) for name in ("env", "metadata") if options[name]}
    fields |= _mcp_servers(options) | _system_prompt(fields, options) | _session(options)
    if options["max_attempts"] is not None:
        retry = fields.get("retry")
        fields["retry"] = {
            **(retry if isinstance(retry, dict) else {}),
            "max_attempts": options["max_attempts"],
        }
    return _checked(fields, options["files"])


def _checked(fields: dict[str, Any], file_specs: tuple[str, ...]) -> Job:
    problems: list[Problem] = []
    if file_specs:
        fields["files"], problems = input_files(file_specs)
    try:
        job = job_from_wire(fields)
    except InvalidJob as error:
        raise InvalidJob([*problems, *error.problems]) from None
    if problems:
        raise InvalidJob(problems)
    return job


def _mcp_servers(options: Mapping[str, Any]) -> dict[str, Any]:
    servers = options["mcp_servers"]
    if servers is None:
        return {}
    return {"mcp_servers": servers.get("mcpServers", servers)}


def _system_prompt(fields: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
    text, mode = options["system_prompt"], options["system_prompt_mode"]
    if text is None and mode is None:
        return {}
    base = fields.get("system_prompt")
    chosen: dict[str, Any] = {"text": base} if isinstance(base, str) else dict(base or {})
    if text is not None:
        chosen["text"] = text
    if mode is not None:
        chosen["mode"] = mode
    if "text" not in chosen:
        raise click.UsageError("--system-prompt-mode needs --system-prompt")
    return {"system_prompt": chosen}


def _session(options: Mapping[str, Any]) -> dict[str, Any]:
    resumed, forked = options["resume"], options["fork"]
    if resumed is not None and forked is not None:
        raise click.UsageError("--resume and --fork exclude each other")
    if resumed is not None:
        return {"session": {"kind": "resume", "id": resumed}}
    if forked is not None:
        return {"session": {"kind": "fork", "id": forked}}
    return {}
