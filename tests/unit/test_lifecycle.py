"""How services start and end: waiting that a stop cuts short, and tasks that end for certain."""

from __future__ import annotations

import asyncio
import sys

import pytest

from core.lifecycle import Stopped, cancel_and_wait, unless_stopped
from tests.support.waiting import in_time


async def test_a_step_of_a_start_gives_its_result() -> None:
    """A step that comes to its end before a stop gives what it gave, and raises what it raised."""

    async def works(value: int) -> int:
        await asyncio.sleep(0)
        return 1 // value

    assert await unless_stopped(asyncio.Event(), works(1)) == 1
    with pytest.raises(ZeroDivisionError):
        await unless_stopped(asyncio.Event(), works(0))


async def test_a_stop_ends_a_start_that_waits() -> None:
    """A step that waits for ever is cancelled when the stop comes."""
    stop, cleaned = asyncio.Event(), asyncio.Event()

    async def waits() -> None:
        try:
            stop.set()
            await asyncio.Event().wait()
        finally:
            cleaned.set()

    with pytest.raises(Stopped):
        await unless_stopped(stop, waits())
    await in_time(cleaned.wait())


async def test_a_cancellation_that_is_lost_is_requested_again() -> None:
    """A task that loses its cancellation, because the answer it waited for came with it, is cancelled once more."""
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    went_on = False

    async def waits_for_an_answer() -> None:
        nonlocal went_on
        await in_time(answer)
        went_on = True
        await asyncio.Event().wait()

    task = asyncio.create_task(waits_for_an_answer())
    await asyncio.sleep(0)
    answer.set_result(None)
    await in_time(cancel_and_wait([task]))
    assert task.cancelled()
    assert went_on or sys.version_info >= (3, 12)  # where it is not lost any more


async def test_tasks_that_fail_have_ended() -> None:
    """What a task raises at its end, or raised before, is not raised here."""

    async def fails() -> None:
        raise ValueError

    async def fails_at_its_end() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError

    tasks = [asyncio.create_task(fails()), asyncio.create_task(fails_at_its_end())]
    await asyncio.sleep(0)
    await cancel_and_wait(tasks)
    assert all(isinstance(task.exception(), ValueError) for task in tasks)
    await cancel_and_wait([])
