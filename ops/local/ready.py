"""Readiness over HTTP.

Anything but a whole answer in time means "not yet": these checks are asked again until they hold.
"""

import asyncio

from core import http_client, listen
from ops.local.ports import LOOPBACK

ANSWER_SECONDS = 2.0


# PostgreSQL's SSLRequest: a server answers one byte before it asks who is there.
_SSL_REQUEST = bytes.fromhex("00000008 04d2162f")


async def get(port: int, path: str, host: str = LOOPBACK, seconds: float = ANSWER_SECONDS) -> tuple[int, bytes]:
    """GET http://host:port/path as (status, body). Raises OSError when there is no whole answer in time."""
    url = f"http://{listen.host_and_port(host, port)}{path}"
    async with asyncio.timeout(seconds):
        return await asyncio.to_thread(http_client.get, url, seconds=seconds)


async def answers_ok(port: int, path: str, host: str = LOOPBACK) -> bool:
    """Whether GET http://host:port/path answers 200 now."""
    try:
        return (await get(port, path, host))[0] == 200
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
