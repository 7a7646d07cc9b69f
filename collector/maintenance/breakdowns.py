"""Count the breakdowns of a source after its events are stored.

    quarter-hour has ended, not valid --rows, one transaction--> counted --> hour, day, week that are then complete
        ^---------------------- an event came late ----------------------/

Invariant: what is committed for a bucket counts exactly the events that the rollups hold of it at that moment, and
says how many that are. A report uses the bucket while the rollups still say the same, and reads rows otherwise: it is
never wrong, only slower. So nothing depends on when, how often, or by which collector a bucket is counted.

The collectors of a source share the work: one at a time counts one bucket, then all of them rest. While events are
stored at a high rate they rest REST_BUSY times as long as the count took, so that counting takes at most 5 % of a core.
"""

from __future__ import annotations

import asyncio
import time
from datetime import datetime, timedelta
from typing import Final, NamedTuple

import structlog

from collector import faults, metrics
from collector.sources.source import Source
from core import postgres
from core.errors import SluiceError
from core.faults import ARMED, reached
from core.health import Readiness
from core.postgres import Connection
from core.sources import SOURCES
from sql import statements

MAX_VALUES: Final = 10_000
"""Values that a bucket lists of one breakdown."""
POLL_SECONDS: Final = 5.0
MEASURE_SECONDS: Final = 30.0
REST_BUSY: Final = 19.0
REST_IDLE: Final = 1.0
BUSY_EVENTS_PER_SECOND: Final = 2_000.0
RECOUNT_AFTER: Final = timedelta(minutes=1)
SKIP_SECONDS: Final = 600.0
COMMAND_SECONDS: Final = 300.0  # detects a dead peer, and bounds a count
_SQL: Final = statements("breakdowns")
_COUNT: Final = statements("sources")
log = structlog.get_logger()


class BreakdownsDiffer(SluiceError):
    """The rows of a quarter-hour are not those that the rollups count. Nothing is written for it."""

    def __init__(self, source: str, bucket: datetime, rows: int, rolled_up: int) -> None:
        super().__init__(
            f"the breakdowns of {source} at {bucket.isoformat()} are not counted: there are {rows} rows, and the "
            f"rollups count {rolled_up}. Check with `sluice doctor` whether a partition is detached or rows were "
            "deleted"
        )
        self.bucket = bucket


class Bucket(NamedTuple):
    """What was counted: a quarter, hour, day or week, and its start."""

    unit: str
    start: datetime


class BreakdownCounter:
    """Counts the buckets of one source over one connection."""

    def __init__(self, connection: Connection, source: str, max_values: int = MAX_VALUES) -> None:
        self._connection = connection
        self._source = source
        self._names = list(SOURCES[source].breakdowns)
        self._max_values = max_values

    async def count_quarter(
        self, until: datetime, recount_after: timedelta = RECOUNT_AFTER, skipped: tuple[datetime, ...] = ()
    ) -> Bucket | None:
        """Count the newest quarter-hour before `until` that is not valid; None if there is none.

        Raises BreakdownsDiffer.
        """
        start = await self._connection.fetchval(
            _SQL["find_quarter"], self._source, until, self._names, recount_after, list(skipped)
        )
        if start is None:
            return None
        try:
            await self._count(start)
        except BreakdownsDiffer:
            if await self._connection.fetchval(_SQL["is_kept"], self._source, start):
                raise
            log.debug("the rows were dropped meanwhile", source=self._source, bucket=start.isoformat())
        return Bucket("quarter", start)

    async def count_total(self, until: datetime, within: datetime | None = None) -> Bucket | None:
        """Count an hour, day or week whose parts are counted, from these; None if there is none.

        within: only one that holds this instant.
        """
        row = await self._connection.fetchrow(_SQL["find_total"], self._source, until, self._names, within)
        if row is None:
            return None
        unit, finer, start, end, events = row
        async with self._connection.transaction(isolation="repeatable_read"):
            await self._connection.execute(_SQL["set_counting_options"])
            await self._connection.execute(
                _COUNT[f"total_breakdowns_{self._source}"], start, self._max_values, finer, end, unit
            )
            # The sum of the parts, which only the holder of the lock changes; a late event makes it invalid.
            await self._record_counted(unit, start, events)
        return Bucket(unit, start)

    async def count_all(self, until: datetime) -> int:
        """Count all that is not valid; how many buckets that were. For a database that was filled."""
        counted = 0
        await self._connection.execute(_SQL["lock"], self._source)
        try:
            while await self.count_quarter(until, timedelta(0)):
                counted += 1
            while await self.count_total(until):
                counted += 1
        finally:
            await self._connection.execute(_SQL["unlock"], self._source)
        return counted

    async def uncounted(self, until: datetime) -> int:
        """How many quarter-hours have ended and are not valid."""
        found: int = await self._connection.fetchval(_SQL["count_uncounted"], self._source, until, self._names)
        return found

    async def _count(self, start: datetime) -> None:
        async with self._connection.transaction(isolation="repeatable_read"):
            await self._connection.execute(_SQL["set_counting_options"])
            rolled_up = await self._connection.fetchval(_SQL["rolled_up_events"], self._source, start)
            rows = await self._connection.fetchval(_COUNT[f"count_breakdowns_{self._source}"], start, self._max_values)
            if rows != rolled_up:
                raise BreakdownsDiffer(self._source, start, rows, rolled_up)
            await self._record_counted("quarter", start, rolled_up)
            if ARMED:
                reached(faults.BREAKDOWNS_COUNTED)

    async def _record_counted(self, unit: str, start: datetime, events: int) -> None:
        await self._connection.execute(_SQL["record_counted"], self._source, unit, start, events, self._names)


