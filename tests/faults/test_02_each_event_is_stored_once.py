"""Promise 2: each event (source, id, timestamp) is stored once, however often it is sent, published or redelivered."""

import asyncio
import os
import signal
import time
from random import Random

from bench.publisher.bodies import Bodies, Body
from bench.publisher.post import Answer, Poster
from tests.support.faulty import FaultySystem, goes_on, load, rounds
from tests.support.proxy import FROM_CLIENT
from tests.support.tally import Tally
from tests.support.waiting import eventually

BODIES = 12
EVENTS = 300
COPIES = 4


async def storm(system: FaultySystem, endpoints: list[str]) -> int:
    """Send every one of some bodies several times to every gateway, all mixed up; how many events that were."""
    bodies = Bodies(time.time(), corrupt_share=0.0, duplicates=0.2)
    sent = [bodies.body(EVENTS) for _ in range(BODIES)]
    work = [(body, Poster(endpoint)) for body in sent for endpoint in endpoints for _ in range(COPIES)]
    Random(7).shuffle(work)

    async def post(body: Body, poster: Poster) -> Answer:
        answer = await poster.post(body.content)
        system.remember(body, answer)
        poster.close()
        return answer

    answers = await asyncio.gather(*(post(body, poster) for body, poster in work))
    assert {answer.status for answer in answers} == {202}
    return len(work) * EVENTS


async def test_a_storm_of_duplicates(system: FaultySystem) -> None:
    """Two gateways and two collectors a source, every event sent eight times and more, many of them twice in one body:
    stored once, and every copy stands in a receipt as repeated."""
    port = await system.also("gateway-2", "gateway")
    for source in ("facebook", "tiktok"):
        await system.also(f"{source}-2", "collector", "--source", source)
    before = await system.ledger()
    for _ in range(rounds(1, 10)):
        known = system.oracle.accepted()
        sent = await storm(system, [system.services.endpoint, f"http://127.0.0.1:{port}/events"])
        await system.until_stored()
        after = await system.ledger()
        new = system.oracle.accepted() - known
        assert after.events("stored") - before.events("stored") == new
        assert after.events("repeated") - before.events("repeated") == sent - new
        assert sent > 2 * COPIES * new
        before = after


async def test_killed_between_commit_and_ack(system: FaultySystem, tally: Tally) -> None:
    """Rows are committed, the collector dies before it confirms them: they come again, and their receipts are known."""
    async with load(system) as sender:
        for _ in range(rounds(1, 10)):
            with system.armed("collector.committed", "kill") as fired:
                await fired()
            tally.count(kills=1)
            await goes_on(system, sender, tally)


async def test_confirmations_that_are_never_heard(system: FaultySystem) -> None:
    """What services say to NATS is lost for a while, though both hear it well: collectors store, confirm, and
    everything that JetStream did not hear of comes again."""
    async with load(system) as sender:
        before = await system.stored()
        system.to_nats.hold(FROM_CLIENT)

        async def some_in_flight() -> bool:
            return sender.tally.in_flight >= 5

        await eventually(some_in_flight, what="requests wait", seconds=30)
        system.to_nats.reset()
        system.to_nats.release()
        await goes_on(system, sender)
        assert all(now >= before[name] for name, now in (await system.stored()).items())


async def test_a_collector_that_wakes_up_late(system: FaultySystem) -> None:
    """A collector stands still with a batch in its hands until another one has stored it; then it goes on and stores
    it again: its transaction finds the receipts."""
    for source in ("facebook", "tiktok", "rejected"):
        await system.also(f"{source}-2", "collector", "--source", source)
    async with load(system) as sender:
        with system.armed("collector.parsed", "stop") as fired:
            stopped = await fired()
        await goes_on(system, sender)
    await system.until_stored()  # what the stopped one holds, too
    os.kill(stopped, signal.SIGCONT)
