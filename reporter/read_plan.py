"""Decide which figures come from the rollups, in which units, and which from the rows.

Events are counted by quarter-hour, hour, day and week (UTC). All events before a bound of the report are those before
the nearest end of a week, and between the two some days, hours, quarter-hours and rows, added or taken away:

             week                    bound        week
    ----------|----|----|----|----|-..|-|----|----|---------
              |  +day +day +day    +hour +quarter +rows
    what comes after the nearer end is taken away; a bucket is what lies before its end less what lies before its start

So each bound costs at most 3 days, 12 hours, 2 quarter-hours and half a quarter-hour of rows, whatever the zone, and a
report's cost does not depend on how many events there are. Reports with short buckets use short units alone.

Invariant: buckets of whole units (`inner_bounds` tells where they meet) and the signed ranges of each bound together
count each event of the period once, in its own bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final, Literal, NamedTuple

Unit = Literal["rows", "quarter", "hour", "day", "week"]

LENGTHS: Final[dict[Unit, timedelta]] = {
    "quarter": timedelta(minutes=15),
    "hour": timedelta(hours=1),
    "day": timedelta(days=1),
    "week": timedelta(days=7),
}
_ORIGIN: Final = datetime(2000, 1, 3, tzinfo=UTC)  # a Monday, as unit_start() in the schema
_ZERO: Final = timedelta(0)
# The longest unit of use for buckets of an interval. Longer ones would be taken apart again at each bound.
_COARSEST_UNIT: Final[dict[str | None, Unit]] = {
    "minute": "rows",
    "15minutes": "quarter",
    "hour": "hour",
    "day": "day",
}


class ReadRange(NamedTuple):
    """Whole units, or rows, with start <= time < end.

    bound   the number of the bound at which they are added to, or taken away from, all that lies before it; None: they
            fall into the buckets by themselves
    sign    1 where they are added, -1 where they are taken away
    """

    unit: Unit
    start: datetime
    end: datetime
    bound: int | None
    sign: int


class ReadPlan(NamedTuple):
    """What has to be read, and where buckets meet: in the units of the ranges without a bound."""

    ranges: tuple[ReadRange, ...]
    inner_bounds: tuple[datetime, ...]

    @property
    def rollups(self) -> list[ReadRange]:
        return [part for part in self.ranges if part.unit != "rows"]

    @property
    def rows(self) -> list[ReadRange]:
        return [part for part in self.ranges if part.unit == "rows"]


def plan_reads(bounds: Sequence[datetime], interval: str | None, now: datetime) -> ReadPlan:
    """What has to be read for a report with these bounds of buckets (ascending instants in UTC, at least two).

    `now` only weighs what is cheaper: few events lie after it.
    """
    units = _units(bounds, interval)
    marks: list[datetime] = []
    ranges: list[ReadRange] = []
    longest = LENGTHS[units[-1]] if units else None
    for number, bound in enumerate(bounds):
        if longest and not (bound - _ORIGIN) % longest:  # nearly all bounds are the start of such a unit
            marks.append(bound)
            continue
        at: datetime = bound
        finer: Unit = "rows"
        for unit in units:
            if (nearest := _nearest(at, unit, now)) != at:
                ranges.append(ReadRange(finer, min(at, nearest), max(at, nearest), number, 1 if nearest < at else -1))
            at, finer = nearest, unit
        marks.append(at)
    if marks[0] < marks[-1]:
        coarsest_unit: Unit = units[-1] if units else "rows"
        ranges.append(ReadRange(coarsest_unit, marks[0], marks[-1], None, 1))
    return ReadPlan(tuple(ranges), tuple(marks[1:-1]))


def unit_start(at: datetime, unit: Unit) -> datetime:
    """The start of the unit that holds this instant."""
    return at - (at - _ORIGIN) % LENGTHS[unit]


def _units(bounds: Sequence[datetime], interval: str | None) -> list[Unit]:
    """The units to use, short ones first; none: rows alone."""
    coarsest_unit = _COARSEST_UNIT.get(interval, "week")
    if coarsest_unit == "hour" and any(unit_start(bound, "hour") != bound for bound in bounds[1:-1]):
        coarsest_unit = "quarter"  # hours of a half-hour zone are not those of UTC
    units: list[Unit] = []
    length = bounds[-1] - bounds[0]
    for unit, step in LENGTHS.items():
        if coarsest_unit == "rows" or length < (step if unit == "quarter" else 2 * step):
            break
        units.append(unit)
        if unit == coarsest_unit:
            break
    return units


def _nearest(at: datetime, unit: Unit, now: datetime) -> datetime:
    """The end of a unit between which and this instant there is least to read."""
    start = unit_start(at, unit)
    if start == at:
        return at
    end = start + LENGTHS[unit]
    before, after = (_length(low, high, now) for low, high in pairwise((start, at, end)))
    return end if after <= before else start


def _length(start: datetime, end: datetime, now: datetime) -> timedelta:
    return max(min(end, now) - start, _ZERO)
