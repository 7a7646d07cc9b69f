"""Receive from NATS in whole frames: replaces the receiving side of nats-py's client.

    socket --read--> buffer --take--> control line or message --parse--> nats-py's client

nats-py collects a message in a growing bytearray, over all the reads that half a megabyte takes. Here the kernel writes
into one buffer that fits the whole message. Nothing runs before the message is complete, and its payload is copied
once. nats-py still does connecting, TLS, authentication, reconnects, pings and subscriptions.

Memory is bounded: the buffer has twice the size of the largest frame. While it is full, the socket is not read.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
import sys
from typing import Final, cast
from urllib.parse import ParseResult

from nats.aio.client import Client
from nats.aio.transport import Transport
from nats.errors import ProtocolError, SecureConnRequiredError
from nats.protocol.parser import AWAITING_CONTROL_LINE, Parser

Message = tuple[
    int, bytes, bytes, bytes, bytes | None
]  # sid, subject, reply, payload, headers: the arguments of nats-py
Frame = bytes | Message  # or a control line with its line end

FIRST_BYTES: Final = 256 * 1024
CLOSE_SECONDS: Final = 2.0
MAX_LINE_BYTES: Final = 64 * 1024  # INFO lists all servers of a cluster; any other line is under 4 KiB

# MSG subject sid [reply] bytes, or HMSG subject sid [reply] header-bytes total-bytes. Sizes are limited to 100 MB,
# because the buffer is allocated for the announced size; no server should allow more than 8 MB. A server may write two
# spaces for an empty reply.
_MESSAGE: Final = re.compile(rb"(H)?MSG[ \t]+(\S+)[ \t]+(\d+)[ \t]+(?:(\S+)[ \t]+)?(?(1)(\d{1,8})[ \t]+)(\d{1,8})\r\n")


def receive_frames(client: Client, *, encrypted: bool = False) -> None:
    """Make a client receive whole frames. Call it before connecting, and not for a WebSocket, which has its own frames.

    With `encrypted`, the client sends nothing, no user and no event, to a server that does not require TLS.
    """
    client._transport = FrameTransport(encrypted=encrypted)
    client._ps = FrameParser(client)


class FrameBuffer:
    """The receive buffer: write into `space`, call `advance`, then `take` the complete frames."""

    def __init__(self, first_bytes: int = FIRST_BYTES) -> None:
        self._buffer = bytearray(first_bytes)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0  # received and not taken yet
        self._needed = 1  # received bytes that the next frame needs at least

    @property
    def space(self) -> memoryview:
        """The free part of the buffer. Never empty after all complete frames are taken."""
        return self._view[self._end :]

    def advance(self, count: int) -> bool:
        """Record `count` bytes written into `space`. Return whether the next frame may be complete."""
        self._end += count
        return self.ready

    @property
    def ready(self) -> bool:
        return self._end - self._start >= self._needed

    @property
    def full(self) -> bool:
        return self._end == len(self._buffer)

    def take(self, max_frames: int = sys.maxsize) -> list[Frame]:
        """Return up to `max_frames` complete frames. Raises ProtocolError."""
        frames: list[Frame] = []
        while (
            self._end - self._start >= self._needed and len(frames) < max_frames and (frame := self._next()) is not None
        ):
            frames.append(frame)
        return frames

    def _next(self) -> Frame | None:
        match = _MESSAGE.match(self._buffer, self._start, self._end)
        if match is None:
            return self._line()
        _, subject, sid, reply, header_bytes, size = match.groups()
        begin = match.end()
        end = begin + int(size)
        if end + 2 > self._end:
            self._wait_for(end + 2 - self._start)
            return None
        body = begin + int(header_bytes or 0)
        if body > end or not self._buffer.startswith(b"\r\n", end):
            raise ProtocolError("nats: malformed MSG")
        payload = bytes(self._view[body:end])
        headers = bytes(self._view[begin:body]) if header_bytes else None
        self._consume(end + 2)
        return int(sid), subject, reply or b"", payload, headers

    def _line(self) -> bytes | None:
        end = self._buffer.find(b"\r\n", self._start, min(self._end, self._start + MAX_LINE_BYTES)) + 2
        if end < 2:
            arrived = self._end - self._start
            if arrived >= MAX_LINE_BYTES:
                raise ProtocolError("nats: a control line is too long")
            self._wait_for(arrived + 1)
            return None
        line = bytes(self._view[self._start : end])
        self._consume(end)
        return line

    def _consume(self, end: int) -> None:
        self._start, self._needed = end, 1
        if end == self._end:
            self._start = self._end = 0

    def _wait_for(self, needed: int) -> None:
        """Make room for a frame of at least `needed` bytes, by moving the received bytes or growing the buffer."""
        self._needed = needed
        room = max(needed, MAX_LINE_BYTES)
        if self._start + room <= len(self._buffer):
            return
        arrived = self._view[self._start : self._end]
        if room > len(self._buffer):
            self._buffer = bytearray(2 * room)
            self._view = memoryview(self._buffer)
        self._view[: len(arrived)] = arrived
        self._start, self._end = 0, len(arrived)


class Connection(asyncio.BufferedProtocol):
    """One connection to a server, plain or encrypted; asyncio writes into its buffer.

    It is not an asyncio.StreamReaderProtocol: uvloop uses no buffer for a subclass of asyncio.Protocol.
    """

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._frames = FrameBuffer()
        self._reader: asyncio.Future[None] | None = None  # waits for frames
        self._writable = asyncio.Event()
        self._writable.set()
        self._paused = False  # reading is paused
        self._ended = False
        self._error: Exception | None = None
        self.closed = asyncio.Event()

    async def read(self, max_frames: int = sys.maxsize) -> list[Frame]:
        """Wait for frames and return up to `max_frames`; an empty list at the end.

        Raises the error that broke the connection.
        """
        while True:
            frames = self._frames.take(max_frames)
            if self._paused and not self._frames.full:
                self._paused = False
                self.transport.resume_reading()
            if frames:
                return frames
            if self._error is not None:
                raise self._error
            if self._ended:
                return []
            self._reader = asyncio.get_running_loop().create_future()
            await self._reader

    def at_eof(self) -> bool:
        """Return whether the connection ended without an error and all frames are taken."""
        return self._ended and self._error is None and not self._frames.ready

    async def drain(self) -> None:
        """Wait until more may be written. Raises the error that broke the connection, or ConnectionResetError."""
        await self._writable.wait()
        if self.closed.is_set():
            raise self._error or ConnectionResetError("connection lost")

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002
        return self._frames.space

    def buffer_updated(self, nbytes: int) -> None:
        if self._frames.advance(nbytes):
            self._wake()
        if self._frames.full:
            self._paused = True
            self.transport.pause_reading()

    def eof_received(self) -> None:
        self._ended = True
        self._wake()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._error = exc
        self._ended = True
        self._writable.set()
        self.closed.set()
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class FrameTransport(Transport):
    """A transport for nats-py's client; `read` returns frames for FrameParser."""

    def __init__(self, *, encrypted: bool) -> None:
        self._connection: Connection | None = None
        self._encrypted = encrypted
        self._plain = True

    async def connect(self, uri: ParseResult, buffer_size: int, connect_timeout: float) -> None:  # noqa: ARG002
        self.close()
        connecting = asyncio.get_running_loop().create_connection(Connection, str(uri.hostname), uri.port or 4222)
        async with asyncio.timeout(connect_timeout):
            _, self._connection = await connecting
        self._plain = True

    async def connect_tls(
        self,
        uri: str | ParseResult,
        ssl_context: ssl.SSLContext,
        buffer_size: int,  # noqa: ARG002
        connect_timeout: float,
    ) -> None:
        name = uri if isinstance(uri, str) else uri.hostname
        plain, encrypted = self._connected.transport, Connection()
        self._connection = None  # it receives nothing more; if the handshake fails, asyncio closes its socket
        async with asyncio.timeout(connect_timeout):
            encrypting = asyncio.get_running_loop().start_tls(plain, encrypted, ssl_context, server_hostname=name)
            encrypted.transport = cast(asyncio.Transport, await encrypting)
        self._connection = encrypted
        self._plain = False

    async def read(self, buffer_size: int) -> list[Frame]:  # type: ignore[override]  # noqa: ARG002
        return await self._connected.read()

    async def readline(self) -> Frame:  # type: ignore[override]
        frames = await self._connected.read(max_frames=1)
        return frames[0] if frames else b""

    def at_eof(self) -> bool:
        return self._connection is None or self._connection.at_eof()

    def write(self, payload: bytes) -> None:
        self.writelines([payload])

    def writelines(self, payload: list[bytes]) -> None:
        if self._encrypted and self._plain:
            raise SecureConnRequiredError  # nats-py 2.16.0 treats tls:// as optional
        connection = self._connected
        if not connection.closed.is_set():  # uvloop would raise an error that nats-py does not expect; drain raises it
            connection.transport.writelines(payload)

    async def drain(self) -> None:
        await self._connected.drain()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.transport.close()

    async def wait_closed(self) -> None:
        """Wait until the socket is closed, at most CLOSE_SECONDS, because the peer may not respond."""
        if (connection := self._connection) is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await connection.closed.wait()
            connection.transport.abort()

    def __bool__(self) -> bool:
        return True  # otherwise the client would replace it by its own transport

    @property
    def _connected(self) -> Connection:
        assert self._connection is not None, "call connect first"
        return self._connection


class FrameParser(Parser):
    """A parser that passes messages to the client, and control lines to nats-py's parser."""

    async def parse(self, data: list[Frame]) -> None:  # type: ignore[override]
        """Process frames. Raises ProtocolError for an unknown control line, as nats-py does."""
        for frame in data:
            if isinstance(frame, tuple):
                await self.nc._process_msg(*frame)
                continue
            await super().parse(frame)
            if self.buf or self.state != AWAITING_CONTROL_LINE:
                raise ProtocolError("nats: unknown protocol")
