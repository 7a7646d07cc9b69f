"""Waiting for what must come: a condition is asked for again and again, up to a deadline, never slept for."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

SAFETY_SECONDS = 60.0
"""Past this a test hangs. It says nothing of how long anything takes."""


async def in_time(work: Awaitable[T]) -> T:
    """What `work` gives. Raises TimeoutError if it hangs, so that a broken test ends and names its line."""
    return await asyncio.wait_for(work, SAFETY_SECONDS)


async def eventually(ask: Callable[[], Awaitable[T]], *, what: str, seconds: float = 30.0, every: float = 0.03) -> T:
    """The first true answer of `ask`. Fails with `what` was waited for, and the last answer, after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (answer := await ask()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}; last answer: {answer!r}"
        await asyncio.sleep(every)  # a rate, not a wait
    return answer
