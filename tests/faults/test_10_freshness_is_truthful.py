"""Promise 10: reports say how fresh they are, truthfully: whatever was answered 202 before `storedUntil` is in them.

Compared with what was accepted while services are killed and servers are away. The acceptance tests do the same while
collectors keep up, are frozen, and are stopped.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx

from core.sources import SOURCES, SourceName
from tests.support.events import MAKERS
from tests.support.faulty import COLLECTOR_OF, WELL_AGAIN_SECONDS, FaultySystem, rounds
from tests.support.freshness import Watched, watching
from tests.support.tally import Tally
from tests.support.waiting import eventually


async def fresh_past(watched: Watched, instant: datetime) -> None:
    """Wait until reports of both sources are complete past an instant."""
    await watched.until_past(dict.fromkeys(SOURCES, instant), seconds=WELL_AGAIN_SECONDS)


@asynccontextmanager
async def posting(system: FaultySystem) -> AsyncIterator[Watched]:
    """Events go in and reports are asked for without pause; one that fails while its server is away claims nothing."""
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)

    async def post(watched: Watched, source: SourceName) -> None:
        while True:
            answer = await system.post([MAKERS[source](at=at)])
            if answer.status_code == 202:
                watched.answered[source].append(datetime.now(UTC))

    async def ask(watched: Watched, source: SourceName) -> None:
        while True:
            try:
                report = await system.report("events", at, at + timedelta(seconds=1), source=source)
            except (AssertionError, httpx.TransportError):
                await asyncio.sleep(0.05)  # a rate, not a wait
                continue
            watched.check(source, report)

    async with watching(post, ask, more_reports_than=10) as watched:
        await fresh_past(watched, at)
        yield watched


async def test_while_services_are_killed(system: FaultySystem, tally: Tally) -> None:
    """Collectors die between commit and confirmation, NATS and PostgreSQL die: no report ever claims an event that it
    does not hold, and each time the claim moves on."""
    async with posting(system) as watched:
        for _ in range(rounds(1, 5)):
            with system.armed("collector.committed", "kill") as fired:
                await fired()
            await fresh_past(watched, datetime.now(UTC))
            for name in ("nats", "postgres", *map(COLLECTOR_OF.__getitem__, SOURCES)):
                system.supervisor.kill(name)
                tally.count(kills=1)
                await fresh_past(watched, datetime.now(UTC))
            tally.count(kills=1)


async def test_while_nothing_is_stored(system: FaultySystem) -> None:
    """The line to PostgreSQL is held: reports go on, and stay at what is stored; let go, they catch up."""
    async with posting(system) as watched:
        system.to_postgres.half_open()
        held = datetime.now(UTC)
        posted = {source: len(watched.answered[source]) for source in SOURCES}
        reports = watched.reports

        async def went_on() -> bool:
            more = all(len(watched.answered[source]) > posted[source] + 20 for source in SOURCES)
            return more and watched.reports > reports + 10

        await eventually(went_on, what="events are accepted and reports are asked for", seconds=30)
        assert all(until <= held for until in watched.until.values())
        system.to_postgres.release()
        await fresh_past(watched, datetime.now(UTC))
