"""Let requests for the same thing share one reading.

    asked --> waiting, open to all who ask meanwhile --the one before it ends--> read, closed --> answered

Invariant: a flight begins after everybody who shares it has asked. So each answer is as new as if it had been read for
that request alone, however many ask at once, and of each thing at most one flight runs at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class SingleFlight(Generic[Result]):
    """Readings that run, and those that wait for them."""

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[Result]] = {}
        self._waiting: dict[Hashable, asyncio.Task[Result]] = {}

    async def read(self, key: Hashable, read: Callable[[], Awaitable[Result]]) -> Result:
        """What `read` gives, to all who ask with this key before it begins. Raises what it raises, to all of them."""
        if (flight := self._waiting.get(key)) is None:
            flight = self._waiting[key] = asyncio.create_task(self._begin(key, self._running.get(key), read))
        return await asyncio.shield(flight)  # whoever gives up does so alone

    async def _begin(
        self, key: Hashable, running: asyncio.Task[Result] | None, read: Callable[[], Awaitable[Result]]
    ) -> Result:
        if running is not None:
            await asyncio.wait((running,))
        self._running[key] = self._waiting.pop(key)
        try:
            return await read()
        finally:
            del self._running[key]
