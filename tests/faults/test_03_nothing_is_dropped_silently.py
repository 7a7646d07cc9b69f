"""Promise 3: nothing is dropped silently. What finds no room is rejected, what a consumer forgot is delivered again,
and what somebody deletes the ledger reports as lost. The ledger is read after every test of this folder."""

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest

from core import postgres
from core.events.subjects import REJECTED, consumer_of, stream_of
from core.jetstream import StreamMissing, stream_info
from core.sources import SOURCES
from ops.ledger import read_ledger
from tests.support.events import facebook, tiktok
from tests.support.expected import key_of
from tests.support.faulty import COLLECTOR_OF, WELL_AGAIN_SECONDS, FaultySystem, goes_on, load, rounds
from tests.support.stack import reachable_folder
from tests.support.tally import Tally
from tests.support.waiting import eventually

STREAM_BYTES = 4 << 20
LOST = 7


async def test_a_consumer_is_deleted(system: FaultySystem) -> None:
    """Consumers are deleted with messages waiting and messages on their way: made again, and nothing is lost."""
    async with load(system) as sender:
        for _ in range(rounds(1, 10)):
            async with system.frozen("postgres"):  # nothing is stored, and nothing confirmed

                async def waiting() -> bool:
                    infos = [await stream_info(system.client, stream_of(source)) for source in SOURCES]
                    return all(info.state.messages >= 10 for info in infos)

                await eventually(waiting, what="messages wait", seconds=30)
                for collected in (*SOURCES, REJECTED):
                    await system.client.jetstream().delete_consumer(stream_of(collected), consumer_of(collected))
            await goes_on(system, sender)


@pytest.fixture
async def small() -> AsyncIterator[FaultySystem]:
    """A system of the test's own, with streams of a few MB."""
    with reachable_folder() as folder:
        system = FaultySystem(folder / "stack", STREAM_MAX_BYTES=str(STREAM_BYTES), GATEWAY_WORKERS="1")
        await system.start()
        try:
            yield system
        finally:
            await system.stop()


async def test_a_stream_is_full_and_then_deleted(small: FaultySystem, tally: Tally) -> None:
    """At a stream's limit: 503 for what finds no room, and other sources go on; with room again, it goes on. Deleted
    with messages waiting: made again within 30 s, new events are stored, and the ledger reports exactly what is
    lost."""
    await fill(small)
    await small.until_stored()
    await small.judge()
    await delete(small, tally)


async def fill(system: FaultySystem) -> None:
    """Fill a stream while no collector is there, then let them come back."""
    for source in SOURCES:
        await system.supervisor.stop(COLLECTOR_OF[source])
    statuses: list[int] = []
    while 503 not in statuses:
        posts = (system.post([facebook() for _ in range(500)]) for _ in range(4))
        statuses += [answer.status_code for answer in await asyncio.gather(*posts)]
    assert set(statuses) == {202, 503}
    rejected = await system.post([facebook() for _ in range(1000)])
    assert (rejected.status_code, rejected.json()["type"]) == (503, "urn:sluice:problem:stream_full")
    assert int(rejected.headers["Retry-After"]) > 0
    assert (await system.post([tiktok()])).status_code == 202
    for source in SOURCES:
        await system.supervisor.start_again(COLLECTOR_OF[source])


async def delete(system: FaultySystem, tally: Tally) -> None:
    """Delete a stream with messages that are seen and not stored, and see what is reported of it."""
    stream, collector = stream_of("facebook"), COLLECTOR_OF["facebook"]
    created = (await stream_info(system.client, stream)).created
    blocker = await postgres.connect(system.servers.owner_dsn, name="tests-blocking")
    await blocker.execute("BEGIN; LOCK TABLE receipts IN EXCLUSIVE MODE")  # nothing is stored, the rest goes on
    events = [facebook() for _ in range(LOST)]
    for event in events:
        assert (await system.post([event])).status_code == 202
    last = (await stream_info(system.client, stream)).state.last_seq

    async def seen() -> bool:
        (row,) = await system.select("SELECT max(last_sequence) AS seen FROM stream_lives WHERE stream = $1", stream)
        return bool(row["seen"] == last)

    await eventually(seen, what="the collector has noted how many messages there are", seconds=30)
    system.supervisor.kill(collector, signal.SIGKILL)  # what it holds in its hands goes with it
    tally.count(kills=1)
    await system.client.jetstream().delete_stream(stream)
    await blocker.close()

    async def made_again() -> bool:
        try:
            return (await stream_info(system.client, stream)).created > created
        except StreamMissing:
            return False

    await eventually(made_again, what="the stream is made again", seconds=WELL_AGAIN_SECONDS)
    assert (await system.post([facebook(), tiktok()])).status_code == 202
    await system.until_stored()
    ledger = await read_ledger(system.client, system.connection)
    assert ledger.streams[stream].lost == LOST
    (complaint,) = ledger.problems()
    assert complaint.startswith(f"{stream}: {LOST} messages are lost")
    judgement = await system.oracle.judge(system.connection)
    assert set(judgement.lost) == {key_of(event) for event in events}
    judgement.lost.clear()
    assert judgement.wrong() == []
