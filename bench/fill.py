"""Fill a database with made events, as many and over as many days as one likes: for demonstrations and benchmarks.

    templates --fill--> events --parse--> rows --COPY--> each day's partition --their counts--> rollups --> commit

The events are those of the stand-in publisher, spread evenly over the days before now; the rows are what the
collector's parser makes of them. Invariant: a source's day is one transaction, so a fill that is broken off leaves
whole days, and the ledger balances at every moment. Its receipts lie before the life of any stream.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

import msgspec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from bench.publisher.templates import PAGE_EVENTS, UUIDS_A_PAGE, Page, make_page, uuid_lots
from bench.publisher.values import VALUES
from collector.message import Message
from collector.parse.choose import choose
from collector.parse.parsed import Parser
from collector.sources import SOURCES as COLLECTED
from collector.store.batch import Entry
from collector.store.batch import Path as Way
from collector.store.write import BatchWriter
from core import postgres
from core.errors import Misconfigured, SluiceError
from core.events import subjects, wire
from core.events.contract import Contract
from core.postgres import Connection
from core.sources import SOURCES, SourceName
from ops.cli.connection import local_folder, meant_locally, to_database, where
from ops.cli.output import confirm, plural
from ops.local import Servers
from ops.settings import OperatorSettings
from sql import statements

BYTES_PER_EVENT: Final = 600  # rows and indexes take 420 on average; the log and the rollups the rest
SPARE_BYTES: Final = 6 * 1024**3  # left free: PostgreSQL's log alone may take 4 GiB
_PAGES: Final = 1024  # so many different people, places, goods and prices as the publisher has, times 64
_MESSAGE_PAGES: Final = 64
_QUEUED: Final = 8  # messages that are made ahead of the COPY
_PUBLISHED: Final = datetime(2000, 1, 1, tzinfo=UTC)  # before the life of any stream
_SHARD: Final = -1  # no collector's: neither waits for the other
_FACEBOOK: Final = b'{"eventId":"fb-'
_SQL: Final = statements("fill")
_PARTITIONS: Final = statements("partitions")


class NoRoom(SluiceError):
    """The disk has no room for so many events."""


class Day(NamedTuple):
    """What one day (UTC) gets: events spread evenly from start to end."""

    start: datetime
    end: datetime
    events: int


def days_of(events: int, days: int, now: datetime) -> list[Day]:
    """Cut the `days` times 24 hours before `now` into days (UTC), each with its share of the events."""
    first = now - timedelta(days=days)
    found: list[Day] = []
    start, given = first, 0
    while start < now:
        end = min((start + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0), now)
        upto = round(events * ((end - first) / (now - first)))
        found.append(Day(start, end, upto - given))
        start, given = end, upto
    return found


class Made:
    """Makes the events of a day and parses them: messages of each source, as COPY takes them."""

    def __init__(self, seed: object, values: str) -> None:
        self._rng = Random(f"{seed}/fill")
        self._uuids = uuid_lots(self._rng, UUIDS_A_PAGE)
        shared: dict[bytes, bytes] = {}
        rngs = (Random(f"{seed}/page/{number}") for number in range(_PAGES))
        self._pages: list[Page] = [make_page(rng, shared, VALUES[values]) for rng in rngs]
        contract = Contract(max_age_days=36_500, max_ahead_seconds=86_400)
        self._parsers: dict[SourceName, Parser] = {
            source: choose("auto", COLLECTED[source], contract)[1] for source in SOURCES
        }

    def messages(self, day: Day, sequence: int) -> Iterator[dict[SourceName, Entry]]:
        """Messages by source, parsed. About two microseconds an event."""
        step = (day.end - day.start) / max(day.events, 1)
        made = 0
        while made < day.events:
            lines: dict[SourceName, list[bytes]] = {source: [] for source in self._parsers}
            for _ in range(_MESSAGE_PAGES):
                if (left := day.events - made) <= 0:
                    break
                at = day.start + step * made
                for line in self._page(at, min(left, PAGE_EVENTS)):
                    lines["facebook" if line.startswith(_FACEBOOK) else "tiktok"].append(line)
                made += min(left, PAGE_EVENTS)
            yield {source: self._entry(source, theirs, at, sequence) for source, theirs in lines.items() if theirs}

    def _page(self, at: datetime, events: int) -> list[bytes]:
        page = self._pages[self._rng.randrange(_PAGES)]
        stamp = at.isoformat(timespec="milliseconds")[:23].encode() + b"Z"
        text = page.fill(next(self._uuids), stamp, self._rng.randbytes(page.letters.size))
        return text[: page.ends[events - 1]].replace(b"},{", b"}\n{").split(b"\n")

    def _entry(self, source: SourceName, lines: list[bytes], at: datetime, sequence: int) -> Entry:
        part = wire.Part("fill", None, at.isoformat(timespec="milliseconds").replace("+00:00", "Z"), len(lines))
        message = Message(wire.encode([part], lines), sequence, _PUBLISHED, len(lines), first_delivery=True, reply="")
        parsed = self._parsers[source](message.body, sequence)
        if parsed.invalid or len(parsed.days) != 1:
            raise AssertionError(f"the events that were made are not what was meant: {parsed.invalid[:1]}")
        return Entry(message, parsed)


async def fill(
    dsn: str, events: int, days: int, *, values: str = "publisher", show: bool = True, seed: object = None
) -> Counter[str]:
    """Store so many events of the last so many days, both sources together; how many each source got.

    dsn is that of a role that may write, of a database whose schema is there. values is a distribution of
    `bench.publisher.values`.
    """
    seed = time.time_ns() if seed is None else seed
    made = await asyncio.to_thread(Made, seed, values)
    stored: Counter[str] = Counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    connections = {
        source: await postgres.connect(dsn, name=f"sluice-fill-{source}", patience_seconds=5) for source in SOURCES
    }
    try:
        with Progress(*columns, disable=not show) as progress:
            bar = progress.add_task("filling", total=events)
            # Newest first: what is asked for first is there first, however early one stops.
            for day in reversed(days_of(events, days, datetime.now(UTC))):
                stored += await _fill_day(connections, made, day, lambda count: progress.advance(bar, count))
    finally:
        for connection in connections.values():
            connection.terminate()
    return stored


async def _fill_day(
    connections: Mapping[SourceName, Connection],
    made: Made,
    day: Day,
    advance: Callable[[int], None],
) -> Counter[str]:
    sequence = -time.time_ns()  # no stream has such a number: it marks the rows of this fill and day
    queues: dict[SourceName, asyncio.Queue[Entry | None]] = {source: asyncio.Queue(_QUEUED) for source in connections}
    stored: Counter[str] = Counter()

    async def make() -> None:
        messages = made.messages(day, sequence)
        while (entries := await asyncio.to_thread(next, messages, None)) is not None:
            for source, entry in entries.items():
                await queues[source].put(entry)
                stored[source] += entry.parsed.events
                advance(entry.parsed.events)
        for queue in queues.values():
            await queue.put(None)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(make())
        for source, connection in connections.items():
            tasks.create_task(_store_day(connection, source, day, sequence, queues[source]))
    return stored


async def _store_day(
    connection: Connection,
    source: SourceName,
    day: Day,
    sequence: int,
    queue: asyncio.Queue[Entry | None],
) -> None:
    """One source's day in one transaction, as a collector writes a batch."""
    await connection.fetchval(_PARTITIONS["ensure"], f"{source}_events", day.start.date())
    async with connection.transaction():
        write = BatchWriter(connection, COLLECTED[source], _SHARD, below_floor=set())
        stored: Counter[int] = Counter()
        while (entry := await queue.get()) is not None:
            stored += await write.rows([entry], Way.DIRECT)
        await write.counts()
        await connection.execute(_SQL["receipt"], subjects.stream_of(source), sequence, _PUBLISHED, stored[sequence])


