"""Promise 9: rollups always equal the rows, whatever instants events bear and whatever days are missing.

The judge recomputes them from the partitions after every test of this folder; here are the ones about time.
"""

import time
from datetime import UTC, datetime, timedelta

from core import postgres
from tests.support.events import encoded, facebook, tiktok
from tests.support.faulty import FaultySystem, goes_on, load, rounds
from tests.support.tally import Tally
from tests.support.waiting import eventually

DAY = timedelta(days=1)
BESIDE_MIDNIGHT_SECONDS = 2.0


def midnight() -> datetime:
    """The last midnight, UTC."""
    return datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


async def days(system: FaultySystem, source: str) -> set[str]:
    """The days that hold rows."""
    rows = await system.select(f"SELECT DISTINCT (event_time AT TIME ZONE 'UTC')::date AS day FROM {source}_events")
    return {str(row["day"]) for row in rows}


async def test_midnight_passes_under_load(system: FaultySystem, tally: Tally) -> None:
    """The senders' clocks pass midnight: events of both days go on in the same batches, while collectors are killed."""
    began = time.time()
    start = midnight().timestamp() - BESIDE_MIDNIGHT_SECONDS
    async with load(system, now=lambda: start + time.time() - began) as sender:
        for _ in range(rounds(1, 5)):
            with system.armed("collector.merged", "kill") as fired:
                await fired()
            tally.count(kills=1)
            await goes_on(system, sender, tally)

        async def passed() -> bool:
            return time.time() - began > 2 * BESIDE_MIDNIGHT_SECONDS

        await eventually(passed, what="midnight has passed")
    await system.until_stored()
    both = {str((midnight() - DAY).date()), str(midnight().date())}
    for source in ("facebook", "tiktok"):
        assert both <= await days(system, source)


async def test_late_events_under_load(system: FaultySystem, tally: Tally) -> None:
    """A third of the events is up to six days late: into days that have no partition yet, from two collectors a source
    at once, one of which dies in the middle."""
    for source in ("facebook", "tiktok"):
        await system.also(f"{source}-2", "collector", "--source", source)
    async with load(system, late=0.3, late_up_to_seconds=6 * DAY.total_seconds()) as sender:
        for _ in range(rounds(1, 10)):
            with system.armed("collector.copying", "kill") as fired:
                await fired()
            tally.count(kills=1)
            await goes_on(system, sender, tally)
    await system.until_stored()
    for source in ("facebook", "tiktok"):
        assert len(await days(system, source)) >= 6


async def test_a_partition_is_gone(system: FaultySystem) -> None:
    """A day's empty partition is dropped behind the collectors' backs: it is made again when its first event comes."""
    day = midnight() - 6 * DAY
    owner = await postgres.connect(system.servers.owner_dsn, name="tests")
    try:
        for source in ("facebook", "tiktok"):
            table = f"{source}_events"
            if not await owner.fetchval(f"SELECT count(*) FROM {table} WHERE event_time < $1", day + DAY):
                await owner.execute(f"DROP TABLE IF EXISTS {table}_{day:%Y%m%d}")
    finally:
        await owner.close()
    at = day + timedelta(hours=23, minutes=59)
    answer = await system.post([facebook(at=at), tiktok(at=at)])
    assert answer.status_code == 202


async def test_senders_clocks_are_ahead(system: FaultySystem) -> None:
    """Up to an hour ahead an event is stored under its own instant; past that it is rejected, and kept."""
    now = datetime.now(UTC)
    ahead = [maker(at=now + timedelta(minutes=minutes)) for minutes in (1, 58, 65, 600) for maker in (facebook, tiktok)]
    answer = (await system.post(ahead)).json()
    assert (answer["accepted"], answer["rejected"]) == (4, 4)
    assert {error["reason"] for error in answer["errors"]} == {"too_far_ahead"}


async def test_a_gateways_clock_is_ahead(system: FaultySystem) -> None:
    """A gateway that takes what lies too far ahead does not make a collector lose it: a dead letter, and the ledger
    closes under that name."""
    port = await system.also("gateway-ahead", "gateway", MAX_EVENT_AHEAD_SECONDS="86400")
    before = await system.ledger()
    events = [maker(at=datetime.now(UTC) + timedelta(hours=3)) for maker in (facebook, tiktok)]
    system.oracle.will_be_dead(list(map(encoded, events)))
    answer = await system.post(events, endpoint=f"http://127.0.0.1:{port}/events")
    assert answer.json()["accepted"] == 2
    await system.until_stored()
    assert (await system.ledger()).events("dead") == before.events("dead") + 2
