"""Keep a task of the collector running beside the flow.

    running --any exception--> failed, the collector is not ready --AGAIN_SECONDS--> running

Invariant: no exception ends such a task for good, and while it does not run, readiness names it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from core.health import Readiness
from core.pg_errors import unknown_trace

AGAIN_SECONDS: Final = 10.0
log = structlog.get_logger()


async def keep_running(
    name: str, work: Callable[[], Awaitable[None]], readiness: Readiness, again_seconds: float = AGAIN_SECONDS
) -> None:
    """Run `work`, which does not return, until cancelled; run it again after an exception."""
    while True:
        try:
            await work()
        except Exception as error:
            readiness.missing(name, repr(error))
            log.critical(
                "task failed", task=name, error=repr(error), again_seconds=again_seconds, **unknown_trace(error)
            )
        await asyncio.sleep(again_seconds)
        readiness.fine(name)
