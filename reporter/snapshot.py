"""Read the figures and rows that the read plan of a period lists, from one snapshot of the database."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, Final, NamedTuple, TypeVar

import asyncpg
from asyncpg import Record

from core.postgres import AnyConnection
from core.sources import SourceName
from reporter import breakdowns
from reporter.freshness import Freshness, freshness
from reporter.period import Period
from reporter.query_params import NotAvailable
from reporter.read_plan import ReadPlan, ReadRange, unit_start
from sql import statements as load_statements

Result = TypeVar("Result")

_SQL: Final = load_statements("report_snapshot")
_BREAKDOWNS: Final = load_statements("report_breakdowns")
_NO_ROWS: Final = datetime.max.replace(tzinfo=UTC)


class Statements(NamedTuple):
    """The SQL of a report's figures: one statement on rollups, one on rows for each source. All return `columns`."""

    rollups: str
    rows: Mapping[SourceName, str]
    columns: tuple[str, ...]


SignedFigure = tuple[int, int, SourceName, Sequence[Any]]
"""The number of a bucket, a sign (-1: subtract the values), a source, and the values of `Statements.columns`."""


class Snapshot:
    """One snapshot of the database, for the sources of one report."""

    def __init__(
        self, connection: AnyConnection, sources: Sequence[SourceName], watermarks: Sequence[Record] = ()
    ) -> None:
        self.connection = connection
        self._sources = sources
        self.freshness = self._freshness_of(watermarks)
        """Freshness of each source. Without `watermarks` it is empty until the first figures are read."""
        self.floor: datetime = max((row["floor"] for row in watermarks), default=_NO_ROWS)
        """Rows before this instant are no longer kept."""
        self._floors: dict[str, datetime] = {row["source"]: row["floor"] for row in watermarks}
        self._read_at: datetime = max((row["read_at"] for row in watermarks), default=_NO_ROWS)
        self._planner_settings = "plan_rollups"  # the settings of a new session

    @property
    def stored_until(self) -> datetime | None:
        """The instant up to which every accepted event of all sources is stored.

        None if a source has no watermark, or if `freshness` is not read yet.
        """
        untils = [fresh.stored_until for fresh in self.freshness.values() if fresh.stored_until is not None]
        return min(untils) if len(untils) == len(self._sources) else None

    @property
    def reached(self) -> datetime:
        """The instant that the report has reached: the earliest storedUntil of its sources.

        For a source without a watermark, the time of the snapshot is used. Only in `open_snapshot`.
        """
        return min((fresh.stored_until or self._read_at for fresh in self.freshness.values()), default=self._read_at)

    async def figures(
        self,
        period: Period,
        plan: ReadPlan,
        statements: Statements,
        arguments: Sequence[Any] = (),
        rows_arguments: Sequence[Any] = (),
        *,
        rollups_arguments: Sequence[Any] = (),
    ) -> list[SignedFigure]:
        """Return a period's figures, from the rollups and rows that its plan lists.

        Parameters of `statements.rollups`:
            $1 to $5  one array each: the units, starts, ends, bounds and signs of the ranges
            $6, $7    the plan's rounded bounds, the sources
            $8, …     arguments, then rollups_arguments
        Parameters of each of `statements.rows`:
            $1 to $4  start, end and bound of a range, the plan's rounded bounds
            $5, …     arguments, then rows_arguments

        Both return `bucket`, `bound` and `statements.columns`; `bucket` is NULL if there is a `bound`. The statement on
        rollups returns one record for each source: its watermark, and an array for each column.

        Raises NotAvailable if the plan needs rows that are no longer kept.
        """
        if any(read_range.start < self.floor for read_range in plan.rows):
            raise _rows_not_kept(period, self.floor)
        last = len(period.bounds) - 1
        values_of = itemgetter("bucket", "bound", *statements.columns)
        figures: list[SignedFigure] = []
        if ranges := plan.rollups:
            await self._set_planner("plan_rollups")
            records = await self.connection.fetch(
                statements.rollups,
                *_columns(ranges),
                plan.rounded_bounds,
                self._sources,
                *arguments,
                *rollups_arguments,
            )
            self.freshness = self._freshness_of(records)
            for record in records:
                if record["bucket"] is not None:
                    figures += _figures(zip(*values_of(record), strict=True), last, 1, record["source"])
        if plan.rows:
            await self._set_planner("plan_rows")
        for source in self._sources:
            for read_range in plan.rows:
                rows = await self.connection.fetch(
                    statements.rows[source],
                    *(read_range.start, read_range.end, read_range.bound, plan.rounded_bounds),
                    *arguments,
                    *rows_arguments,
                )
                figures += _figures(map(values_of, rows), last, read_range.sign, source)
        return figures

    async def breakdown(
        self, period: Period, plan: ReadPlan, request: breakdowns.Request, rows_limit: timedelta | None = None
    ) -> list[breakdowns.Bucket]:
        """Return the figures of one breakdown in each bucket of a period. Only in `open_snapshot`.

        rows_limit: the maximum total length of the buckets whose rows are read; None: no limit. Raises NotAvailable if
        the breakdown needs rows of more buckets, or rows that are no longer kept.
        """
        columns = list(_columns(plan.ranges)) or [[], [], [], [], []]
        last = len(period.bounds) - 1
        await self._set_planner("plan_rollups")
        if rows_limit is not None:
            length: timedelta = await self.connection.fetchval(
                _BREAKDOWNS["rows_length"], *columns, request.source, request.breakdown
            )
            if length > rows_limit:
                raise _too_many_rows(request, length, rows_limit)
        records = await self.connection.fetch(
            breakdowns.read_statement(request.source, request.breakdown, request.order),
            *columns,
            plan.rounded_bounds,
            *request.arguments(last),
        )
        rows_since, floor = records[0]["rows_since"], self._floors[request.source]
        if rows_since is not None and rows_since < floor:
            raise _rows_not_kept(period, floor, request)
        return breakdowns.buckets(records, last, request)

    async def rows(self, period: Period, statement: str, *arguments: Any) -> list[Record]:
        """Return the records of a statement on rows. Parameters: start, end, bounds between buckets, arguments."""
        await self._set_planner("plan_rows")
        return await self.connection.fetch(statement, period.start, period.end, period.inner_bounds, *arguments)

    async def known_countries(self) -> list[str]:
        """Return the countries of the registry. Reports add up all other countries as `other`."""
        await self._set_planner("plan_rollups")
        return [row["country"] for row in await self.connection.fetch(_SQL["known_countries"])]

    async def or_timeout(self, read: Callable[[], Awaitable[Result]]) -> Result | None:
        """Return what `read` returns, or None if a statement times out. Only in `open_snapshot`."""
        planner_settings = self._planner_settings
        try:
            async with self.connection.transaction():  # a savepoint: its rollback restores the settings
                return await read()
        except asyncpg.QueryCanceledError:
            self._planner_settings = planner_settings
            return None

    def _freshness_of(self, watermarks: Sequence[Record]) -> dict[SourceName, Freshness]:
        by_source = {row["source"]: row for row in watermarks}
        return {source: freshness(by_source[source]) for source in self._sources if source in by_source}

    async def _set_planner(self, settings: str) -> None:
        if self._planner_settings != settings:
            await self.connection.execute(_SQL[settings])
            self._planner_settings = settings


