r"""Serve /health/live, /health/ready and /metrics for a program that has no HTTP server of its own.

    accepted --header complete within HEADER_SECONDS--> answered --client closes within ANSWER_SECONDS--> closed
        \--too late, or the oldest of more than MAX_CONNECTIONS--> aborted

One thread with an event loop of its own: a service that computes or waits still answers. Each connection gets one
answer. Idle connections cannot keep a health check out, because a new connection evicts the oldest one.

The alternative, granian 2.8.7 (the reporter's server), was measured: it takes 7.0 MB and three more threads a process,
and it answered no health check for 10 s while 200 idle connections existed, because it stops accepting at its limit.
"""

from __future__ import annotations

import asyncio
import re
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, cast

import structlog

from core import listen
from core.errors import Misconfigured
from core.health import LIVE, Readiness
from core.lifecycle import cancel_and_wait
from core.metrics import CONTENT_TYPE, exposition

HEADER_SECONDS: Final = 5.0  # for the whole header, even if bytes arrive meanwhile
ANSWER_SECONDS: Final = 10.0  # a Prometheus scrape times out after 10 s as well
MAX_CONNECTIONS: Final = 256
MAX_HEADER_BYTES: Final = 16 * 1024
BACKLOG: Final = 1024

log = structlog.get_logger()

_REQUEST: Final = re.compile(rb"([A-Z]+) (/[^ ?]*)(?:\?[^ ]*)? HTTP/1\.[01]\r\n")
_PHRASES: Final = {
    200: "OK",
    400: "Bad Request",
    404: "Not Found",
    405: "Method Not Allowed",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    503: "Service Unavailable",
}


def serve(address: str, port: int, readiness: Readiness) -> tuple[int, Callable[[], None]]:
    """Serve the pages. Return the port and a function that stops the server.

    Raises Misconfigured if the address or port cannot be used.
    """
    try:
        bound = listen.bind(address, port, socket.SO_REUSEADDR)
        bound.listen(BACKLOG)
    except OSError as error:
        where = listen.host_and_port(address, port)
        raise Misconfigured(f"cannot serve health and metrics on {where}: {error.strerror}") from error
    loop, stop = asyncio.new_event_loop(), asyncio.Event()
    thread = threading.Thread(target=loop.run_until_complete, args=(_serve(bound, readiness, stop),), daemon=True)
    thread.name = "health"
    thread.start()

    def stop_serving() -> None:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()

    return bound.getsockname()[1], stop_serving


async def _serve(bound: socket.socket, readiness: Readiness, stop: asyncio.Event) -> None:
    pages = _Pages(readiness)
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(pages), sock=bound, backlog=BACKLOG)
    async with server:
        await stop.wait()
    answering = [connection.answering for connection in pages.open if connection.answering is not None]
    for connection in list(pages.open):
        connection.abort()
    await cancel_and_wait(answering)
    pages.scraping.shutdown(wait=False, cancel_futures=True)


class _Pages:
    """State shared by all connections."""

    def __init__(self, readiness: Readiness) -> None:
        self.open: dict[_Connection, None] = {}  # oldest first
        self.scraping = ThreadPoolExecutor(1, thread_name_prefix="metrics")  # one scrape at a time
        self._readiness = readiness

    async def page(self, path: bytes) -> tuple[int, str, bytes]:
        """Return status, content type and body."""
        match path:
            case b"/health/live":
                return 200, "application/json", LIVE
            case b"/health/ready":
                status, body = self._readiness.answer()
                return status, "application/json", body
            case b"/metrics":
                text = await asyncio.get_running_loop().run_in_executor(self.scraping, exposition)
                return 200, CONTENT_TYPE, text
        return _problem(404)


def _problem(status: int) -> tuple[int, str, bytes]:
    return status, "application/problem+json", b'{"title":"%b","status":%d}' % (_PHRASES[status].encode(), status)


class _Connection(asyncio.Protocol):
    """One connection with one response. Later data of the client is read and ignored until it closes."""

    def __init__(self, pages: _Pages) -> None:
        self._pages = pages
        self._header = bytearray()
        self.answering: asyncio.Task[None] | None = None
        self._ended = False  # the client sends nothing more

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._deadline = asyncio.get_running_loop().call_later(HEADER_SECONDS, self.abort)
        self._pages.open[self] = None
        if len(self._pages.open) > MAX_CONNECTIONS:
            next(iter(self._pages.open)).abort()

    def data_received(self, data: bytes) -> None:
        if self.answering is not None:
            return
        self._header += data
        whole = b"\r\n\r\n" in self._header
        if whole or len(self._header) > MAX_HEADER_BYTES:
            loop = asyncio.get_running_loop()
            self._deadline.cancel()
            self._deadline = loop.call_later(ANSWER_SECONDS, self.abort)
            self.answering = loop.create_task(self._answer(whole))

    def eof_received(self) -> bool:
        self._ended = True
        return (
            self.answering is not None and not self.answering.done()
        )  # keep the connection open until the response is sent

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._deadline.cancel()
        self._pages.open.pop(self, None)
        if self.answering is not None:
            self.answering.cancel()

    def abort(self) -> None:
        """Close the connection at once."""
        self._transport.abort()
        self._pages.open.pop(self, None)

    async def _answer(self, whole: bool) -> None:
        request = _REQUEST.match(self._header)
        method = request[1] if request else b""
        if not whole or len(self._header) > MAX_HEADER_BYTES:
            status, media_type, body = _problem(431)
        elif request is None:
            status, media_type, body = _problem(400)
        elif method not in (b"GET", b"HEAD"):
            status, media_type, body = _problem(405)
        else:
            try:
                status, media_type, body = await self._pages.page(request[2])
            except Exception as error:
                log.exception("health page failed", error=repr(error))
                status, media_type, body = _problem(500)
        head = (
            f"HTTP/1.1 {status} {_PHRASES[status]}\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n"
            + ("Allow: GET, HEAD\r\n" if status == 405 else "")
            + "Connection: close\r\n\r\n"
        )
        self._transport.writelines([head.encode(), b"" if method == b"HEAD" else body])
        if self._ended:
            self._transport.close()
        else:
            self._transport.write_eof()
