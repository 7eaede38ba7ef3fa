"""One run of the real CLI through the SDK, from start to an empty process tree."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    ClaudeSDKClient,
    ClaudeSDKError,
    CLIConnectionError,
    CLIJSONDecodeError,
    CLINotFoundError,
    Message,
    ProcessError,
    RateLimitEvent,
    ResultMessage,
    SystemMessage,
    ToolResultBlock,
    ToolUseBlock,
    UserMessage,
)
from claude_agent_sdk.types import MirrorErrorMessage
from redis.exceptions import RedisError

from agentherd.contract.results import Usage
from agentherd.layout.transcripts import CorruptTranscript
from agentherd_workers import processes
from agentherd_workers.agent.accounting import Account, usage_of
from agentherd_workers.agent.messages import Event, events_of, ready_event
from agentherd_workers.agent.outcome import AT_ONCE, CliResult, Ending, Observed, Stop
from agentherd_workers.confinement import Confinement
from agentherd_workers.redaction import Redaction

# Together less than 3 s: within that, an agent that is ended is gone.
INTERRUPT_S = 1.0
"""How long an interrupted agent may take to end its turn."""
TERMINATE_S = 1.8
"""How long the CLI may take to end on SIGTERM; with tools running it takes more than a second."""
_STDERR_LINES = 20
_HINTED = (429, 503, 529)
"""What the API may answer with a `retry-after`, which the CLI's next wait then holds."""
_REFUSED = (401, 403)
_REFUSALS = 2
"""So many in a row end the run: the CLI would go on for minutes, and a key doesn't get better."""


@dataclass
class Notes:
    """What a run leaves besides its verdict."""

    observed: Observed = field(default_factory=Observed)
    model: str | None = None
    degraded: bool = False
    answered: bool = False
    """The model said something that is no API error."""
    spent: Usage = field(default_factory=Usage)
    """As last told while it ran."""
    turns: int = 0
    """As counted while it ran."""
    denials: tuple[str, ...] = ()


