"""Prompts that script the simulated model, readable in tests, demo and docs.

script("Fix the bug", bash("echo hi > out.txt"), text("done"))
"""

from typing import Any

from agentherd_workers.devkit.model_api.steps import Step, ToolCall, script_text


def script(prompt: str, *steps: Step) -> str:
    """A prompt with the model's answers in it."""
    return f"{prompt}\n\n{script_text(steps)}"


def text(words: str, **options: Any) -> Step:
    """The model says `words`; options are fields of `Step`."""
    return Step(text=words, **options)


def thinking(thought: str, words: str) -> Step:
    """The model thinks, then speaks."""
    return Step(thinking=thought, text=words)


def call(name: str, **arguments: Any) -> ToolCall:
    """One tool call, for `tools`."""
    return ToolCall(name=name, input=arguments)


def tools(*calls: ToolCall, **options: Any) -> Step:
    """Several tools in one answer."""
    return Step(tools=calls, **options)


def tool(name: str, **arguments: Any) -> Step:
    """One tool."""
    return tools(call(name, **arguments))


def bash(command: str) -> Step:
    """Run a shell command."""
    return tool("Bash", command=command)


def write_file(path: str, content: str) -> Step:
    """Write a file; the CLI wants absolute paths."""
    return tool("Write", file_path=path, content=content)


def subagent(prompt: str, *, kind: str = "general-purpose") -> Step:
    """Start a subagent; `prompt` may carry a script of its own."""
    return tool(
        "Task", description="a part of the work", prompt=prompt, subagent_type=kind,
        run_in_background=False,
    )  # fmt: skip


def structured(output: dict[str, Any]) -> Step:
    """Hand in structured output."""
    return Step(structured=output)


def error(status: int, *, times: int = 1, retry_after_s: int | None = None, **more: Any) -> Step:
    """The API refuses the request."""
    headers = {} if retry_after_s is None else {"retry-after": str(retry_after_s)}
    return Step(error=status, times=times, headers=headers, **more)


def refusal() -> Step:
    """The model refuses."""
    return Step(text="I can't help with that.", stop_reason="refusal")


def drop(when: str = "before", *, times: int = 1) -> Step:
    """The connection is cut `before` the answer or `during` it."""
    return Step(drop=when, times=times)


def hang(when: str = "before") -> Step:
    """The model falls silent `before` the answer or `during` it."""
    return Step(hang=when)


def slow(words: str, *, chunks: int, delay_s: float) -> Step:
    """The model speaks in pieces with pauses."""
    return Step(text=words, chunks=chunks, delay_s=delay_s)


def long_output(size_bytes: int) -> Step:
    """So much text."""
    return Step(text_bytes=size_bytes)
