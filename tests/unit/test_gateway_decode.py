"""Decoding in slices: the event loop goes on, bodies take turns, and memory is let go of on the way."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from core.events.contract import Contract, Event
from core.sources import SourceName
from gateway import decode as decoding
from gateway import native
from gateway import piece as reading
from gateway import split as splitting
from gateway.batch import MAX_LISTED_ERRORS, Batch
from gateway.body import BodyFormat
from gateway.decode import Decoder, FairQueue
from tests.support.batch_reader import ALONE, CONTRACT, READER, accepted, kept
from tests.support.events import encoded, facebook, microseconds, tiktok

LARGE = b"[" + b",".join([encoded(facebook()), encoded(tiktok())] * 10_000) + b"]"
SMALL = encoded(facebook())
HOSTILE_EVENTS = 5_000
HOSTILE = b"[" + b",".join([b"0"] * HOSTILE_EVENTS) + b"]"


@pytest.fixture
def decode() -> Decoder:
    return Decoder(CONTRACT, max_events=262_144)


async def runs_while(work: Callable[[], asyncio.Task[Batch]]) -> int:
    """How often the event loop runs while the work is done."""
    task = work()
    runs = 0
    while not task.done():
        await asyncio.sleep(0)
        runs += 1
    await task
    return runs


async def test_a_large_body_is_decoded_in_slices(decode: Decoder) -> None:
    """The event loop runs at least once for each piece of a body of thousands of valid events."""
    runs = await runs_while(lambda: asyncio.create_task(decode(LARGE, BodyFormat.JSON, microseconds(), ALONE)))
    assert runs > len(LARGE) / splitting.PIECE_BYTES


async def test_a_hostile_body_is_decoded_in_slices(decode: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events that are rejected end a slice by the time they take, however few bytes they have."""
    clock = itertools.count()  # a second goes by with every look at it, so that a slice is one rejected event
    monkeypatch.setattr(reading, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    runs = await runs_while(lambda: asyncio.create_task(decode(HOSTILE, BodyFormat.JSON, microseconds(), ALONE)))
    assert runs > HOSTILE_EVENTS


async def test_bodies_do_not_add_up(decode: Decoder) -> None:
    """With many bodies at once one run of the loop does one slice of one of them."""

    async def all_of_them() -> Batch:
        return (await asyncio.gather(*(decode(LARGE, BodyFormat.JSON, microseconds(), ALONE) for _ in range(8))))[0]

    runs = await runs_while(lambda: asyncio.create_task(all_of_them()))
    assert runs > 8 * len(LARGE) / splitting.PIECE_BYTES


async def test_a_later_small_body_overtakes_a_large_one(decode: Decoder) -> None:
    """Bodies take turns: one of a few events does not wait for the end of one with thousands."""
    large = asyncio.create_task(decode(LARGE, BodyFormat.JSON, microseconds(), ALONE))
    await asyncio.sleep(0)
    middle = b"[" + b",".join([SMALL] * 20) + b"]"
    assert len(middle) > decoding.SMALL_BYTES
    assert (await decode(middle, BodyFormat.JSON, microseconds(), ALONE)).accepted_events == 20
    assert not large.done()
    assert (await large).accepted_events == 20_000


async def test_a_tiny_body_needs_no_turn(decode: Decoder) -> None:
    """A body of one event is decoded without waiting for anything."""
    work = decode(SMALL, BodyFormat.JSON, microseconds(), ALONE)
    with pytest.raises(StopIteration) as ended:
        work.send(None)
    assert ended.value.value.accepted_events == 1


async def test_turns_are_given_in_order_and_one_at_a_time() -> None:
    """Each run of the loop gives one turn, first come, first served; who gave up waiting costs no turn."""
    turns, had = FairQueue(), []

    async def take(number: int) -> None:
        await turns.wait_turn()
        had.append(number)

    tasks = [asyncio.create_task(take(number)) for number in range(4)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    while len(had) < 3:
        before = len(had)
        await asyncio.sleep(0)
        assert len(had) <= before + 1
    assert had == [0, 2, 3]


@pytest.mark.parametrize("end", [b"]", b",0,0]"], ids=["all valid", "rejected ones at the end"])
async def test_the_body_is_let_go_of(decode: Decoder, end: bytes) -> None:
    """Once a body is decoded nothing holds its bytes any more: only its blocks are left."""
    body = LARGE[:-1] + end
    before = sys.getrefcount(body)
    batch = await decode(body, BodyFormat.JSON, microseconds(), ALONE)
    assert batch.accepted_events == 20_000
    assert sys.getrefcount(body) == before


class Judged(Contract):
    """Counts the events that are read."""

    events = 0

    def read(self, raw: bytes, received_at: int, source: SourceName | None = None) -> Event:
        self.events += 1
        return super().read(raw, received_at, source)


@pytest.mark.parametrize("reader", [None, READER], ids=["python", "native"])
@pytest.mark.parametrize("nothing", [b"", b"0", b"{}", b"nul", b'{"eventId":"\\ud800"}'])
async def test_a_run_of_the_same_is_judged_once(reader: native.Reader | None, nothing: bytes) -> None:
    """Thousands of commas, or of anything else that is no event, are judged a few times and rejected each for itself;
    a good event among them is accepted."""
    run, good = 3_000, [encoded(facebook()), encoded(facebook())]
    contract = Judged(max_age_days=7, max_ahead_seconds=3600)
    body = b"[" + b",".join([*[nothing] * run, good[0], *[nothing] * run, good[1]]) + b"]"
    batch = await Decoder(contract, max_events=262_144, reader=reader)(body, BodyFormat.JSON, microseconds(), ALONE)
    assert (batch.events, batch.rejected_events, accepted(batch)) == (2 * run + 2, 2 * run, {"facebook": good})
    assert [errors.index for errors in batch.errors] == list(range(MAX_LISTED_ERRORS))
    assert [copy.body for copy in kept(batch)] == [nothing] * 2 * run
    assert contract.events < 50
