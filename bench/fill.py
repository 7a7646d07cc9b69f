"""Fill a database with generated events over a number of days, for demonstrations and benchmarks.

    templates --fill--> events --parse--> rows --COPY--> each day's partition --their counts--> rollups --> commit
    all days filled --> breakdowns

The events are those of the stand-in publisher, spread evenly over the days before now. The collector's parser encodes
the rows. Invariant: a source's day is one transaction, so an interrupted fill leaves whole days, and the ledger always
balances. Its receipts are older than any stream.
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
from collector.maintenance.breakdowns import BreakdownCounter
from collector.message import Message
from collector.parse.choose import select_parser
from collector.parse.parsed import Parser
from collector.sources import SOURCES as COLLECTED
from collector.store.batch import Entry, WritePath
from collector.store.write import BatchWriter
from core import postgres
from core.errors import Misconfigured, SluiceError
from core.events import subjects, wire
from core.events.contract import Contract
from core.postgres import Connection
from core.sources import SOURCES, SourceName
from ops.cli.connection import local_folder, local_system, to_database, where
from ops.cli.documents import Filled
from ops.cli.output import confirm, console, plural, print_json
from ops.local import Servers
from ops.settings import OperatorSettings
from sql import statements

BYTES_PER_EVENT: Final = 600  # rows and indexes need 420 on average, WAL and rollups the rest
SPARE_BYTES: Final = 6 * 1024**3  # kept free: the WAL alone may need 4 GiB
_PAGES: Final = 1024  # the publisher's number of pages, of 64 events each
_MESSAGE_PAGES: Final = 64
_QUEUED: Final = 8  # messages generated ahead of the COPY
_PUBLISHED: Final = datetime(2000, 1, 1, tzinfo=UTC)  # before any stream was created
_SHARD: Final = -1  # not used by collectors, so neither waits for the other
_FACEBOOK: Final = b'{"eventId":"fb-'
_SQL: Final = statements("fill")
_PARTITIONS: Final = statements("partitions")


class NoRoom(SluiceError):
    """The disk has not enough free space for the events."""


class Day(NamedTuple):
    """The events of one day (UTC), spread evenly from start to end."""

    start: datetime
    end: datetime
    events: int


def days_of(events: int, days: float, now: datetime) -> list[Day]:
    """Split the `days` times 24 hours before `now` into days (UTC), each with its share of the events."""
    first = now - timedelta(days=days)
    parts: list[Day] = []
    start, assigned = first, 0
    while start < now:
        end = min((start + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0), now)
        upto = round(events * ((end - first) / (now - first)))
        parts.append(Day(start, end, upto - assigned))
        start, assigned = end, upto
    return parts


class Generator:
    """Generates the events of a day and parses them into messages with rows for COPY, by source."""

    def __init__(self, seed: object, values: str) -> None:
        self._rng = Random(f"{seed}/fill")
        self._uuids = uuid_lots(self._rng, UUIDS_A_PAGE)
        shared: dict[bytes, bytes] = {}
        rngs = (Random(f"{seed}/page/{number}") for number in range(_PAGES))
        self._pages: list[Page] = [make_page(rng, shared, VALUES[values]) for rng in rngs]
        contract = Contract(max_age_days=36_500, max_ahead_seconds=86_400)
        self._parsers: dict[SourceName, Parser] = {
            source: select_parser("auto", COLLECTED[source], contract)[1] for source in SOURCES
        }

    def messages(self, day: Day, sequence: int) -> Iterator[dict[SourceName, Entry]]:
        """Yield parsed messages by source. About two microseconds per event."""
        step = (day.end - day.start) / max(day.events, 1)
        generated = 0
        while generated < day.events:
            lines: dict[SourceName, list[bytes]] = {source: [] for source in self._parsers}
            for _ in range(_MESSAGE_PAGES):
                if (left := day.events - generated) <= 0:
                    break
                at = day.start + step * generated
                for line in self._page(at, min(left, PAGE_EVENTS)):
                    lines["facebook" if line.startswith(_FACEBOOK) else "tiktok"].append(line)
                generated += min(left, PAGE_EVENTS)
            yield {
                source: self._entry(source, source_lines, at, sequence)
                for source, source_lines in lines.items()
                if source_lines
            }

    def _page(self, at: datetime, events: int) -> list[bytes]:
        page = self._pages[self._rng.randrange(_PAGES)]
        stamp = at.isoformat(timespec="milliseconds")[:23].encode() + b"Z"
        text = page.fill(next(self._uuids), stamp, self._rng.randbytes(page.id_struct.size))
        return text[: page.ends[events - 1]].replace(b"},{", b"}\n{").split(b"\n")

    def _entry(self, source: SourceName, lines: list[bytes], at: datetime, sequence: int) -> Entry:
        part = wire.Part("fill", None, at.isoformat(timespec="milliseconds").replace("+00:00", "Z"), len(lines))
        message = Message(wire.encode([part], lines), sequence, _PUBLISHED, len(lines), first_delivery=True, reply="")
        parsed = self._parsers[source](message.body, sequence)
        if parsed.invalid or len(parsed.days) != 1:
            raise AssertionError(f"generated events are invalid, or of several days: {parsed.invalid[:1]}")
        return Entry(message, parsed)


async def fill(
    dsn: str, events: int, days: float, *, values: str = "publisher", show: bool = True, seed: object = None
) -> Counter[str]:
    """Store `events` events of the last `days` days, of both sources together. Return the count of each source.

    dsn       a role that may write, in a database that has the schema
    values    a distribution of `bench.publisher.values`
    """
    seed = time.time_ns() if seed is None else seed
    generator = await asyncio.to_thread(Generator, seed, values)
    stored: Counter[str] = Counter()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    connections = {
        source: await postgres.connect(dsn, name=f"sluice-fill-{source}", patience_seconds=5) for source in SOURCES
    }
    try:
        with Progress(*columns, console=console(stderr=True), disable=not show) as progress:
            bar = progress.add_task("filling", total=events)
            # Newest days first, so that an interrupted fill has the days that reports query most.
            for day in reversed(days_of(events, days, datetime.now(UTC))):
                stored += await _fill_day(connections, generator, day, lambda count: progress.advance(bar, count))
            progress.update(bar, description="counting breakdowns")
            async with asyncio.TaskGroup() as tasks:
                for source, connection in connections.items():
                    tasks.create_task(BreakdownCounter(connection, source).count_all(datetime.now(UTC)))
    finally:
        for connection in connections.values():
            connection.terminate()
    return stored


async def _fill_day(
    connections: Mapping[SourceName, Connection],
    generator: Generator,
    day: Day,
    advance: Callable[[int], None],
) -> Counter[str]:
    sequence = -time.time_ns()  # negative, so no stream uses it: marks the rows of this fill and day
    queues: dict[SourceName, asyncio.Queue[Entry | None]] = {source: asyncio.Queue(_QUEUED) for source in connections}
    stored: Counter[str] = Counter()

    async def make() -> None:
        messages = generator.messages(day, sequence)
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
    """Store one source's day in one transaction, as a collector stores a batch."""
    await connection.fetchval(_PARTITIONS["ensure"], f"{source}_events", day.start.date())
    async with connection.transaction():
        writer = BatchWriter(connection, COLLECTED[source], _SHARD, below_floor=set())
        stored: Counter[int] = Counter()
        while (entry := await queue.get()) is not None:
            stored += await writer.write_rows([entry], WritePath.DIRECT)
        await writer.write_rollups()
        await connection.execute(
            _SQL["insert_receipt"], subjects.stream_of(source), sequence, _PUBLISHED, stored[sequence]
        )


