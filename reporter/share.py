"""Let requests for the same thing share one reading.

    asked --> waiting, open to all who ask meanwhile --the reading before it ends--> read, closed --> answered

Invariant: a reading begins after everybody who shares it has asked. So each answer is as new as if it had been read for
that request alone, however many ask at once, and of each thing at most one reading runs at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Found = TypeVar("Found")


class SingleFlight(Generic[Found]):
    """Readings that run, and those that wait for them."""

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[Found]] = {}
        self._waiting: dict[Hashable, asyncio.Task[Found]] = {}

    async def read(self, key: Hashable, read: Callable[[], Awaitable[Found]]) -> Found:
        """What `read` gives, to all who ask with this key before it begins. Raises what it raises, to all of them."""
        if (reading := self._waiting.get(key)) is None:
            reading = self._waiting[key] = asyncio.create_task(self._begin(key, self._running.get(key), read))
        return await asyncio.shield(reading)  # whoever gives up does so alone

    async def _begin(
        self, key: Hashable, before: asyncio.Task[Found] | None, read: Callable[[], Awaitable[Found]]
    ) -> Found:
        if before is not None:
            await asyncio.wait((before,))
        self._running[key] = self._waiting.pop(key)
        try:
            return await read()
        finally:
            del self._running[key]
