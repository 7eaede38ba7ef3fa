"""The simulated model's HTTP server."""

import asyncio
import hashlib
import re
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from aiohttp import ClientPayloadError, web
from aiohttp.typedefs import Handler
from pydantic import ValidationError

from agentherd_workers.devkit.model_api.answer import stream
from agentherd_workers.devkit.model_api.conversation import position_of
from agentherd_workers.devkit.model_api.steps import (
    Step,
    parse_script,
    parse_steps,
    script_text,
    turns_of,
)

_MAX_REQUEST_BYTES = 256 * 1024 * 1024
_SCENARIO = re.compile(r"scenario:([A-Za-z0-9_-]+)")
_SESSION = re.compile(r'"session_id":"([^"]+)"')
_ECHO_CHARS = 200
_HANG_S = 3600.0


@dataclass(frozen=True)
class LoggedRequest:
    """One request that the model got."""

    at_s: float
    """Unix time."""
    path: str
    model: str
    prompt: str
    """The newest text of the user."""
    answered: int | None
    """Which answer of the script this is, from 0; None: a side request, or no script."""
    api_key: str | None
    status: int
    """0: cut or left hanging."""
    body: dict[str, Any]


class ModelServer:
    """The simulated Messages API on loopback, in a thread of its own.

    The newest `<script>` in the user's messages says what to answer; see `steps.Step` and
    devkit/scripts.py. Without one the prompt is echoed. Requests without tools are side requests
    of the CLI (titles, quota): answered, and never counted as a step.
    """

    def __init__(self, *, port: int = 0) -> None:
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="model-api", daemon=True)
        self._ready = threading.Event()
        self._scenarios: dict[str, tuple[Step, ...]] = {}
        self._log: list[LoggedRequest] = []
        self._faults_served: Counter[str] = Counter()

    @property
    def url(self) -> str:
        """What goes into `ANTHROPIC_BASE_URL`."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def requests(self) -> list[LoggedRequest]:
        """Every request so far."""
        return list(self._log)

    def scenario(self, name: str, steps: Sequence[Step | dict[str, Any]]) -> None:
        """Answer prompts that contain `scenario:<name>` by these steps."""
        self._scenarios[name] = parse_steps(steps)

    def start(self) -> Self:
        """Listen; return when it does."""
        self._thread.start()
        self._ready.wait()
        return self

    def stop(self) -> None:
        """Cut every connection and end."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_error: object) -> None:
        self.stop()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        runner = self._loop.run_until_complete(self._listen())
        self._ready.set()
        try:
            self._loop.run_forever()
        finally:
            self._loop.run_until_complete(runner.cleanup())
            self._loop.run_until_complete(_cancel_rest())
            self._loop.close()

    async def _listen(self) -> web.AppRunner:
        app = web.Application(client_max_size=_MAX_REQUEST_BYTES, middlewares=[_client_may_leave])
        app.router.add_post("/v1/messages", self._messages)
        app.router.add_post("/v1/messages/count_tokens", _count_tokens)
        app.router.add_route("*", "/{rest:.*}", _anything)
        runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._port)
        await site.start()
        self._port = runner.addresses[0][1]
        return runner

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        try:
            step, answered = self._choose(body)
        except ValidationError as error:
            step, answered = Step(error=400, message=f"bad script: {error}"), None
        entry = LoggedRequest(
            at_s=time.time(),
            path=request.path,
            model=body.get("model", ""),
            prompt=position_of(body).prompt,
            answered=answered,
            api_key=request.headers.get("x-api-key"),
            status=200,
            body=body,
        )
        number = len(self._log) + 1
        if step.drop == "before" or step.hang == "before":
            self._log.append(replace(entry, status=0))
            return await _go_silent(request, hang=step.hang is not None)
        if step.error is not None:
            self._log.append(replace(entry, status=step.error))
            return web.json_response(step.error_body, status=step.error, headers=step.headers)
        self._log.append(entry)
        return await _answer(request, step, body.get("model", ""), number)

    def _choose(self, body: dict[str, Any]) -> tuple[Step, int | None]:
        """The step for a request, and which answer of the script it is."""
        position = position_of(body)
        if not body.get("tools"):
            return Step(text="(side request)"), None
        named = _SCENARIO.search(position.prompt)
        if position.script is not None:
            script, steps = position.script, parse_script(position.script)
        elif named and named[1] in self._scenarios:
            steps = self._scenarios[named[1]]
            script = script_text(steps)
            position = position_of(_with_script(body, script))
        else:
            return Step(text=f"You said: {position.prompt[-_ECHO_CHARS:]}"), None
        turns = turns_of(steps)
        if position.answered >= len(turns):
            return Step(text="The script is over."), position.answered
        turn = turns[position.answered]
        served = self._next_fault(body, script, position.answered)
        if served < len(turn.faults):
            return turn.faults[served], position.answered
        return turn.answer or turn.faults[-1], position.answered

    def _next_fault(self, body: dict[str, Any], script: str, answered: int) -> int:
        """How many faults of this turn the session has seen; counts this one."""
        key = hashlib.sha256(f"{_session(body)}\n{script}\n{answered}".encode()).hexdigest()
        self._faults_served[key] += 1
        return self._faults_served[key] - 1


@web.middleware
async def _client_may_leave(request: web.Request, handler: Handler) -> web.StreamResponse:
    """A CLI that was interrupted leaves in mid-request; that is no fault of the model."""
    try:
        return await handler(request)
    except (ConnectionError, ClientPayloadError):
        return web.Response()


def _session(body: dict[str, Any]) -> str:
    """The session's id, which a resume keeps; the device's, beside it, is new each time."""
    user = str(body.get("metadata", {}).get("user_id", ""))
    found = _SESSION.search(user)
    return found[1] if found else user


def _with_script(body: dict[str, Any], script: str) -> dict[str, Any]:
    """The conversation as if the prompt that names the scenario carried its script."""
    messages = []
    for message in body.get("messages", []):
        content = message.get("content", "")
        blocks = [{"type": "text", "text": content}] if isinstance(content, str) else list(content)
        if message.get("role") == "user" and any(
            _SCENARIO.search(block.get("text", "")) for block in blocks
        ):
            blocks.append({"type": "text", "text": script})
        messages.append({**message, "content": blocks})
    return {**body, "messages": messages}


async def _answer(request: web.Request, step: Step, model: str, number: int) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    for event in stream(step, model, number):
        if step.delay_s and b"content_block_delta" in event:
            await asyncio.sleep(step.delay_s)
        await response.write(event)
        if step.drop == "during" or step.hang == "during":
            return await _go_silent(request, hang=step.hang is not None)
    return response


async def _go_silent(request: web.Request, *, hang: bool) -> web.StreamResponse:
    if hang:
        await asyncio.sleep(_HANG_S)
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


async def _cancel_rest() -> None:
    """End the requests that are left hanging."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    await asyncio.gather(*rest, return_exceptions=True)


async def _count_tokens(_request: web.Request) -> web.Response:
    return web.json_response({"input_tokens": 10})


async def _anything(_request: web.Request) -> web.Response:
    return web.json_response({})