def check_room(folder: Path, events: int) -> None:
    """Raise NoRoom if the disk of `folder` has not enough free space to store all events."""
    free, needed = shutil.disk_usage(folder).free, events * BYTES_PER_EVENT + SPARE_BYTES
    if free < needed:
        raise NoRoom(
            f"{events:,} events need {needed / 1024**3:,.1f} GiB of free disk with the reserve, and {folder} has "
            f"{free / 1024**3:,.1f} GiB: fill fewer events, or free disk space"
        )


async def _check_days(settings: OperatorSettings, days: int) -> None:
    """Raises Misconfigured where the days reach below the floor: what was dropped is never stored again."""
    async with to_database(settings) as connection:
        floor = await connection.fetchval(_SQL["floor"])
    if days > (most := (datetime.now(UTC).date() - floor).days):
        raise Misconfigured(f"--days {days} is too large: days before {floor} were dropped, so the maximum is {most}")


async def run(settings: OperatorSettings, events: int, days: int, values: str, *, yes: bool, as_json: bool) -> int:
    """The operator's command; its exit code. Outside the local stack it asks first.

    Raises NoRoom, StackError, Misconfigured or NotConfirmed.
    """
    if days >= settings.retention_days:
        raise Misconfigured(
            f"--days {days} is too large: collectors drop events after RETENTION_DAYS ({settings.retention_days} days)"
        )
    if settings.sluice_migrate_dsn and local_system() is None:
        confirm(
            f"store {plural(events, 'generated event')} in the database at {where(settings.sluice_migrate_dsn)}",
            yes=yes,
        )
    began = time.monotonic()
    async with _database(settings, events) as dsn:
        await _check_days(msgspec.structs.replace(settings, sluice_migrate_dsn=dsn), days)
        stored = await fill(dsn, events, days, values=values)
    seconds = time.monotonic() - began
    if as_json:
        print_json(Filled(stored.total(), round(seconds, 3), dict(stored)))
        return 0
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
        if local_system() is not None:
            check_room(local_folder(), events)
        yield settings.sluice_migrate_dsn
        return
    async with Servers(local_folder()) as servers:
        check_room(servers.folder, events)
        await postgres.migrate(servers.owner_dsn)
        yield servers.owner_dsn
