"""Write the rows of a batch: directly into their leaf partitions, or staged and merged if an event is repeated.

    rows --COPY--> leaf --all are new--> counts of the parser --> rollups
              \\--unique violation, deadlock--> rollback to the savepoint
    rows --COPY--> staging --merge--> leaf, and rollups of the rows inserted

Invariant: both paths produce the same rows and rollups. The direct path inserts all rows or none, so the parser's
counts are those of the rows inserted. Both paths write to the leaf by its name. Whether it is attached is checked after
the rows are written: from then on, their locks block a DETACH until the transaction ends.
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
from collector.store.batch import Entry, RowPosition, WritePath
from core import faults, native, postgres
from core.pg_errors import ErrorClass, classify
from core.postgres import Connection
from sql import statements

_SQL: Final = statements("store")
_SOURCES: Final = statements("sources")
_FIRST_DAY: Final = date(2000, 1, 1)
_COUNTRY: Final = "country"
_POSITION: Final = re.compile(r"COPY \w+_(?P<day>\d{8}), \D*(?P<row>\d+)")  # matches every language of the server
MAX_STAGED_BATCHES: Final = 64
COMMAND_SECONDS: Final = 20.0  # a batch takes well under a second; bounds the wait on a dead connection
COPY_SECONDS: Final = COMMAND_SECONDS


# Errors after which a direct batch is staged: a repeated event, or two collectors that wait for each other's keys.
CONFLICTS: Final = (asyncpg.UniqueViolationError, asyncpg.DeadlockDetectedError)


class DirectCopyBackoff:
    """Selects the path of the next batch: direct, or staged for a while after a conflict.

    Each conflict in a row doubles the batches that are staged, from 1 up to 64: if repeats are common, a COPY that is
    rolled back costs more than it saves. A success of the direct path resets the count.
    """

    def __init__(self) -> None:
        self._staged = 0  # batches still to be staged
        self._next_staged = 1

    def next_path(self) -> WritePath:
        """Return the path for the next batch."""
        if not self._staged:
            return WritePath.DIRECT
        self._staged -= 1
        return WritePath.STAGED

    def record(self, *, conflicts: int) -> None:
        """Record how many conflicts a batch on the direct path had."""
        self._staged = self._next_staged if conflicts else 0
        self._next_staged = min(self._next_staged * 2, MAX_STAGED_BATCHES) if conflicts else 1


class Poison(Exception):
    """PostgreSQL rejected a row. detail is the error without the row; position is the row, if PostgreSQL names it."""

    def __init__(self, error: asyncpg.PostgresError) -> None:
        # Only the message: it names a constraint, never a row. PostgreSQL's DETAIL would repeat personal data.
        self.detail = f"{error.sqlstate}: {error.args[0]}"
        self.position = _position_of(error)
        super().__init__(self.detail)


class BatchWriter:
    """Writes a batch within one transaction: `write_rows` for each part of it, `write_rollups` once at the end.

    conflicts   direct writes that were rolled back
    staged      whether any rows were staged
    """

    def __init__(self, connection: Connection, source: Source, shard: int, below_floor: set[int]) -> None:
        self._connection = connection
        self._source = source
        self._shard = shard
        self._below_floor = below_floor
        self._columns = copied_columns(source)
        self._days: set[int] = set()  # days whose leaves were written
        self._staging_in_use = False  # whether staging may hold rows of another day or part
        self._direct: list[
            Counts | native.Counts
        ] = []  # one by one, because `bench.fill` writes a million events per transaction
        self.conflicts = 0
        self.staged = False

    @property
    def supports_direct(self) -> bool:
        """Whether the direct path exists for this source. Rejected events are few: they are always staged."""
        return self._source.table is not None

    async def write_rows(self, entries: list[Entry], path: WritePath) -> Counter[int]:
        """Write the rows of these entries; stage and merge them if the direct path has a conflict.

        Return the number of rows inserted, by stream sequence.
        Raises Poison, or what else the database raised; then no row of these entries is written.
        """
        if path is WritePath.DIRECT:
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

    async def write_rollups(self) -> None:
        """Add the counts of all direct writes to the rollups; the merge of staged rows has added theirs.

        Raises UndefinedTableError if a leaf that was written is detached.
        """
        if self._source.table is not None and self._days:
            leaves = [leaf(self._source, day) for day in self._days]
            await self._connection.execute(_SQL["require_attached"], self._source.table, leaves)
        counts = self._total(self._direct)
        if not counts.events:
            return
        await self._register_countries(counts)
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
            await self._register_countries(self._total(entry.parsed.counts for entry in entries), day)
            rows = await self._connection.fetch(merge.format(partition=leaf(self._source, day)), self._shard)
        return Counter({row["stream_sequence"]: row["stored"] for row in rows})

    async def _copy_into(self, table: str, entries: list[Entry], day: int) -> None:
        rows = [entry.parsed.days[day].copy for entry in entries]
        try:
            # This limit expires before asyncpg's. In asyncpg 0.32, its own does not end a COPY whose server reads no
            # more data, and raises AttributeError while the COPY waits to write (MagicStack/asyncpg#240).
            async with asyncio.timeout(COPY_SECONDS) as limit:
                await self._connection.copy_to_table(
                    table, source=_copy_stream(rows), columns=self._columns, format="binary", timeout=2 * COPY_SECONDS
                )
        except TimeoutError:
            if limit.expired():
                await postgres.close(self._connection)  # a ROLLBACK would wait as long again
            raise

    def _total(self, counts: Iterable[Counts | native.Counts]) -> Counts:
        return total(counts, without_days=self._below_floor)

    async def _register_countries(self, counts: Counts, day: int | None = None) -> None:
        """Add the countries of these counts, or of one day of them, to the registry while it has free places."""
        countries = sorted(
            {
                value
                for quarter, dimension, value in counts.audience
                if dimension == _COUNTRY and value is not None and day in (None, quarter // QUARTERS_IN_DAY)
            }
        )
        if countries and await self._connection.fetch(_SQL["lock_country_registry"], countries):
            await self._connection.execute(_SQL["register_countries"], countries)


def staging(source: Source) -> str:
    """Return the statement that creates the session's staging table."""
    return _SQL["staging"].format(table=source.table) if source.table else _SQL["staging_rejected"]


def leaf(source: Source, day: int) -> str:
    """Return the name of a day's leaf partition. day counts from 2000-01-01."""
    return f"{source.table}_{day_of(day):%Y%m%d}"


def day_of(day: int) -> date:
    """Return the date of a day that counts from 2000-01-01."""
    return _FIRST_DAY + timedelta(days=day)


def _position_of(error: asyncpg.PostgresError) -> RowPosition | None:
    """Return the row at which a COPY into a leaf failed, if PostgreSQL names it."""
    match = _POSITION.match(str(getattr(error, "context", None)))
    if match is None:
        return None
    day = datetime.strptime(match["day"], "%Y%m%d").date() - _FIRST_DAY
    return RowPosition(day.days, int(match["row"]))


async def _copy_stream(rows: list[bytes]) -> AsyncIterator[bytes]:
    """Yield the buffers of a COPY, neither joined nor copied."""
    yield pg_copy.HEADER
    for buffer in rows:
        yield buffer
        if faults.ARMED:
            faults.reached(Point.COPYING)
        await asyncio.sleep(0)  # do not block the event loop for a large batch
    yield pg_copy.TRAILER