def _rows_not_kept(period: Period, floor: datetime, request: breakdowns.Request | None = None) -> NotAvailable:
    """Return the error for a period whose figures need rows that are no longer kept."""
    off_quarter = next((bound for bound in period.bounds if unit_start(bound, "quarter") != bound), None)
    if off_quarter is None and request is not None:
        return NotAvailable(
            "from",
            f"events before {floor.isoformat()} were deleted before all of them were counted by {request.words}: "
            "let the range start at that instant or later",
        )
    at = off_quarter or period.start
    return NotAvailable(
        {period.start: "from", period.end: "to"}.get(at, "interval"),
        f"{at.isoformat()} is inside a quarter-hour, and before {floor.isoformat()} only counts of whole quarter-hours "
        "are kept: let from, to and every bucket start on a quarter-hour (:00, :15, :30, :45 UTC)",
    )


def _too_many_rows(request: breakdowns.Request, length: timedelta, limit: timedelta) -> NotAvailable:
    hour = timedelta(hours=1)
    return NotAvailable(
        "from",
        f"{length / hour:,.1f} hours of the range are not counted by {request.words} yet, and the reporter reads "
        f"at most {limit / hour:,.0f} hours of single events: use a shorter range, or buckets of 15 minutes or more",
    )


def _columns(ranges: Sequence[ReadRange]) -> Iterator[list[Any]]:
    """Return ranges as arrays: units, starts, ends, bounds and signs."""
    return map(list, zip(*((one.unit, one.start, one.end, one.bound, one.sign) for one in ranges), strict=True))


def _figures(rows: Iterable[tuple[Any, ...]], last: int, sign: int, source: SourceName) -> Iterator[SignedFigure]:
    """Yield the figures of rows.

    The events before a bound are added to the bucket that ends there, and subtracted from the bucket that starts there.
    """
    for bucket, bound, *values in rows:
        if bound is None:
            yield bucket, sign, source, values
            continue
        if bound > 0:
            yield bound - 1, sign, source, values
        if bound < last:
            yield bound, -sign, source, values
