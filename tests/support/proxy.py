"""A fault proxy: a TCP line between a client and its server that a test can hold, slow down, cut and reset.

    async with proxy(server_port) as line:
        line.hold(FROM_CLIENT)         what the client says does not arrive; the server's words still do
        line.half_open()               neither hears the other, and both believe in the connection
        line.release()                 what was held goes on, in order
        line.delay_seconds = 0.05      each piece of data comes later
        line.bytes_per_second = 10e6   ... and no faster than that
        line.cut()                     all connections end as if the other side had closed; reset(): as if it had died
        await line.reject()            no one listens any more
        await line.listen()            on the same port again

Invariant: what arrives is what was sent, in order, up to where the connection ended.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto
from typing import Final

from ops.local.ports import LOOPBACK, free_port
from tests.support.waiting import in_time

PIECE_BYTES: Final = 65_536
_LINGER_NOT: Final = struct.pack("ii", 1, 0)  # closing sends a reset


class Way(Enum):
    """The two directions of a connection."""

    FROM_CLIENT = auto()
    FROM_SERVER = auto()


FROM_CLIENT: Final = Way.FROM_CLIENT
FROM_SERVER: Final = Way.FROM_SERVER


class Proxy:
    """A TCP line to a port of this machine; clients connect to `port`."""

    def __init__(self, target: int) -> None:
        self.port = free_port()
        self.delay_seconds = 0.0
        self.bytes_per_second = 0.0
        self.carried: Counter[Way] = Counter()  # bytes, so far
        self._target = target
        self._open = {way: asyncio.Event() for way in Way}
        self._carrying: set[asyncio.Task[None]] = set()
        self._ends: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None
        self.release()

    async def listen(self) -> None:
        """Take connections."""
        self._server = await asyncio.start_server(self._connected, LOOPBACK, self.port)

    async def reject(self) -> None:
        """Take no more connections; those that stand go on."""
        assert self._server is not None
        self._server.close()

    def hold(self, *ways: Way) -> None:
        """From now on nothing arrives that is said on these ways."""
        for way in ways:
            self._open[way].clear()

    def half_open(self) -> None:
        """From now on nothing arrives, and no one is reported."""
        self.hold(*Way)

    def release(self) -> None:
        """Let go of what was held."""
        for opened in self._open.values():
            opened.set()

    def cut(self) -> None:
        """End every connection: both sides see the other one close."""
        for end in self._ends:
            end.close()

    def reset(self) -> None:
        """End every connection as a machine that dies does: both sides get a reset, and what was on its way is gone."""
        for end in self._ends:
            end.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            end.transport.abort()

    async def stop(self) -> None:
        """Cut every connection and listen no more."""
        await self.reject()
        for task in self._carrying:
            task.cancel()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    async def _connected(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        try:
            server, to_server = await asyncio.open_connection(LOOPBACK, self._target)
        except OSError:  # the server is away: so the client shall see it
            to_client.close()
            return
        for way, source, sink in ((FROM_CLIENT, client, to_server), (FROM_SERVER, server, to_client)):
            self._ends.add(sink)
            task = asyncio.create_task(self._carry(way, source, sink))
            self._carrying.add(task)
            task.add_done_callback(self._carrying.discard)

    async def _carry(self, way: Way, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(PIECE_BYTES):
                await self._open[way].wait()
                if self.delay_seconds or self.bytes_per_second:
                    slow = len(data) / self.bytes_per_second if self.bytes_per_second else 0.0
                    await asyncio.sleep(self.delay_seconds + slow)  # the cause itself, not a wait
                sink.write(data)
                self.carried[way] += len(data)
                await sink.drain()
        except OSError:
            pass
        finally:
            self._ends.discard(sink)
            sink.close()


@asynccontextmanager
async def proxy(target: int) -> AsyncIterator[Proxy]:
    """A line to this port, cut at the end."""
    line = Proxy(target)
    await line.listen()
    try:
        yield line
    finally:
        await line.stop()


async def tried_to_connect(port: int, times: int) -> None:
    """Return when clients of a server that is away have tried so often; each is cut off at once."""
    tries = asyncio.Semaphore(0)

    def cut_off(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        tries.release()

    async with await asyncio.start_server(cut_off, LOOPBACK, port):
        for _ in range(times):
            await in_time(tries.acquire())