class AgentRun:
    """Runs the CLI once. `run` is awaited to its end; `stop` may be called meanwhile.

    The SDK's task is never cancelled: a cancelled close() leaves the CLI running. A run that
    must end is interrupted or killed from outside, on which the message stream ends by itself.
    """

    def __init__(  # noqa: PLR0913 - by keyword, each another thing
        self,
        options: ClaudeAgentOptions,
        *,
        confinement: Confinement,
        prompt: str,
        idle_timeout_s: float,
        wants_output: bool,
        released_at_ms: float,
        on_events: Callable[[list[Event]], None],
        on_answer: Callable[[], None],
        on_spent: Callable[[Usage, int], None],
        redact: Redaction,
        stderr: deque[str],
    ) -> None:
        self._options = options
        self._confinement = confinement
        self._prompt = prompt
        self._idle_timeout_s = idle_timeout_s
        self._wants_output = wants_output
        self._released_at_ms = released_at_ms
        self._on_events = on_events
        self._on_answer = on_answer
        self._on_spent = on_spent
        self._redact = redact
        self._stderr = stderr
        self._client: ClaudeSDKClient | None = None
        self._account: Account | None = None
        self._asked = False
        self._cli_pid: int | None = None
        self._stop: Stop | None = None
        self._stop_detail = ""
        self._stopping: asyncio.Task[None] | None = None
        self._last_message_s = time.monotonic()
        self._open_tools: set[str] = set()
        """Ids of tool calls without a result: while there is one, silence is no bad sign."""
        self._seen: dict[str, Any] = {}
        self._notes = Notes()
        self._over = asyncio.Event()

    async def run(self, timeout_s: float) -> Notes:
        """Run to the end, whatever it is; no process of the job is left when this returns."""
        watch = asyncio.create_task(self._watch(timeout_s))
        try:
            await self._converse()
        except Exception as error:
            self._seen |= observation_of(error)
        finally:
            self._over.set()
            if self._account is not None:
                await self._account.stop()
            await watch
            if self._stopping is not None:
                await self._stopping
            await self._leave()
        self._notes.observed = self._redact(
            Observed(
                stop=self._stop,
                stop_detail=self._stop_detail,
                stderr="\n".join(self._stderr),
                wants_output=self._wants_output,
                now_s=time.time(),
                **self._seen,
            )
        )
        return self._notes

    def stop(self, reason: Stop, detail: str = "") -> None:
        """End the run soon; the first reason stays. Call from the run's event loop."""
        if self._stop is None and not self._over.is_set():
            self._stop = reason
            self._stop_detail = detail
            self._stopping = asyncio.create_task(self._end(reason))

    async def _converse(self) -> None:
        self._client = ClaudeSDKClient(self._options)
        await self._client.connect()
        self._cli_pid = await asyncio.to_thread(self._confinement.child)
        spawned_after_ms = self._spawned_after_ms()
        if self._stop is not None:
            return
        await self._client.query(self._prompt)
        self._asked = True
        self._account = Account(self._client, self._note_spent)
        async for message in self._client.receive_messages():
            self._last_message_s = time.monotonic()
            self._note_tools(message)
            self._account.note(message)
            # Before texts are cut: a part of the key could not be found.
            self._note(self._redact(message), spawned_after_ms)
            if isinstance(message, ResultMessage):
                # The last look at what it takes, while it is there.
                await asyncio.to_thread(self._confinement.sample)
                return

    def _spawned_after_ms(self) -> int:
        """From the job's release to its CLI's start; 0 where the CLI is gone already."""
        if self._cli_pid is None:
            return 0
        spawned_at_ms = processes.started_at_ms(self._cli_pid)
        return 0 if spawned_at_ms is None else max(0, round(spawned_at_ms - self._released_at_ms))

    def _note(self, message: Message, spawned_after_ms: int) -> None:
        match message:
            case ResultMessage():
                self._seen["result"] = _cli_result(message)
                self._notes.denials = tuple(
                    str(denial.get("tool_name", "")) for denial in message.permission_denials or ()
                )
            case AssistantMessage(model=model, error=error):
                if model and not model.startswith("<"):
                    self._note_answer(model, good=error is None)
                self._seen["api_error"] = error
            case RateLimitEvent(rate_limit_info=info) if info.status == "rejected":
                self._seen["resets_at_s"] = info.resets_at
            case MirrorErrorMessage():
                self._notes.degraded = True
            case SystemMessage(subtype="init"):
                self._seen["ready"] = True
                self._on_events([ready_event(message, spawned_after_ms)])
            case SystemMessage(subtype="api_retry", data=data):
                self._note_retry(data)
            case _:
                pass
        self._on_events(events_of(message))

    def _note_answer(self, model: str, *, good: bool) -> None:
        self._notes.model = model
        if good:
            self._seen["retry_delay_s"] = None
            if not self._notes.answered:
                self._notes.answered = True
                self._on_answer()

    def _note_spent(self, spent: Usage, turns: int) -> None:
        self._notes.spent, self._notes.turns = spent, turns
        self._on_spent(spent, turns)

    def _note_retry(self, data: dict[str, Any]) -> None:
        """The CLI asks the API once more."""
        status, attempt = data.get("error_status"), data.get("attempt") or 0
        if status in _HINTED:
            self._seen["retry_delay_s"] = (data.get("retry_delay_ms") or 0) / 1000
        elif status in _REFUSED and attempt >= _REFUSALS:
            self.stop(Stop.KEY_REFUSED, f"HTTP {status}")

    def _note_tools(self, message: Message) -> None:
        content = message.content if isinstance(message, AssistantMessage | UserMessage) else ()
        for block in content:
            match block:
                case ToolUseBlock(id=tool_use_id):
                    self._open_tools.add(tool_use_id)
                case ToolResultBlock(tool_use_id=tool_use_id):
                    self._open_tools.discard(tool_use_id)
                case _:
                    pass

    async def _watch(self, timeout_s: float) -> None:
        """The run's deadlines: wall clock, and silence while no tool runs."""
        wall_s = time.monotonic() + timeout_s
        while not self._over.is_set():
            silent_since_s = time.monotonic() if self._open_tools else self._last_message_s
            idle_s = silent_since_s + self._idle_timeout_s
            wait_s = min(wall_s, idle_s) - time.monotonic()
            if wait_s <= 0:
                self.stop(Stop.WALL if wall_s <= idle_s else Stop.IDLE)
                return
            with suppress(TimeoutError):
                await asyncio.wait_for(self._over.wait(), wait_s)

    async def _end(self, reason: Stop) -> None:
        """Interrupt, then SIGTERM, then kill; at once where that would do harm."""
        if reason not in AT_ONCE:
            if await self._interrupted():
                return
            await asyncio.to_thread(self._confinement.terminate)
            if await self._ends_within(TERMINATE_S):
                return
        await self._kill()

    async def _interrupted(self) -> bool:
        if self._client is None or not self._asked:
            return False  # there is no turn to end yet
        with suppress(ClaudeSDKError, TimeoutError):
            async with asyncio.timeout(INTERRUPT_S):
                await self._client.interrupt()
                await self._over.wait()
        return self._over.is_set()

    async def _ends_within(self, timeout_s: float) -> bool:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), timeout_s)
        return self._over.is_set()

    async def _leave(self) -> None:
        """Close the SDK's side, then make sure that the tree is empty."""
        if self._client is not None:
            closing = asyncio.ensure_future(self._client.disconnect())
            done, _ = await asyncio.wait([closing], timeout=TERMINATE_S)
            if not done:
                await self._kill()
            with suppress(Exception):
                await closing
        await self._kill()

    async def _kill(self) -> None:
        await asyncio.to_thread(self._confinement.kill, keep_for_parent=self._cli_pid)


def stderr_tail() -> deque[str]:
    """Keeps the last lines of a CLI's stderr."""
    return deque(maxlen=_STDERR_LINES)


def observation_of(error: Exception) -> dict[str, Any]:
    """The exception as an observation; see `Observed`."""
    text = str(error)
    code: int | None = None
    match error:
        case CLINotFoundError():
            ending = Ending.NOT_FOUND
        case ProcessError(exit_code=code):
            ending = Ending.EXITED
        case CLIJSONDecodeError():
            ending = Ending.GARBLED
        case _ if _comes_from(error, CorruptTranscript):
            ending = Ending.STORE_CORRUPT
        case _ if _comes_from(error, RedisError):
            ending = Ending.STORE_AWAY
        case _ if "Control request timeout" in text:
            ending = Ending.START_TIMEOUT
        case CLIConnectionError() if "terminated process" in text:
            ending = Ending.EXITED
        case CLIConnectionError() | ValueError() | TypeError() | RuntimeError():
            ending = Ending.REJECTED
        case _:
            ending = Ending.EXITED
    return {"ending": ending, "exit_code": code, "error": text}


def _comes_from(error: BaseException | None, kind: type[BaseException]) -> bool:
    """Whether `error` was raised because of one of this kind: the SDK wraps the store's."""
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False


def _cli_result(message: ResultMessage) -> CliResult:
    return CliResult(
        subtype=message.subtype,
        is_error=message.is_error,
        text=message.result,
        stop_reason=message.stop_reason,
        terminal_reason=message.terminal_reason,
        api_error_status=message.api_error_status,
        structured_output=message.structured_output,
        errors=tuple(message.errors or ()),
        turns=message.num_turns,
        usage=usage_of(message.model_usage, message.total_cost_usd),
    )
