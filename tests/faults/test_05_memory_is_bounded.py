"""Promise 5: memory is bounded whatever is sent: overlapping bodies of the publisher's largest size, and gzip bombs."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psutil

from bench.publisher.bodies import Bodies
from bench.publisher.post import Poster
from tests.support.faulty import FaultySystem, rounds
from tests.support.tally import Tally

LARGE_EVENTS = 50_000  # 21 MB
MEBIBYTE = 1 << 20
MOST_BYTES = 1024 * MEBIBYTE
"""What docs/promises.md states, for a gateway with its two workers and eight such bodies at once. Robyn reads a body
whole before admission is asked: how many may arrive at once is the edge's business."""


@asynccontextmanager
async def measured(system: FaultySystem, tally: Tally) -> AsyncIterator[None]:
    """Watch the memory of the gateway's processes; fail where it is ever past the bound."""
    most = 0

    async def watch() -> None:
        nonlocal most
        processes = [psutil.Process(pid) for pid in system.supervisor.pids("gateway")]
        while True:
            most = max(most, sum(process.memory_info().rss for process in processes))
            await asyncio.sleep(0.02)  # a rate, not a wait

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    tally.most(rss_bytes_max=most)
    assert 0 < most < MOST_BYTES, f"{most / MEBIBYTE:.0f} MiB"


async def test_gzip_bombs(system: FaultySystem, tally: Tally) -> None:
    """Bodies of 100 KB that inflate to far more than the limit, nested ones, and many at once: rejected, and cheap."""
    bomb = gzip.compress(b"[" + b" " * (200 * MEBIBYTE) + b"]", compresslevel=6)
    nested = gzip.compress(bomb)
    members = gzip.compress(b"[" + b" " * (30 * MEBIBYTE)) * 8
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    async with measured(system, tally):
        for _ in range(rounds(1, 5)):
            posts = [system.send(body, headers=headers) for body in (bomb, nested, members) for _ in range(10)]
            answers = await asyncio.gather(*posts)
            assert {answer.status_code for answer in answers} <= {413, 400, 503}
            assert 413 in {answer.status_code for answer in answers}
            tally.count(bad_inputs=len(posts))


async def test_large_bodies_overlap(system: FaultySystem, tally: Tally) -> None:
    """Eight POSTs of 21 MB at once, while JetStream stands still so that all that fit are held: those that find no
    room are rejected at once, those that do are stored, and memory stays under its bound."""
    poster = Poster(system.services.endpoint)
    body = Bodies(time.time(), corrupt_share=0.0).body(LARGE_EVENTS)
    async with measured(system, tally):
        for _ in range(rounds(1, 5)):
            async with system.frozen("nats"):
                posts = [asyncio.create_task(poster.post(body.content)) for _ in range(8)]
                done, held = await asyncio.wait(posts, return_when=asyncio.FIRST_COMPLETED)
                assert {task.result().status for task in done} == {503}
                assert held
            answers = await asyncio.gather(*posts)
            for answer in answers:
                system.remember(body, answer)
            assert {answer.status for answer in answers} == {202, 503}
    poster.close()
    await system.until_stored(60)