def check_room(folder: Path, events: int) -> None:
    """Raises NoRoom where the disk under `folder` would be full before all are stored."""
    free, needed = shutil.disk_usage(folder).free, events * BYTES_PER_EVENT + SPARE_BYTES
    if free < needed:
        raise NoRoom(
            f"{events:,} events need {needed / 1024**3:,.1f} GiB (a part of it to spare), {folder} has "
            f"{free / 1024**3:,.1f}: fill fewer"
        )


async def _check_days(settings: OperatorSettings, days: int) -> None:
    """Raises Misconfigured where the days reach below the floor: what was dropped is never stored again."""
    async with to_database(settings) as connection:
        floor = await connection.fetchval(_SQL["floor"])
    if days > (most := (datetime.now(UTC).date() - floor).days):
        raise Misconfigured(f"--days: {days} reaches before {floor}, and what lies before was dropped: at most {most}")


async def run(settings: OperatorSettings, events: int, days: int, values: str, *, yes: bool) -> int:
    """The operator's command; its exit code. Outside the local stack it asks first.

    Raises NoRoom, StackError, Misconfigured or NotConfirmed.
    """
    if days >= settings.retention_days:
        raise Misconfigured(
            f"--days: {days} reaches past RETENTION_DAYS ({settings.retention_days}): it would be dropped"
        )
    if settings.sluice_migrate_dsn and meant_locally() is None:
        confirm(
            f"store {plural(events, 'made event')} in the database at {where(settings.sluice_migrate_dsn)}", yes=yes
        )
    began = time.monotonic()
    async with _database(settings, events) as dsn:
        await _check_days(msgspec.structs.replace(settings, sluice_migrate_dsn=dsn), days)
        stored = await fill(dsn, events, days, values=values)
    seconds = time.monotonic() - began
    sys.stdout.write(
        f"{stored.total():,} events stored in {seconds:,.0f} s ({stored.total() / seconds:,.0f} a second): "
        + ", ".join(f"{source} {count:,}" for source, count in sorted(stored.items()))
        + "\n"
    )
    return 0


@asynccontextmanager
async def _database(settings: OperatorSettings, events: int) -> AsyncIterator[str]:
    """The system that is meant; where that is none, the local stack's database, started for as long as needed."""
    if settings.sluice_migrate_dsn is not None:
        if meant_locally() is not None:
            check_room(local_folder(), events)
        yield settings.sluice_migrate_dsn
        return
    async with Servers(local_folder()) as servers:
        check_room(servers.folder, events)
        await postgres.migrate(servers.owner_dsn)
        yield servers.owner_dsn
