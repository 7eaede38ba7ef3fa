"""A TCP proxy between a client and a server, to break the network on purpose."""

import asyncio
import threading
from typing import Literal, Self

_CHUNK_BYTES = 64 * 1024
State = Literal["up", "cut", "stalled"]


class Proxy:
    """Forwards to `port` on loopback, until told otherwise.

    - `cut`: every connection is reset, and new ones are refused at once;
    - `stall`: connections stay, and nothing passes (a half-open network);
    - `restore`: all is well again, what was held back passes.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._state: State = "up"
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="proxy", daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._open = asyncio.Event()
        self._ready = threading.Event()
        self.port = 0

    def cut(self) -> None:
        """Reset what is connected, refuse what comes."""
        self._switch("cut")

    def stall(self) -> None:
        """Let nothing pass."""
        self._switch("stalled")

    def restore(self) -> None:
        """Forward again."""
        self._switch("up")

    def __enter__(self) -> Self:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _switch(self, state: State) -> None:
        async def switch() -> None:
            self._state = state
            self._open.set() if state != "stalled" else self._open.clear()
            if state == "cut":
                for writer in self._writers:
                    writer.transport.abort()

        asyncio.run_coroutine_threadsafe(switch(), self._loop).result()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._open.set()
        server = self._loop.run_until_complete(
            asyncio.start_server(self._connect, "127.0.0.1", self.port)
        )
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        rest = asyncio.all_tasks(self._loop)
        for task in rest:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*rest, return_exceptions=True))
        self._loop.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._state == "cut":
            writer.transport.abort()
            return
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:  # the server is down
            writer.transport.abort()
            return
        ends = {writer, there_writer}
        self._writers |= ends
        try:
            await asyncio.gather(
                self._forward(reader, there_writer), self._forward(there_reader, writer)
            )
        except asyncio.CancelledError:
            pass  # a cancelled connection is one that was cut
        finally:
            self._writers -= ends
            for end in ends:
                end.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(_CHUNK_BYTES):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()
