"""What a run has spent so far, so that it counts even if the worker dies before the run's result.

The CLI is asked for it. Its messages can't tell: `AssistantMessage.usage` is that of the answer's
first event, with one output token or a few, and no price. What an answer cost that was under way
when the worker died stays unknown, up to `ASK_EVERY_S` before that too.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from claude_agent_sdk import AssistantMessage, ClaudeSDKClient, Message

from agentherd.contract.results import Usage

log = logging.getLogger(__name__)

ASK_EVERY_S = 2.0
"""Not more often than this, however fast answers come."""
SAY_EVERY_S = 15.0
"""Time counts too: an account is given this often while the agent says nothing."""
_ANSWER_S = 10.0


class Account:
    """Begun once the CLI is there, stopped before it is closed.

    Args:
        on_spent: told what the run has spent so far, and its turns.
    """

    def __init__(self, client: ClaudeSDKClient, on_spent: Callable[[Usage, int], None]) -> None:
        self._client = client
        self._on_spent = on_spent
        self._spent = Usage()
        self._answers: set[str] = set()
        self._news = asyncio.Event()
        self._task = asyncio.create_task(self._work())

    def note(self, message: Message) -> None:
        """A message of the run. An answer of the model may come in several: each is one turn."""
        if isinstance(message, AssistantMessage) and message.message_id is not None:
            if message.parent_tool_use_id is None:
                self._answers.add(message.message_id)
            self._news.set()

    async def stop(self) -> None:
        """Ask no more."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _work(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(SAY_EVERY_S):
                    await self._news.wait()
            if self._news.is_set():
                self._news.clear()
                await self._ask()
            self._on_spent(self._spent, len(self._answers))
            await asyncio.sleep(ASK_EVERY_S)

    async def _ask(self) -> None:
        try:
            self._spent = await _session_usage(self._client)
        except Exception as error:
            # It is closing, or an older CLI; what is known stays.
            log.debug("the CLI did not say what the run has spent: %s", error)


async def _session_usage(client: ClaudeSDKClient) -> Usage:
    # The SDK, which is pinned, has no public method for this control request of the CLI's.
    query = client._query
    if query is None:
        return Usage()
    answer = await query._send_control_request({"subtype": "get_usage"}, _ANSWER_S)
    session = answer["session"]
    return usage_of(session["model_usage"], session["total_cost_usd"])


def usage_of(model_usage: Mapping[str, Any] | None, cost_usd: float | None) -> Usage:
    """From the CLI's figures by model, which count subagents."""
    by_model = {
        model: Usage(
            cost_usd=used.get("costUSD", 0.0),
            input_tokens=used.get("inputTokens", 0),
            output_tokens=used.get("outputTokens", 0),
            cache_read_tokens=used.get("cacheReadInputTokens", 0),
            cache_write_tokens=used.get("cacheCreationInputTokens", 0),
        )
        for model, used in (model_usage or {}).items()
    }
    total = sum(by_model.values(), Usage())
    return total.model_copy(update={"cost_usd": cost_usd or total.cost_usd, "by_model": by_model})
