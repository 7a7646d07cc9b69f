"""Count the breakdowns of a source after its events are stored.

    ended quarter-hour --count its rows--> valid --add up the parts--> valid hour, day, week
             ^---------- late event -------/

Invariant: a bucket is stored with the number of events counted, which equals the rollups at the time of the count. A
report uses a bucket only while this number equals the rollups. Otherwise the report reads rows: it is slower, but never
wrong. So a bucket may be counted at any time, several times, and by any collector.

The collectors of a source share the work. One collector counts one bucket, then all of them rest. The rest is
the time that the count took, multiplied by a factor. At a high load the factor is REST_FACTOR_BUSY, so counting uses
at most 5 % of a core.
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
"""Maximum number of values that a bucket lists for each breakdown."""
POLL_SECONDS: Final = 5.0
MEASURE_SECONDS: Final = 30.0
TOTALS_INTERVAL_SECONDS: Final = 30.0  # after no total was found
REST_FACTOR_BUSY: Final = 19.0
REST_FACTOR_IDLE: Final = 1.0
BUSY_EVENTS_PER_SECOND: Final = 2_000.0
RECOUNT_AFTER: Final = timedelta(minutes=1)
SKIP_SECONDS: Final = 600.0
COMMAND_SECONDS: Final = 300.0  # detects a dead peer, and bounds a count
_SQL: Final = statements("breakdowns")
_SOURCES_SQL: Final = statements("sources")
log = structlog.get_logger()


class BreakdownsDiffer(SluiceError):
    """A quarter-hour has a different number of rows than the rollups count. Its breakdowns are not written."""

    def __init__(self, source: str, bucket: datetime, rows: int, rolled_up: int) -> None:
        super().__init__(
            f"the breakdowns of {source} at {bucket.isoformat()} are not counted: there are {rows} rows, and the "
            f"rollups count {rolled_up}. Check with `sluice doctor` whether a partition is detached or rows were "
            "deleted"
        )
        self.bucket = bucket


class Bucket(NamedTuple):
    """A bucket that was counted. unit: quarter, hour, day or week."""

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
        """Count the newest quarter-hour that has ended at `until` and is not valid. Return it, or None if none exists.

        recount_after: the minimum time since the last count of a quarter-hour. skipped: quarter-hours to leave out.
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
        """Count an hour, day or week by adding up its valid parts. Return it, or None if none exists.

        within: count only a bucket that contains this instant.
        """
        row = await self._connection.fetchrow(_SQL["find_total"], self._source, until, self._names, within)
        if row is None:
            return None
        unit, finer, start, end, events = row
        async with self._connection.transaction(isolation="repeatable_read"):
            await self._connection.execute(_SQL["set_counting_options"])
            await self._connection.execute(
                _SOURCES_SQL[f"total_breakdowns_{self._source}"], start, self._max_values, finer, end, unit
            )
            # `events` is still the sum of the parts, because only the session with the lock changes parts. If an event
            # came late, the rollups count more than `events`, so the total is not valid.
            await self._record_counted(unit, start, events)
        return Bucket(unit, start)

    async def count_all(self, until: datetime) -> int:
        """Count all buckets that are not valid, and return their number. `sluice fill` uses this."""
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
        """Return the number of quarter-hours that have ended and are not valid."""
        uncounted: int = await self._connection.fetchval(_SQL["count_uncounted"], self._source, until, self._names)
        return uncounted

    async def _count(self, start: datetime) -> None:
        async with self._connection.transaction(isolation="repeatable_read"):
            await self._connection.execute(_SQL["set_counting_options"])
            rolled_up = await self._connection.fetchval(_SQL["rolled_up_events"], self._source, start)
            rows = await self._connection.fetchval(
                _SOURCES_SQL[f"count_breakdowns_{self._source}"], start, self._max_values
            )
            if rows != rolled_up:
                raise BreakdownsDiffer(self._source, start, rows, rolled_up)
            await self._record_counted("quarter", start, rolled_up)
            if ARMED:
                reached(faults.BREAKDOWNS_COUNTED)

    async def _record_counted(self, unit: str, start: datetime, events: int) -> None:
        await self._connection.execute(_SQL["record_counted"], self._source, unit, start, events, self._names)


async def count_breakdowns(dsn: str, source: Source, readiness: Readiness) -> None:
    """Count the breakdowns of a source until cancelled. While counting fails, reports read rows instead."""
    step = metrics.step(source.name, "breakdowns", readiness)
    scheduler = BreakdownScheduler(dsn, source.name)
    try:
        while True:
            if not await step.attempt(scheduler.step()):
                scheduler.close()
            await asyncio.sleep(scheduler.pause_seconds)
    finally:
        scheduler.close()


class BreakdownScheduler:
    """Decides when one collector counts which bucket. pause_seconds: the time to wait before the next step."""

    def __init__(self, dsn: str, source: str) -> None:
        self._dsn = dsn
        self._source = source
        self._connection: Connection | None = None
        self._skipped: dict[datetime, float] = {}
        self._measured_at = self._no_total_at = float("-inf")
        self._load = _Load(source)
        self.pause_seconds = POLL_SECONDS

    async def step(self) -> None:
        """Count one bucket, unless the collectors rest or another one counts.

        Raises BreakdownsDiffer and the errors of the database.
        """
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
                rest = (time.monotonic() - began) * (REST_FACTOR_BUSY if self._load.is_high() else REST_FACTOR_IDLE)
                await connection.execute(_SQL["pause_counting"], self._source, rest)
                self.pause_seconds = min(rest, POLL_SECONDS)
        finally:
            if not connection.is_closed():
                await connection.execute(_SQL["unlock"], self._source)

    async def _count(self, counter: BreakdownCounter, until: datetime) -> bool:
        """Count a quarter-hour and the totals that contain it, or one total if no quarter-hour waits.

        Return whether a bucket was counted.
        """
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
        if now - self._no_total_at < TOTALS_INTERVAL_SECONDS:
            return False
        if await counter.count_total(until):
            return True
        self._no_total_at = now
        return False

    def close(self) -> None:
        """Close the connection, if there is one. PostgreSQL then ends the session and releases its lock."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


class _Load:
    """The rate at which this collector stores events."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._at, self._processed = time.monotonic(), self._read()

    def is_high(self) -> bool:
        """Return whether the rate since the last call is at least BUSY_EVENTS_PER_SECOND."""
        now, processed = time.monotonic(), self._read()
        rate = (processed - self._processed) / max(now - self._at, 0.001)
        self._at, self._processed = now, processed
        return rate >= BUSY_EVENTS_PER_SECOND

    def _read(self) -> float:
        (metric,) = metrics.processed.labels(self._source).collect()
        return next(sample.value for sample in metric.samples if sample.name.endswith("_total"))
