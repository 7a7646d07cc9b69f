"""Readiness over HTTP: one GET on 127.0.0.1, without a client library.

Anything but a whole answer in time means "not yet": these checks are asked again until they hold.
"""

import asyncio

from ops.local.ports import LOOPBACK

ANSWER_SECONDS = 2.0


# PostgreSQL's SSLRequest: a server answers one byte before it asks who is there.
_SSL_REQUEST = bytes.fromhex("00000008 04d2162f")


async def get(port: int, path: str, seconds: float = ANSWER_SECONDS) -> tuple[int, bytes]:
    """GET http://127.0.0.1:port/path as (status, body). Raises OSError when there is no whole answer in time."""
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                # HTTP/1.0, so that the answer does not come in chunks.
                writer.write(f"GET {path} HTTP/1.0\r\nHost: {LOOPBACK}:{port}\r\n\r\n".encode())
                status, *headers = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
                lengths = [int(h.split(b":")[1]) for h in headers if h.lower().startswith(b"content-length:")]
                # Not every server closes when it is done.
                body = await (reader.readexactly(lengths[0]) if lengths else reader.read(-1))
            finally:
                writer.close()
        return int(status.split()[1]), body
    except (TimeoutError, EOFError, ValueError, IndexError, asyncio.LimitOverrunError) as error:
        raise OSError(f"no answer from {LOOPBACK}:{port}{path}") from error


async def answers_ok(port: int, path: str) -> bool:
    """Whether GET http://127.0.0.1:port/path answers 200 now."""
    try:
        return (await get(port, path))[0] == 200
    except OSError:
        return False


async def postgres_state(port: int, seconds: float) -> str:
    """Whether PostgreSQL takes connections on this port: "ready", or "does not answer"."""
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(_SSL_REQUEST)
                await reader.readexactly(1)
            finally:
                writer.close()
    except (OSError, EOFError, TimeoutError):
        return "does not answer"
    return "ready"