async def count_breakdowns(dsn: str, source: Source, readiness: Readiness) -> None:
    """Count the breakdowns of a source for ever, a step at a time. Reports read rows while that fails."""
    step = metrics.step(source.name, "breakdowns", readiness)
    counting = BreakdownCounting(dsn, source.name)
    try:
        while True:
            if not await step.attempt(counting.step()):
                counting.close()
            await asyncio.sleep(counting.pause_seconds)
    finally:
        counting.close()


class BreakdownCounting:
    """The steps of one collector. `pause_seconds` is how long to wait after the last one."""

    def __init__(self, dsn: str, source: str) -> None:
        self._dsn = dsn
        self._source = source
        self._connection: Connection | None = None
        self._skipped: dict[datetime, float] = {}
        self._measured_at = self._totals_at = float("-inf")
        self._load = _Load(source)
        self.pause_seconds = POLL_SECONDS

    async def step(self) -> None:
        """Count one bucket if it is this collector's turn. Raises BreakdownsDiffer, and what the database raises."""
        self.pause_seconds = POLL_SECONDS
        if self._connection is None:
            self._connection = await postgres.connect(
                self._dsn, name="sluice-breakdowns", patience_seconds=5, command_seconds=COMMAND_SECONDS
            )
        connection = self._connection
        state = await connection.fetchrow(_SQL["counting_state"], self._source)
        assert state is not None
        if (until := state["stored_until"]) is None:
            return
        counter = BreakdownCounter(connection, self._source)
        if time.monotonic() - self._measured_at > MEASURE_SECONDS:
            metrics.breakdown_uncounted.labels(self._source).set(await counter.uncounted(until))
            self._measured_at = time.monotonic()
        if state["rest_seconds"] > 0:
            self.pause_seconds = min(state["rest_seconds"], POLL_SECONDS)
            return
        if not await connection.fetchval(_SQL["try_lock"], self._source):
            return
        try:
            began = time.monotonic()
            if await self._count(counter, until):
                rest = (time.monotonic() - began) * (REST_BUSY if self._load.is_high() else REST_IDLE)
                await connection.execute(_SQL["pause_counting"], self._source, rest)
                self.pause_seconds = min(rest, POLL_SECONDS)
        finally:
            if not connection.is_closed():
                await connection.execute(_SQL["unlock"], self._source)

    async def _count(self, counter: BreakdownCounter, until: datetime) -> bool:
        """Count the next quarter-hour and what it completes, or else one total; whether there was one."""
        now = time.monotonic()
        self._skipped = {start: since for start, since in self._skipped.items() if now - since < SKIP_SECONDS}
        try:
            quarter = await counter.count_quarter(until, skipped=tuple(self._skipped))
        except BreakdownsDiffer as error:
            self._skipped[error.bucket] = now
            raise
        if quarter is not None:
            metrics.breakdown_quarters.labels(self._source).inc()
            metrics.breakdown_seconds.labels(self._source).observe(time.monotonic() - now)
            while await counter.count_total(until, within=quarter.start):
                pass
            return True
        if now - self._totals_at < MEASURE_SECONDS:
            return False
        if await counter.count_total(until):
            return True
        self._totals_at = now
        return False

    def close(self) -> None:
        """Close the connection, if there is one. The server ends what it still does, and its lock with it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


class _Load:
    """Whether this collector stores events at a high rate."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at, self._processed = time.monotonic(), self._read()

    def is_high(self) -> bool:
        """Whether it stored at least BUSY_EVENTS_PER_SECOND since the last call."""
        now, processed = time.monotonic(), self._read()
        rate = (processed - self._processed) / max(now - self._at, 0.001)
        self._at, self._processed = now, processed
        return rate >= BUSY_EVENTS_PER_SECOND

    def _read(self) -> float:
        (metric,) = metrics.processed.labels(self._source).collect()
        return next(sample.value for sample in metric.samples if sample.name.endswith("_total"))
