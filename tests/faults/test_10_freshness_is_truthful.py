"""Promise 10: reports say how fresh they are, truthfully: whatever was answered 202 before `storedUntil` is in them.

Compared with what was accepted while services are killed and servers are away. The acceptance tests do the same while
collectors keep up, are frozen, and are stopped.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from core.events.subjects import SOURCES, Source
from tests.support.events import MAKERS
from tests.support.faulty import COLLECTOR_OF, WELL_AGAIN_SECONDS, FaultySystem, rounds
from tests.support.tally import Tally
from tests.support.waiting import eventually


class Watched:
    """The instants at which POSTs were answered 202, and what reports said of a span that holds all those events."""

    def __init__(self, at: datetime) -> None:
        self.at = at
        self.reports = 0
        self.until: dict[Source, datetime] = {}
        self.answered: dict[Source, list[datetime]] = {source: [] for source in SOURCES}
        self.too_much: list[str] = []

    async def post(self, system: FaultySystem, source: Source) -> None:
        """POST events without pause."""
        while True:
            answer = await system.post([MAKERS[source](at=self.at)])
            if answer.status_code == 202:
                self.answered[source].append(datetime.now(UTC))

    async def ask(self, system: FaultySystem, source: Source) -> None:
        """Ask without pause; a report that fails while its server is away claims nothing."""
        while True:
            try:
                report = await system.report("events", self.at, self.at + timedelta(seconds=1), source=source)
            except (AssertionError, httpx.TransportError):
                await asyncio.sleep(0.05)
                continue
            self._check(source, report)

    def _check(self, source: Source, report: dict[str, Any]) -> None:
        if (told := report["freshness"][source]["storedUntil"]) is None:
            return
        self.reports += 1
        self.until[source] = until = datetime.fromisoformat(told)
        due = sum(answered < until for answered in self.answered[source])
        if report["totals"]["events"] < due:
            self.too_much.append(f"{source} until {until}: {report['totals']['events']} events of {due}")

    async def fresh_past(self, instant: datetime) -> None:
        """Wait until reports of both sources are complete past an instant."""

        async def past() -> bool:
            return all(source in self.until and self.until[source] > instant for source in SOURCES)

        await eventually(past, what=f"reports are complete past {instant}", seconds=WELL_AGAIN_SECONDS)


@asynccontextmanager
async def watching(system: FaultySystem) -> AsyncIterator[Watched]:
    """Events go in and reports are asked for until the end, when none may have claimed too much."""
    watched = Watched(datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3))
    tasks = [asyncio.create_task(work(system, source)) for work in (watched.post, watched.ask) for source in SOURCES]
    try:
        await watched.fresh_past(watched.at)
        yield watched
        for task in tasks:
            assert not task.done(), task.exception()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert not watched.too_much, "\n".join(watched.too_much[:5])
    assert watched.reports > 10


async def test_while_services_are_killed(system: FaultySystem, tally: Tally) -> None:
    """Collectors die between commit and confirmation, NATS and PostgreSQL die: no report ever claims an event that it
    does not hold, and each time the claim moves on."""
    async with watching(system) as watched:
        for _ in range(rounds(1, 5)):
            with system.armed("collector.committed", "kill") as fired:
                await fired()
            await watched.fresh_past(datetime.now(UTC))
            for name in ("nats", "postgres", *map(COLLECTOR_OF.__getitem__, SOURCES)):
                system.supervisor.kill(name)
                tally.count(kills=1)
                await watched.fresh_past(datetime.now(UTC))
            tally.count(kills=1)


async def test_while_nothing_is_stored(system: FaultySystem) -> None:
    """The line to PostgreSQL is held: reports go on, and stay at what is stored; let go, they catch up."""
    async with watching(system) as watched:
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
        await watched.fresh_past(datetime.now(UTC))
