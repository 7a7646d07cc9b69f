"""Readiness over HTTP.

Every error and time-out means "not ready": callers poll these checks.
"""

import asyncio

from core import http_client, listen
from ops.local.ports import LOOPBACK

ANSWER_TIMEOUT_SECONDS = 2.0


# SSLRequest of PostgreSQL: a server answers it with one byte before authentication.
_SSL_REQUEST = bytes.fromhex("00000008 04d2162f")


async def get(
    port: int, path: str, host: str = LOOPBACK, seconds: float = ANSWER_TIMEOUT_SECONDS, token: str | None = None
) -> tuple[int, bytes]:
    """GET http://host:port/path as (status, body). Raises OSError if there is no complete response in time."""
    url = f"http://{listen.host_and_port(host, port)}{path}"
    async with asyncio.timeout(seconds):
        return await asyncio.to_thread(http_client.get, url, seconds=seconds, headers=http_client.bearer(token))


async def answers_ok(port: int, path: str, host: str = LOOPBACK) -> bool:
    """Return whether GET http://host:port/path returns 200."""
    try:
        return (await get(port, path, host))[0] == 200
    except OSError:
        return False


async def postgres_state(port: int, seconds: float) -> str:
    """Return the state of PostgreSQL on this port: "ready" or "does not answer"."""
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
