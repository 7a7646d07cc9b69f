"""A line between a client and its server that a test can hold: what the client says then does not arrive.

The server's words still reach the client while the line is held, so that a client believes it has told what was
never heard: an acknowledgement that is lost, at the instant that the test chooses.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ops.local.ports import LOOPBACK


class Line:
    """A TCP line to a port of this machine."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._open = asyncio.Event()
        self._open.set()
        self._carrying: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """Where clients connect."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._connected, LOOPBACK, 0)

    async def stop(self) -> None:
        """Cut every connection and listen no more."""
        assert self._server is not None
        self._server.close()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    def hold(self) -> None:
        """From now on nothing that a client says arrives."""
        self._open.clear()

    async def _connected(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection(LOOPBACK, self._target)
        for source, sink, held in ((client, to_server, True), (server, to_client, False)):
            task = asyncio.create_task(self._carry(source, sink, held=held))
            self._carrying.add(task)
            task.add_done_callback(self._carrying.discard)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, held: bool) -> None:
        try:
            while data := await source.read(65_536):
                if held:
                    await self._open.wait()
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            pass
        finally:
            sink.close()


@asynccontextmanager
async def line(target: int) -> AsyncIterator[Line]:
    """A line to this port, cut at the end."""
    started = Line(target)
    await started.start()
    try:
        yield started
    finally:
        await started.stop()
