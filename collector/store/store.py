"""Store a batch in one transaction: receipts -> rows -> rollups -> dead letters -> commit.

    message --receipt exists--> skipped (JetStream delivered it again)
       \\--new--> rows are written, on the direct path or staged (write.py) --> rollups
                     \\--poison--> isolated (isolate.py) --> dead letters

Invariant: a receipt, the rows that it counts and the rollups of those rows are written together or not at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

import asyncpg
import structlog

from collector.faults import Point
from collector.parse.parsed import InvalidEvent, Parser
from collector.sources.source import Source
from collector.store.batch import DeadLetter, Entry, Outcome, WritePath, dead_letter
from collector.store.isolate import DeadLimit, PoisonIsolator
from collector.store.write import COMMAND_SECONDS, BatchWriter, DirectCopyBackoff, Poison, day_of, staging
from core import faults, postgres
from core.errors import RetryableError
from core.events import wire
from core.events.dead_reasons import StoreReason
from core.fence import Fence
from core.pg_errors import ErrorClass, classify
from core.postgres import Connection
from sql import statements

_SQL: Final = statements("store")
_PARTITIONS: Final = statements("partitions")
log = structlog.get_logger()


class TooSlow(TimeoutError):
    """A batch exceeded a time-out in its transaction. A smaller batch may be fast enough."""


class NotReplicated(RetryableError):
    """A COMMIT ended before the synchronous standby confirmed it. The batch is lost if the primary fails now."""


class Store:
    """Stores the batches of one collector, over one connection and in one shard of the rollups.

    `parse` parses parts of a message again, to isolate one event. Without a `fence`, any primary is used.
    """

    def __init__(self, dsn: str, source: Source, parse: Parser, fence: Fence | None = None) -> None:
        self._dsn = dsn
        self._fence = fence
        self._source = source
        self._parse = parse
        self.direct_backoff = DirectCopyBackoff()
        self._connection: Connection | None = None
        self._shard = 0
        self._ensured_days: set[int] = set()  # days whose leaf partition exists
        self._warnings: list[str] = []  # cleared before COMMIT, so afterwards those of COMMIT only

    async def close(self) -> None:
        """Close the connection, if there is one. Safe to call twice."""
        connection, self._connection = self._connection, None
        self._ensured_days.clear()
        if connection is not None:
            await postgres.close(connection)

    async def save(self, entries: list[Entry]) -> Outcome:
        """Store one batch. When this returns, the commit is on disk, also on the synchronous standby if there is one.

        Raises TooSlow, NotReplicated, FatalError, or what the database raised (see `core.pg_errors`). After an error,
        nothing is stored, or the primary has stored the whole batch. Then the next attempt finds receipts and skips it.
        """
        connection = await self._connect()
        self._warnings.clear()
        try:
            below_floor = await self._ensure_leaves(connection, entries)
            async with connection.transaction():
                try:
                    outcome = await self._save(connection, entries, below_floor)
                except TimeoutError:  # a ROLLBACK at a frozen server would wait as long again
                    await postgres.close(connection)
                    raise
                self._warnings.clear()
        except Exception as error:
            if classify(error) is ErrorClass.MISSING_PARTITION:
                self._ensured_days.clear()
            if _timed_out(error):
                raise TooSlow(f"{len(entries)} messages exceeded a time limit: {error!r}") from error
            raise
        if self._warnings:  # if the wait for the standby is cancelled, COMMIT succeeds with a warning
            raise NotReplicated(f"COMMIT: {self._warnings[0]}")
        return outcome

    async def _save(self, connection: Connection, entries: list[Entry], below_floor: set[int]) -> Outcome:
        new = await self._insert_receipts(connection, entries)
        outcome = Outcome(skipped_messages=len(entries) - len(new))
        if not new:
            # The standby may not have confirmed the commit of these receipts. A WAL record makes this COMMIT wait for
            # the standby, which then has every earlier commit, too.
            await connection.execute(_SQL["write_wal_record"])
            return outcome
        limit = DeadLimit(new)
        dead_letters = [dead_letter(entry.message, invalid) for entry in new for invalid in entry.parsed.invalid]
        for entry in new:
            dead_letters += self._dead_below_floor(entry, below_floor)
        writer = BatchWriter(connection, self._source, self._shard, below_floor)
        path = self.direct_backoff.next_path() if writer.supports_direct else WritePath.STAGED
        try:
            stored = await writer.write_rows(new, path)
        except Poison as poison:
            isolator = PoisonIsolator(self._parse, writer, limit)
            stored = await isolator.store(new, poison)
            dead_letters += isolator.dead_letters
        if path is WritePath.DIRECT:
            self.direct_backoff.record(conflicts=writer.conflicts)
        await writer.write_rollups()
        if faults.ARMED:
            faults.reached(Point.MERGED)
        await self._insert_dead_letters(connection, dead_letters)
        await self._update_receipts(connection, new, stored, dead_letters)
        outcome.events = sum(entry.parsed.events for entry in new)
        outcome.stored = stored.total()
        outcome.dead_letters = dead_letters
        outcome.path = WritePath.STAGED if writer.staged else WritePath.DIRECT
        outcome.conflicts = writer.conflicts
        return outcome

    async def _insert_receipts(self, connection: Connection, entries: list[Entry]) -> list[Entry]:
        """Insert a receipt for each entry. Return the new entries: an entry that had a receipt is already stored."""
        rows = await connection.fetch(
            _SQL["insert_receipts"],
            self._source.stream,
            [entry.message.sequence for entry in entries],
            [entry.message.published_at for entry in entries],
            [entry.parsed.events for entry in entries],
        )
        inserted = {row["stream_sequence"] for row in rows}
        return [entry for entry in entries if entry.message.sequence in inserted]

    async def _insert_dead_letters(self, connection: Connection, dead_letters: list[DeadLetter]) -> None:
        if not dead_letters:
            return
        await connection.execute(
            _SQL["insert_dead_letters"],
            self._source.stream,
            self._source.name,
            [dead_letter.published_at for dead_letter in dead_letters],
            [dead_letter.stream_sequence for dead_letter in dead_letters],
            [dead_letter.received_at for dead_letter in dead_letters],
            [dead_letter.position for dead_letter in dead_letters],
            [dead_letter.reason for dead_letter in dead_letters],
            [dead_letter.path for dead_letter in dead_letters],
            [dead_letter.detail for dead_letter in dead_letters],
            [dead_letter.correlation_id for dead_letter in dead_letters],
            [dead_letter.event for dead_letter in dead_letters],
        )

    async def _update_receipts(
        self, connection: Connection, entries: list[Entry], stored: Counter[int], dead_letters: Iterable[DeadLetter]
    ) -> None:
        """Correct the receipts of messages of which an event is a repeat or a dead letter. `stored` is by sequence."""
        dead = Counter(dead_letter.stream_sequence for dead_letter in dead_letters)
        differing = [entry for entry in entries if stored[entry.message.sequence] != entry.parsed.events]
        if not differing:
            return
        sequences = [entry.message.sequence for entry in differing]
        await connection.execute(
            _SQL["update_receipts"],
            self._source.stream,
            sequences,
            [entry.message.published_at for entry in differing],
            [stored[sequence] for sequence in sequences],
            [
                entry.parsed.events - stored[entry.message.sequence] - dead[entry.message.sequence]
                for entry in differing
            ],
            [dead[sequence] for sequence in sequences],
        )

    def _dead_below_floor(self, entry: Entry, below_floor: set[int]) -> Iterable[DeadLetter]:
        """Yield dead letters of the events of dropped days. This is rare: the events are older than the retention."""
        if below_floor.isdisjoint(entry.parsed.days):
            return
        parts, lines = wire.decode(entry.message.body)
        for position in range(len(lines)):
            parsed = self._parse(wire.cut(parts, lines, position, position + 1), entry.message.sequence)
            if not below_floor.isdisjoint(parsed.days):
                yield dead_letter(
                    entry.message, InvalidEvent(position, StoreReason.BELOW_FLOOR, "$.timestamp", "its day was dropped")
                )

    async def _ensure_leaves(self, connection: Connection, entries: list[Entry]) -> set[int]:
        """Create the leaf partitions that the batch needs, before its transaction. Return the days below the floor."""
        below_floor: set[int] = set()
        if self._source.table is None:
            return below_floor
        for day in sorted({day for entry in entries for day in entry.parsed.days} - self._ensured_days):
            try:
                result = await connection.fetchval(_PARTITIONS["ensure"], self._source.table, day_of(day))
                if result == "attached":
                    log.warning("partition reattached", table=self._source.table, day=str(day_of(day)))
                self._ensured_days.add(day)
            except asyncpg.CheckViolationError:
                below_floor.add(day)
        return below_floor

    def _record_warning(self, _: object, message: asyncpg.PostgresLogMessage) -> None:
        # Selected by its type, because the text depends on the server's language.
        if isinstance(message, asyncpg.PostgresWarning):
            self._warnings.append(str(message))

    async def _connect(self) -> Connection:
        if self._connection is not None and not self._connection.is_closed():
            if self._fence is not None:
                self._fence.check(self._connection)
            return self._connection
        await self.close()
        connection = await postgres.connect(
            self._dsn,
            name=f"sluice-collector-{self._source.name}",
            patience_seconds=5,
            command_seconds=COMMAND_SECONDS,
            accept=self._fence.accept if self._fence else None,
        )
        # asyncpg 0.32 does not wake a COPY that waits to write if the connection is lost (docs/workarounds.md).
        resume = connection._protocol.resume_writing  # type: ignore[attr-defined]
        connection.add_termination_listener(lambda _: resume())
        connection.add_log_listener(self._record_warning)
        try:
            async with connection.transaction():
                await connection.execute(_SQL["commit_locally"])
                await connection.execute(staging(self._source))
            self._shard = await connection.fetchval(_SQL["acquire_shard"], self._source.name)
        except BaseException:
            connection.terminate()
            raise
        self._connection = connection
        log.info("connected to PostgreSQL", shard=self._shard)
        return connection


def _timed_out(error: BaseException | None) -> bool:
    """Return whether this error, or the one before it, is a time-out: the ROLLBACK after a time-out may fail, too."""
    while error is not None:
        if isinstance(error, TimeoutError | asyncpg.QueryCanceledError):
            return True
        error = error.__context__
    return False
