"""Unusual and legal HTTP at a gateway without the edge: no request ends a worker, except those that Robyn aborts on.

A spare takes over from a worker that Robyn aborted.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil
import pytest

from ops.local.ports import LOOPBACK
from tests.support.events import encoded, facebook
from tests.support.gateway import Gateway, workers_of
from tests.support.waiting import eventually, in_time

EVENT = encoded(facebook())
HEAD = b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
LENGTH = b"Content-Length: %d\r\n" % len(EVENT)
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n"
CHUNK = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
WHOLE = HEAD + LENGTH + b"\r\n" + EVENT
GET = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"
MANY = b"".join(b"X-%d: a\r\n" % number for number in range(90))

LEGAL: dict[str, tuple[bytes, int]] = {
    "a Trailer header without a trailer": (CHUNKED + b"Trailer: X-Sum\r\n\r\n" + CHUNK + b"0\r\n\r\n", 202),
    "TE: trailers": (HEAD + b"TE: trailers\r\n" + LENGTH + b"\r\n" + EVENT, 202),
    "a chunk extension": (CHUNKED + b'\r\n%x;a="b;c"\r\n%b\r\n0;d\r\n\r\n' % (len(EVENT), EVENT), 202),
    "a chunk size with leading zeros": (CHUNKED + b"\r\n0000" + CHUNK + b"000\r\n\r\n", 202),
    "no chunk": (CHUNKED + b"\r\n0\r\n\r\n", 400),
    "a length and chunks": (CHUNKED + LENGTH + b"\r\n" + CHUNK + b"0\r\n\r\n", 202),
    "chunks of another coding": (HEAD + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNK + b"0\r\n\r\n", 400),
    "a length of zero": (HEAD + b"Content-Length: 0\r\n\r\n", 400),
    "no length": (HEAD + b"\r\n", 400),
    "two equal lengths": (HEAD + LENGTH + LENGTH + b"\r\n" + EVENT, 400),
    "Expect: 100-continue": (HEAD + b"Expect: 100-continue\r\n" + LENGTH + b"\r\n" + EVENT, 100),
    "another expectation": (HEAD + b"Expect: 200-ok\r\n" + LENGTH + b"\r\n" + EVENT, 202),
    "HTTP/1.0": (WHOLE.replace(b"1.1", b"1.0", 1), 202),
    "HTTP/1.0 without Host": (b"POST /events HTTP/1.0\r\n" + LENGTH + b"\r\n" + EVENT, 202),
    "HTTP/1.0 in chunks": (CHUNKED.replace(b"1.1", b"1.0") + b"\r\n" + CHUNK + b"0\r\n\r\n", 400),
    "a URI with scheme and host": (WHOLE.replace(b"/events", b"http://x/events", 1), 202),
    "HEAD": (b"HEAD /events HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    "OPTIONS": (b"OPTIONS /events HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    "OPTIONS of everything": (b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "TRACE": (b"TRACE /events HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    "CONNECT": (b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", 0),
    "a method of WebDAV": (b"PROPFIND /events HTTP/1.1\r\nHost: x\r\n\r\n", 405),
    "headers twice": (HEAD + b"X-Correlation-Id: a\r\nX-Correlation-Id: b\r\n" + LENGTH + b"\r\n" + EVENT, 202),
    "a header in Latin-1": (HEAD + b"X-Correlation-Id: caf\xe9\r\n" + LENGTH + b"\r\n" + EVENT, 202),
    "a Content-Type in Latin-1": (
        b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Type: caf\xe9\r\n" + LENGTH + b"\r\n" + EVENT,
        202,
    ),
    "a header of 30 KB": (HEAD + b"X-Long: " + b"a" * 30_000 + b"\r\n" + LENGTH + b"\r\n" + EVENT, 202),
    "ninety headers more": (HEAD + MANY + LENGTH + b"\r\n" + EVENT, 202),
    "a query that is not UTF-8": (WHOLE.replace(b"/events", b"/events?a=%ff%fe&=&&b&%", 1), 202),
    "a path that is not UTF-8": (b"GET /%ff%fe%00%zz% HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "a path with braces": (b"GET /{a}/:b/*c HTTP/1.1\r\nHost: x\r\n\r\n", 404),
    "an upgrade to h2c": (
        HEAD + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n" + LENGTH
        + b"\r\n" + EVENT,
        202,
    ),
    "an upgrade to a WebSocket": (
        GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        0,
    ),
    "HTTP/2 with prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(20), 400),
    "pipelined requests": (WHOLE * 20, 202),
    "bytes behind the body": (WHOLE + b"nonsense\r\n\r\n", 202),
    "line breaks before the request": (b"\r\n\r\n" + WHOLE, 202),
    "GET with a body": (GET + LENGTH + b"\r\n" + EVENT, 200),
}  # fmt: skip
FATAL = {
    "a trailer": CHUNKED + b"Trailer: X-Sum\r\n\r\n" + CHUNK + b"0\r\nX-Sum: 1\r\n\r\n",
    "a trailer that no header names": CHUNKED + b"\r\n" + CHUNK + b"0\r\nX-Sum: 1\r\n\r\n",
    "a trailer at a path that reads no body": GET + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\n",
    "a chunk size that is no number": CHUNKED + b"\r\nzz\r\n[]\r\n0\r\n\r\n",
}


async def answer_to(port: int, request: bytes) -> bytes:
    """Return the first bytes of the answer. Nothing if the gateway closes."""
    async with sent(port, request) as answer:
        return await in_time(answer)


@asynccontextmanager
async def sent(port: int, request: bytes) -> AsyncIterator[asyncio.Task[bytes]]:
    """Send a request; what is given ends with the first bytes of the answer, or with none if the gateway closes."""

    async def first() -> bytes:
        try:
            return await reader.read(65_536)
        except ConnectionError:
            return b""

    reader, writer = await asyncio.open_connection(LOOPBACK, port)
    answer = asyncio.create_task(first())
    try:
        writer.write(request)
        yield answer
    finally:
        writer.transport.abort()
        await asyncio.wait([answer])


@pytest.mark.parametrize("name", LEGAL)
async def test_legal_http_ends_no_worker(gateway: Gateway, name: str) -> None:
    """Each is answered with its status, or not at all (0), and the same worker answers the next request."""
    request, status = LEGAL[name]
    before = [worker.pid for worker in gateway.workers()]
    async with sent(gateway.port, request) as answer:
        if status:
            assert (await in_time(answer)).partition(b"\r\n")[0].split(b" ")[1] == b"%d" % status
        assert (await gateway.post([facebook()])).status_code == 202
        if not status:
            assert not answer.done() or answer.result() == b""
    assert [worker.pid for worker in gateway.workers()] == before


@pytest.mark.parametrize("name", FATAL)
async def test_a_spare_replaces_a_worker_that_robyn_aborted(gateway: Gateway, name: str) -> None:
    """The request gets no answer. The next worker is the spare, which was running before the request came."""
    parent = psutil.Process(gateway.supervisor.pid("gateway"))
    (worker,) = gateway.workers()

    async def spare_runs() -> bool:
        return len(parent.children()) == 2

    await eventually(spare_runs, what="a spare runs")
    running = {child.pid for child in parent.children()}
    assert await answer_to(gateway.port, FATAL[name]) == b""

    async def replaced() -> bool:
        return [serving.pid for serving in workers_of(parent.pid)] not in ([], [worker.pid])

    await eventually(replaced, what="another worker serves")
    assert {serving.pid for serving in gateway.workers()} == running - {worker.pid}
    assert (await gateway.post([facebook()])).status_code == 202
