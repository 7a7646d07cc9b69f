"""Requests that come together share a reading, and none gets one that began before it came."""

import asyncio
from itertools import count

import pytest

from reporter.single_flight import SingleFlight


class Readings:
    """Readings that end when they are let; each gives its number. `running`: how many run now."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[asyncio.Event] = asyncio.Queue()
        self.numbers, self.running = count(), 0

    async def __call__(self) -> int:
        number, may_end = next(self.numbers), asyncio.Event()
        self.running += 1
        await self.begun.put(may_end)
        await may_end.wait()
        self.running -= 1
        return number


async def test_who_comes_later_gets_the_next_reading() -> None:
    """All who wait share one reading; who comes after it began gets the next, which begins when it has ended."""
    shared, readings = SingleFlight[int](), Readings()
    first = [asyncio.create_task(shared.run("a", readings)) for _ in range(3)]
    end_first = await readings.begun.get()
    later = [asyncio.create_task(shared.run("a", readings)) for _ in range(3)]
    await asyncio.wait((asyncio.create_task(shared.run("b", Readings())), *later), timeout=0)
    assert readings.running == 1
    end_first.set()
    assert await asyncio.gather(*first) == [0, 0, 0]
    (await readings.begun.get()).set()
    assert await asyncio.gather(*later) == [1, 1, 1]


async def test_other_things_are_read_meanwhile() -> None:
    """Readings of different keys do not wait for each other."""
    shared, readings = SingleFlight[int](), Readings()
    requested = [asyncio.create_task(shared.run(key, readings)) for key in "ab"]
    ends = [await readings.begun.get(), await readings.begun.get()]
    assert readings.running == 2
    for end in ends:
        end.set()
    assert await asyncio.gather(*requested) == [0, 1]


async def test_an_error_is_everybodys_and_leaves_nothing_behind() -> None:
    """Who shares a reading that fails gets its error; the next one is read anew."""
    shared = SingleFlight[int]()

    async def failing() -> int:
        raise ValueError("no")

    found = await asyncio.gather(*(shared.run("a", failing) for _ in range(2)), return_exceptions=True)
    assert [type(error) for error in found] == [ValueError, ValueError]
    with pytest.raises(ValueError, match="no"):
        await shared.run("a", failing)


async def test_who_gives_up_does_so_alone() -> None:
    """The others still get what they share."""
    shared, readings = SingleFlight[int](), Readings()
    gone, stays = (asyncio.create_task(shared.run("a", readings)) for _ in range(2))
    end = await readings.begun.get()
    gone.cancel()
    end.set()
    assert await stays == 0
    assert gone.cancelled() or gone.cancelling()
