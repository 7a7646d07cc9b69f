"""Share one run of an operation among concurrent callers with the same key (single flight).

    waiting: callers may join --the run before it ends--> running: closed to new callers --> done, all callers answered

Invariant: a run starts after all of its callers have called. So each result is as new as one that was read for that
call alone, and at most one run per key is active at any time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class SingleFlight(Generic[Result]):
    """The active run of each key, and the run that waits for it to end."""

    def __init__(self) -> None:
        self._running: dict[Hashable, asyncio.Task[Result]] = {}
        self._waiting: dict[Hashable, asyncio.Task[Result]] = {}

    async def run(self, key: Hashable, operation: Callable[[], Awaitable[Result]]) -> Result:
        """Return the result of `operation`, shared with all callers that use this key before the run starts.

        Raises the error of `operation` to each of them.
        """
        if (task := self._waiting.get(key)) is None:
            task = self._waiting[key] = asyncio.create_task(self._start(key, self._running.get(key), operation))
        return await asyncio.shield(task)  # a cancelled caller does not cancel the others

    async def _start(
        self, key: Hashable, previous: asyncio.Task[Result] | None, operation: Callable[[], Awaitable[Result]]
    ) -> Result:
        if previous is not None:
            await asyncio.wait((previous,))
        self._running[key] = self._waiting.pop(key)
        try:
            return await operation()
        finally:
            del self._running[key]
