"""Readiness over HTTP.

Anything but a whole answer in time means "not yet": these checks are asked again until they hold.
"""

import asyncio

from core import ask, listen
from ops.local.ports import LOOPBACK

ANSWER_SECONDS = 2.0


async def get(port: int, path: str, host: str = LOOPBACK) -> tuple[int, bytes]:
    """GET http://host:port/path as (status, body). Raises OSError when there is no whole answer in time."""
    url = f"http://{listen.host_and_port(host, port)}{path}"
    async with asyncio.timeout(ANSWER_SECONDS):
        return await asyncio.to_thread(ask.get, url, seconds=ANSWER_SECONDS)


async def answers_ok(port: int, path: str, host: str = LOOPBACK) -> bool:
    """Whether GET http://host:port/path answers 200 now."""
    try:
        return (await get(port, path, host))[0] == 200
    except OSError:
        return False
