"""Write the rows of a batch: straight into the leaves of their days, or staged and merged where that meets a repeat.

    rows --COPY--> leaf --all are new--> counts of the parser --> rollups
              \\--unique violation, deadlock--> back to the savepoint
    rows --COPY--> staging --merge--> leaf, and rollups of what was really inserted

Invariant: both paths leave the same rows and rollups. The direct one takes rows that are all new or none of them, so
what the parser counted is what was inserted. Both name the leaf itself, so that it is a partition is checked after its
rows are written: their locks hold up a DETACH until the transaction ends.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import date, datetime, timedelta
from typing import Final

import asyncpg

from collector.faults import Point
from collector.parse import pg_copy
from collector.parse.rollup import QUARTERS_IN_DAY, Counts, total
from collector.parse.row import copied_columns
from collector.sources.source import Source
from collector.store.batch import Entry, Path, Place
from core import faults, native, postgres
from core.pg_errors import ErrorClass, classify
from core.postgres import Connection
from sql import statements

_SQL: Final = statements("store")
_SOURCES: Final = statements("sources")
_FIRST_DAY: Final = date(2000, 1, 1)
_COUNTRY: Final = "country"
_PLACE: Final = re.compile(r"COPY \w+_(?P<day>\d{8}), \D*(?P<row>\d+)")  # in every language of the server
MOST_STAGED: Final = 64
COMMAND_SECONDS: Final = 20.0  # a batch takes well under a second; a connection gone silent holds us up no longer
COPY_SECONDS: Final = COMMAND_SECONDS


# What sends the direct path to the staged one: a repeat; or two collectors that each wait for a key of the other.
CONFLICTS: Final = (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError)


class DirectCopyBackoff:
    """Whose turn it is. After a conflict the staged path serves the next batches, 1, 2, 4 and so on up to 64: where
    repeats are common, a COPY that is taken back costs more than it saves. A success of the direct path ends that."""

    def __init__(self) -> None:
        self._staged = 0  # batches that are still to be staged
        self._next = 1

    def take(self) -> Path:
        """The path for the next batch."""
        if not self._staged:
            return Path.DIRECT
        self._staged -= 1
        return Path.STAGED

    def tell(self, *, conflicts: int) -> None:
        """What became of a batch that went the direct path."""
        self._staged = self._next if conflicts else 0
        self._next = min(self._next * 2, MOST_STAGED) if conflicts else 1


class Poison(Exception):
    """PostgreSQL rejects a row of the entries that were written. place is its row, if PostgreSQL names it."""

    def __init__(self, error: asyncpg.PostgresError) -> None:
        # The message of a check names the constraint, never the row: details would repeat personal data.
        self.detail = f"{error.sqlstate}: {error.args[0]}"
        self.place = _place_of(error)
        super().__init__(self.detail)


class BatchWriter:
    """What writes within one transaction. `rows` may be called for parts of a batch, `counts` once at the end.

    conflicts   how often the direct path met a repeat
    staged      whether any rows were staged
    """

    def __init__(self, connection: Connection, source: Source, shard: int, below_floor: set[int]) -> None:
        self._connection = connection
        self._source = source
        self._shard = shard
        self._below_floor = below_floor
        self._columns = copied_columns(source)
        self._days: set[int] = set()  # whose leaves were written
        self._staging_in_use = False  # whether staging may hold rows: of another day, or of another part of the batch
        self._direct: list[Counts | native.Counts] = []  # alone: a day that is filled is a million events
        self.conflicts = 0
        self.staged = False

    @property
    def can_go_direct(self) -> bool:
        """Rejected events are few and of one table: they are always staged."""
        return self._source.table is not None

    async def rows(self, entries: list[Entry], path: Path) -> Counter[int]:
        """Write the rows of these entries, merged if the direct path meets a repeat. Return the rows really inserted,
        by stream sequence.

        Raises Poison, or what else the database raised; nothing of these entries is written then.
        """
        if path is Path.DIRECT:
            try:
                stored = await self._in_savepoint(entries, self._copy)
            except CONFLICTS:
                self.conflicts += 1
            else:
                self._direct += [entry.parsed.counts for entry in entries]
                return stored
        stored = await self._in_savepoint(entries, self._merge)
        self.staged = True
        return stored

    async def counts(self) -> None:
        """Add what went the direct path to the rollups.

        Raises UndefinedTableError where a leaf that was written is detached.
        """
        if self._source.table is not None and self._days:
            leaves = [leaf(self._source, day) for day in self._days]
            await self._connection.execute(_SQL["require_attached"], self._source.table, leaves)
        counts = self._total(self._direct)
        if not counts.events:
            return
        await self._learn(counts)
        await self._connection.execute(
            _SQL["add_counts"],
            self._source.name,
            self._shard,
            [quarter for quarter, _, _ in counts.events],
            [stage for _, stage, _ in counts.events],
            [event_type for _, _, event_type in counts.events],
            [events for events, _ in counts.events.values()],
            [cents for _, cents in counts.events.values()],
            [quarter for quarter, _, _ in counts.audience],
            [dimension for _, dimension, _ in counts.audience],
            [value for _, _, value in counts.audience],
            list(counts.audience.values()),
        )

    async def _in_savepoint(
        self, entries: list[Entry], write: Callable[[list[Entry], int], Awaitable[Counter[int]]]
    ) -> Counter[int]:
        stored: Counter[int] = Counter()
        try:
            async with self._connection.transaction():
                for day in sorted({day for entry in entries for day in entry.parsed.days} - self._below_floor):
                    self._days.add(day)
                    stored += await write([entry for entry in entries if day in entry.parsed.days], day)
        except asyncpg.PostgresError as error:
            if classify(error) is ErrorClass.POISON:
                raise Poison(error) from error
            raise
        return stored

    async def _copy(self, entries: list[Entry], day: int) -> Counter[int]:
        await self._copy_into(leaf(self._source, day), entries, day)
        return Counter({entry.message.sequence: entry.parsed.days[day].count for entry in entries})

    async def _merge(self, entries: list[Entry], day: int) -> Counter[int]:
        if self._staging_in_use:
            await self._connection.execute(_SQL["empty_staging"])
        self._staging_in_use = True
        await self._copy_into("staging", entries, day)
        if self._source.table is None:
            rows = await self._connection.fetch(_SQL["merge_rejected"])
        else:
            merge = _SOURCES[f"merge_{self._source.name}"]
            await self._learn(self._total(entry.parsed.counts for entry in entries), day)
            rows = await self._connection.fetch(merge.format(partition=leaf(self._source, day)), self._shard)
        return Counter({row["stream_sequence"]: row["stored"] for row in rows})

    async def _copy_into(self, table: str, entries: list[Entry], day: int) -> None:
        rows = [entry.parsed.days[day].copy for entry in entries]
        try:
            # Our limit expires before asyncpg's, which does not end a COPY whose server reads no more data, and raises
            # AttributeError if it expires while the COPY waits to write (asyncpg 0.32, MagicStack/asyncpg#240).
            async with asyncio.timeout(COPY_SECONDS) as limit:
                await self._connection.copy_to_table(
                    table, source=_stream(rows), columns=self._columns, format="binary", timeout=2 * COPY_SECONDS
                )
        except TimeoutError:
            if limit.expired():
                await postgres.end(self._connection)  # a ROLLBACK would wait as long again
            raise

    def _total(self, counts: Iterable[Counts | native.Counts]) -> Counts:
        return total(counts, without_days=self._below_floor)

    async def _learn(self, counts: Counts, of_day: int | None = None) -> None:
        """Let the registry know the countries counted, where it has room for them."""
        countries = sorted(
            {
                value
                for quarter, dimension, value in counts.audience
                if dimension == _COUNTRY and value is not None and of_day in (None, quarter // QUARTERS_IN_DAY)
            }
        )
        if countries and await self._connection.fetch(_SQL["lock_countries"], countries):
            await self._connection.execute(_SQL["learn_countries"], countries)


def staging(source: Source) -> str:
    """The statement that makes the session's staging table."""
    return _SQL["staging"].format(table=source.table) if source.table else _SQL["staging_rejected"]


def leaf(source: Source, day: int) -> str:
    """The name of a day's leaf; the day counts from 2000-01-01."""
    return f"{source.table}_{day_of(day):%Y%m%d}"


def day_of(day: int) -> date:
    """The date of a day that is counted from 2000-01-01."""
    return _FIRST_DAY + timedelta(days=day)


def _place_of(error: asyncpg.PostgresError) -> Place | None:
    """The row at which a COPY into a leaf failed, if PostgreSQL names it."""
    found = _PLACE.match(str(getattr(error, "context", None)))
    if found is None:
        return None
    day = datetime.strptime(found["day"], "%Y%m%d").date() - _FIRST_DAY
    return Place(day.days, int(found["row"]))


async def _stream(rows: list[bytes]) -> AsyncIterator[bytes]:
    """A COPY: the buffers as they are, neither joined nor copied."""
    yield pg_copy.HEADER
    for buffer in rows:
        yield buffer
        if faults.ARMED:
            faults.reached(Point.COPYING)
        await asyncio.sleep(0)  # a large batch must not hold the loop
    yield pg_copy.TRAILER
