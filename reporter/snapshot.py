"""Read figures and rows from one moment of the database, as a plan says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Final, NamedTuple

import asyncpg
from asyncpg import Record

from core.postgres import AnyConnection
from core.sources import SourceName
from reporter.freshness import Freshness, freshness
from reporter.period import Period
from reporter.query_params import BadQuery
from reporter.read_plan import ReadPlan, ReadRange, unit_start
from sql import statements as load_statements

_SQL: Final = load_statements("report_snapshot")
_NO_ROWS: Final = datetime.max.replace(tzinfo=UTC)


class Statements(NamedTuple):
    """What a report reads: its figures from the rollups, and from each source's rows; and their columns."""

    rollups: str
    rows: Mapping[SourceName, str]
    columns: tuple[str, ...]


Figure = tuple[int, int, SourceName, Sequence[Any]]
"""A bucket, a sign (-1 where the values are to be taken away), a source, and values of the columns of `Statements`."""


class Snapshot:
    """One moment of the database, for the sources of one report."""

    def __init__(
        self, connection: AnyConnection, sources: Sequence[SourceName], watermarks: Sequence[Record] = ()
    ) -> None:
        self.connection = connection
        self._sources = sources
        self.freshness = self._fresh(watermarks)
        """By source; without `watermarks` it comes with the first figures."""
        self.floor: datetime = max((row["floor"] for row in watermarks), default=_NO_ROWS)
        """Rows before this instant are no longer kept."""
        self._read_at: datetime = max((row["read_at"] for row in watermarks), default=_NO_ROWS)
        self._planner_settings = "plan_rollups"  # the session's own settings

    @property
    def stored_until(self) -> datetime | None:
        """Up to which instant everything accepted of all these sources is stored; None: not known of each. Known with
        `freshness`."""
        untils = [fresh.stored_until for fresh in self.freshness.values() if fresh.stored_until is not None]
        return min(untils) if len(untils) == len(self._sources) else None

    @property
    def reached(self) -> datetime:
        """As far as this moment reaches in time: the earliest of the sources' storedUntil, where it is not known the
        time of the reading. In a `snapshot` alone."""
        return min((fresh.stored_until or self._read_at for fresh in self.freshness.values()), default=self._read_at)

    async def figures(
        self,
        period: Period,
        plan: ReadPlan,
        statements: Statements,
        arguments: Sequence[Any] = (),
        filters: Sequence[Any] = (),
        *,
        of_rollups: Sequence[Any] = (),
    ) -> list[Figure]:
        """A period's figures from rollups and rows, as they are planned.

        `statements.rollups` takes ($1 to $5 ranges: unit, start, end, bound, sign; $6 where buckets meet, $7 sources,
        arguments..., of_rollups...) and returns for each source its watermark and an array for each column;
        `statements.rows` of a source takes ($1 start, $2 end, $3 bound, $4 where buckets meet, arguments...,
        filters...) and returns the columns. Both return `bucket`, which is NULL where there is a `bound`, and
        `statements.columns`. Raises BadQuery where rows are needed that are no longer kept.
        """
        if any(part.start < self.floor for part in plan.rows):
            raise self._rows_not_kept(period)
        last = len(period.bounds) - 1
        values_of = itemgetter("bucket", "bound", *statements.columns)
        figures: list[Figure] = []
        if ranges := plan.rollups:
            await self._set_planner("plan_rollups")
            records = await self.connection.fetch(
                statements.rollups, *_columns(ranges), plan.inner_bounds, self._sources, *arguments, *of_rollups
            )
            self.freshness = self._fresh(records)
            for record in records:
                if record["bucket"] is not None:
                    figures += _figures(zip(*values_of(record), strict=True), last, 1, record["source"])
        if plan.rows:
            await self._set_planner("plan_rows")
        for source in self._sources:
            for part in plan.rows:
                rows = await self.connection.fetch(
                    statements.rows[source], part.start, part.end, part.bound, plan.inner_bounds, *arguments, *filters
                )
                figures += _figures(map(values_of, rows), last, part.sign, source)
        return figures

    async def rows(self, period: Period, statement: str, *arguments: Any) -> list[Record]:
        """A period's records from rows alone; the statement takes ($1 start, $2 end, $3 where buckets meet, ...)."""
        if period.start < self.floor:
            raise BadQuery("from", f"is for ranges from {self.floor.isoformat()} on: older rows are not kept")
        await self._set_planner("plan_rows")
        return await self.connection.fetch(statement, period.start, period.end, period.inner_bounds, *arguments)

    async def rows_or_timeout(self, period: Period, statement: str, *arguments: Any) -> list[Record] | None:
        """As `rows`; None where it takes too long, and the report may go on without. In a `snapshot` alone."""
        await self._set_planner("plan_rows")  # before the savepoint: settings go with it
        try:
            async with self.connection.transaction():  # a savepoint
                return await self.rows(period, statement, *arguments)
        except asyncpg.QueryCanceledError:
            return None

    def _fresh(self, watermarks: Sequence[Record]) -> dict[SourceName, Freshness]:
        of = {row["source"]: row for row in watermarks}
        return {source: freshness(of[source]) for source in self._sources if source in of}

    async def _set_planner(self, settings: str) -> None:
        if self._planner_settings != settings:
            await self.connection.execute(_SQL[settings])
            self._planner_settings = settings

    def _rows_not_kept(self, period: Period) -> BadQuery:
        ragged = next((bound for bound in period.bounds if unit_start(bound, "quarter") != bound), period.start)
        return BadQuery(
            {period.start: "from", period.end: "to"}.get(ragged, "interval"),
            f"{ragged.isoformat()} needs events one by one, which are kept from {self.floor.isoformat()} on. Before, "
            "they are kept as counts of quarter-hours: let from, to and every bucket begin on one (:00, :15, :30, :45 "
            "UTC), and ask for what the rollups hold",
        )


def _columns(ranges: Sequence[ReadRange]) -> Iterator[list[Any]]:
    """Spans as arrays: units, starts, ends, bounds and signs."""
    return map(list, zip(*((part.unit, part.start, part.end, part.bound, part.sign) for part in ranges), strict=True))


def _figures(rows: Iterable[tuple[Any, ...]], last: int, sign: int, source: SourceName) -> Iterator[Figure]:
    """Rows as figures of buckets. What lies before a bound is of the bucket that it ends, not of the next."""
    for bucket, bound, *values in rows:
        if bound is None:
            yield bucket, sign, source, values
            continue
        if bound > 0:
            yield bound - 1, sign, source, values
        if bound < last:
            yield bound, -sign, source, values
