"""What the reporter's tests stand on: events stored as collectors store them, and the reporter asked in-process."""

import itertools
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import asyncpg
import httpx

from collector.message import Message
from collector.parse.python import python_parser
from collector.sources import SOURCES
from collector.store.batch import Entry
from collector.store.store import Store
from core.events.contract import Contract
from reporter.app import create_app
from reporter.database import Pool, open_pool
from reporter.settings import ReporterSettings
from tests.support.events import Event, message

# Any instant of the contract's years may be stored: reports have to be right at all of them.
ANY_TIME = Contract(max_age_days=40_000, max_ahead_seconds=4_000_000_000)


class Collected:
    """Stores events as a collector does: partitions, rows and rollups. Close it when done."""

    def __init__(self, collector_dsn: str) -> None:
        self._parsers = {name: python_parser(SOURCES[name], ANY_TIME) for name in ("facebook", "tiktok")}
        self._stores = {name: Store(collector_dsn, SOURCES[name], parse) for name, parse in self._parsers.items()}
        self._sequences = itertools.count(1)

    async def store(self, events: Iterable[Event]) -> None:
        """Store events of any source; fails if one of them was not."""
        of: defaultdict[str, list[Event]] = defaultdict(list)
        for event in events:
            of[event["source"]].append(event)
        for source, theirs in of.items():
            sent = Message(message(*theirs), next(self._sequences), datetime.now(UTC), len(theirs), True, "")
            parsed = self._parsers[source](sent.body, sent.sequence)
            outcome = await self._stores[source].save([Entry(sent, parsed)])
            assert outcome.stored == len(theirs), outcome.dead_letters[:3]

    async def close(self) -> None:
        for store in self._stores.values():
            await store.close()


@asynccontextmanager
async def collecting(collector_dsn: str) -> AsyncIterator[Collected]:
    """A collector's store, closed at the end."""
    collected = Collected(collector_dsn)
    try:
        yield collected
    finally:
        await collected.close()


@asynccontextmanager
async def reporter_pool(reporter_dsn: str, **settings: Any) -> AsyncIterator[tuple[Pool, ReporterSettings]]:
    """The reporter's pool and the settings that it was made with."""
    reporter_settings = ReporterSettings(reporter_dsn=reporter_dsn, **settings)
    async with await open_pool(reporter_settings) as pool:
        yield pool, reporter_settings


@asynccontextmanager
async def reporter(reporter_dsn: str, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a reporter in this process."""
    async with reporter_pool(reporter_dsn, **settings) as (pool, reporter_settings):
        app: Any = create_app(pool, reporter_settings)
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://reporter", timeout=30) as client:
            yield client


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Any]:
    """A connection of the test's own."""
    connection = await asyncpg.connect(dsn)
    try:
        yield connection
    finally:
        await connection.close(timeout=5)
