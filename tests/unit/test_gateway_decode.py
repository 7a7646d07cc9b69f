"""Decoding in slices: the event loop goes on, bodies take turns, and memory is let go of on the way."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable

import pytest

from gateway import decode as decoding
from gateway.body import Form
from gateway.decode import Batch, Decode, Turns
from tests.support.door import CONTRACT
from tests.support.events import encoded, facebook, microseconds, tiktok

LARGE = b"[" + b",".join([encoded(facebook()), encoded(tiktok())] * 10_000) + b"]"
SMALL = encoded(facebook())
HOSTILE = b"[" + b"0," * 20_000 + b"0]"


@pytest.fixture
def decode() -> Decode:
    return Decode(CONTRACT, most_events=262_144)


async def stalls_while(work: Callable[[], asyncio.Task[Batch]]) -> list[float]:
    """CPU seconds of each run of the event loop while the work is done."""
    task = work()
    found = []
    while not task.done():
        began = time.thread_time()
        await asyncio.sleep(0)
        found.append(time.thread_time() - began)
    await task
    return found


@pytest.mark.parametrize("content", [LARGE, HOSTILE], ids=["large", "hostile"])
async def test_the_event_loop_goes_on(decode: Decode, content: bytes) -> None:
    """A body of thousands of events, valid or not, is decoded in many short slices."""
    stalls = await stalls_while(lambda: asyncio.create_task(decode(content, Form.JSON, microseconds())))
    assert len(stalls) > 20
    assert max(stalls) < 0.05  # 2 to 8 ms on an idle machine; in one go it takes 40 to 300


async def test_bodies_do_not_add_up(decode: Decode) -> None:
    """With many bodies at once one run of the loop does one slice of one of them."""

    async def all_of_them() -> Batch:
        return (await asyncio.gather(*(decode(LARGE, Form.JSON, microseconds()) for _ in range(8))))[0]

    assert max(await stalls_while(lambda: asyncio.create_task(all_of_them()))) < 0.05


async def test_a_later_small_body_overtakes_a_large_one(decode: Decode) -> None:
    """Bodies take turns: one of a few events does not wait for the end of one with thousands."""
    large = asyncio.create_task(decode(LARGE, Form.JSON, microseconds()))
    await asyncio.sleep(0)
    middle = b"[" + b",".join([SMALL] * 20) + b"]"
    assert len(middle) > decoding.SMALL_BYTES
    assert (await decode(middle, Form.JSON, microseconds())).accepted_events == 20
    assert not large.done()
    assert (await large).accepted_events == 20_000


async def test_a_tiny_body_needs_no_turn(decode: Decode) -> None:
    """A body of one event is decoded without waiting for anything."""
    work = decode(SMALL, Form.JSON, microseconds())
    with pytest.raises(StopIteration) as ended:
        work.send(None)
    assert ended.value.value.accepted_events == 1


async def test_turns_are_given_in_order_and_one_at_a_time() -> None:
    """Each run of the loop gives one turn, first come, first served; who gave up waiting costs no turn."""
    turns, had = Turns(), []

    async def take(number: int) -> None:
        await turns.take()
        had.append(number)

    tasks = [asyncio.create_task(take(number)) for number in range(4)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    while len(had) < 3:
        before = len(had)
        await asyncio.sleep(0)
        assert len(had) <= before + 1
    assert had == [0, 2, 3]


async def test_the_body_is_let_go_of(decode: Decode) -> None:
    """Once a body is decoded nothing holds its bytes any more: only its blocks are left."""
    body = bytes(bytearray(LARGE))
    before = sys.getrefcount(body)
    batch = await decode(body, Form.JSON, microseconds())
    assert batch.accepted_events == 20_000
    assert sys.getrefcount(body) == before
