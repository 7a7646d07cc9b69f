"""Compress long answers for clients that accept gzip.

An answer that may be compressed says `Vary: Accept-Encoding` in both forms. Its entity tag is the same in both forms: a
weak tag names the content before it is coded (RFC 9110, 8.8.1).
"""

from __future__ import annotations

import asyncio
import zlib
from functools import lru_cache
from typing import Final

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from reporter.accept_header import weights

MIN_BYTES: Final = 4096
"""Shorter answers fit into the first packets of a connection either way."""
LEVEL: Final = 1
"""Of zlib. 925 KB of rows become 40 KB in 3.5 ms; level 6 makes 32 KB of them in 6.4 ms."""
THREAD_BYTES: Final = 64 * 1024
"""Longer pieces are compressed in a thread: the event loop serves other requests meanwhile."""
_GZIP: Final = 31  # zlib's window bits for gzip


def with_gzip(app: ASGIApp) -> ASGIApp:
    """The same app, with long answers in gzip if the client accepts it."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and accepts_gzip(dict(scope["headers"]).get(b"accept-encoding")):
            send = _GzipSend(send)
        await app(scope, receive, send)

    return answer


@lru_cache(64)
def accepts_gzip(header: bytes | None) -> bool:
    """Whether an Accept-Encoding header lets an answer be in gzip."""
    if header is None:
        return False
    accepted = weights(header.decode("latin-1"))
    return accepted.get("gzip", accepted.get("*", 0.0)) > 0.0


class _GzipSend:
    """Sends one answer. Holds it until MIN_BYTES of it are there, or its end."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._start: Message | None = None
        self._buffer = b""
        self._gzip: zlib._Compress | None = None

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._start = message
            return
        assert message["type"] == "http.response.body"
        body, more = self._buffer + message["body"], message["more_body"]
        self._buffer = b""
        if self._gzip is None:
            if len(body) < MIN_BYTES:
                await self._short(body, more=more)
                return
            self._gzip = zlib.compressobj(LEVEL, zlib.DEFLATED, _GZIP)
        if len(body) > THREAD_BYTES:
            body = await asyncio.to_thread(self._gzip.compress, body)
        else:
            body = self._gzip.compress(body)
        if not more:
            body += self._gzip.flush()
        await self._begin(None if more else len(body), coded=True)
        await self._send({"type": "http.response.body", "body": body, "more_body": more})

    async def _short(self, body: bytes, *, more: bool) -> None:
        if more:
            self._buffer = body
            return
        await self._begin(len(body), coded=False)
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _begin(self, length: int | None, *, coded: bool) -> None:
        """Send the status and headers, unless they are sent."""
        if (start := self._start) is None:
            return
        assert start["type"] == "http.response.start"
        self._start = None
        if coded:
            headers = [header for header in start["headers"] if header[0] != b"content-length"]
            headers.append((b"content-encoding", b"gzip"))
            if length is not None:
                headers.append((b"content-length", str(length).encode()))
            start = {**start, "headers": headers}
        await self._send(start)
