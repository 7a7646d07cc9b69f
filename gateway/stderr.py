"""Log what a worker writes to its standard error, as JSON lines.

Python logs to standard output. Panics of Robyn and output of native code are text of several lines. Text that arrives
together becomes one log line.
"""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from contextlib import suppress
from typing import Final

import structlog

READ_BYTES: Final = 64 * 1024
LOGGED_CHARACTERS: Final = 4_000
TOGETHER_SECONDS: Final = 0.05
END_SECONDS: Final = 1.0

log = structlog.get_logger()
_relaying: set[asyncio.Task[None]] = set()


def relay(worker: Process) -> None:
    """Log the standard error of a worker, which is a pipe, until it closes."""
    assert worker.stderr is not None
    task = asyncio.create_task(_relay(worker.stderr, worker.pid))
    _relaying.add(task)
    task.add_done_callback(_relaying.discard)


async def relayed() -> None:
    """Wait until the output of ended workers is logged, at most END_SECONDS."""
    if _relaying:
        await asyncio.wait(_relaying, timeout=END_SECONDS)


async def _relay(pipe: asyncio.StreamReader, pid: int) -> None:
    while text := await pipe.read(READ_BYTES):
        with suppress(TimeoutError):
            while len(text) < READ_BYTES:
                async with asyncio.timeout(TOGETHER_SECONDS):
                    if not (more := await pipe.read(READ_BYTES)):
                        break
                text += more
        written = text.decode(errors="replace").strip()[:LOGGED_CHARACTERS]
        log.error("worker stderr", pid=pid, text=written)
