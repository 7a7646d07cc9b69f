"""Plan the reads of a report: which figures come from rollups, in which units, and which from rows.

Rollups count events by quarter-hour, hour, day and week (UTC). The events before a bound are
those before the nearest start of a week, plus or minus the units and rows between the two:

             week                    bound        week
    ----------|----|----|----|----|-..-|-|----|----|---------
              |  +day +day +day    +hour +quarter +rows
    a step to the right adds its events, a step to the left subtracts them

The events of a bucket are those before its end, minus those before its start. So each bound costs at most 3 days, 12
hours, 2 quarter-hours and half a quarter-hour of rows, in any time zone. The cost of a report does not depend on the
number of events. Reports with short buckets use short units only.

Invariant: the units between rounded bounds, plus the signed ranges of the bounds, count each event of the period once,
in its own bucket.
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
# The longest useful unit for buckets of an interval. A longer unit would have to be split at each bound.
_COARSEST_UNIT: Final[dict[str | None, Unit]] = {
    "minute": "rows",
    "15minutes": "quarter",
    "hour": "hour",
    "day": "day",
}


class ReadRange(NamedTuple):
    """Rows or whole units to read, with start <= time < end.

    bound   the number of a bound: the range corrects the number of events before it. None: the time of each unit and
            `ReadPlan.rounded_bounds` determine its bucket
    sign    1: add the events of the range, -1: subtract them
    """

    unit: Unit
    start: datetime
    end: datetime
    bound: int | None
    sign: int


class ReadPlan(NamedTuple):
    """The ranges to read.

    rounded_bounds: the bounds between buckets, rounded to the unit of the range that has no bound.
    """

    ranges: tuple[ReadRange, ...]
    rounded_bounds: tuple[datetime, ...]

    @property
    def rollups(self) -> list[ReadRange]:
        return [read_range for read_range in self.ranges if read_range.unit != "rows"]

    @property
    def rows(self) -> list[ReadRange]:
        return [read_range for read_range in self.ranges if read_range.unit == "rows"]


def plan_reads(bounds: Sequence[datetime], interval: str | None, now: datetime) -> ReadPlan:
    """Return the plan for these bounds: ascending instants in UTC, at least two.

    `now` only affects which of two ranges is cheaper: few events have a time after it.
    """
    units = _units(bounds, interval)
    rounded: list[datetime] = []
    ranges: list[ReadRange] = []
    longest = LENGTHS[units[-1]] if units else None
    for number, bound in enumerate(bounds):
        if longest and not (bound - _ORIGIN) % longest:  # true of nearly all bounds
            rounded.append(bound)
            continue
        at: datetime = bound
        finer: Unit = "rows"
        for unit in units:
            if (nearest := _nearest(at, unit, now)) != at:
                ranges.append(ReadRange(finer, min(at, nearest), max(at, nearest), number, 1 if nearest < at else -1))
            at, finer = nearest, unit
        rounded.append(at)
    if rounded[0] < rounded[-1]:
        coarsest_unit: Unit = units[-1] if units else "rows"
        ranges.append(ReadRange(coarsest_unit, rounded[0], rounded[-1], None, 1))
    return ReadPlan(tuple(ranges), tuple(rounded[1:-1]))


def unit_start(at: datetime, unit: Unit) -> datetime:
    """Return the start of the unit that holds this instant."""
    return at - (at - _ORIGIN) % LENGTHS[unit]


def _units(bounds: Sequence[datetime], interval: str | None) -> list[Unit]:
    """Return the units to use, short ones first. The list is empty if the plan reads only rows."""
    coarsest_unit = _COARSEST_UNIT.get(interval, "week")
    if coarsest_unit == "hour" and any(unit_start(bound, "hour") != bound for bound in bounds[1:-1]):
        coarsest_unit = "quarter"  # hours of a half-hour zone do not match hours of UTC
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
    """Return the start or the end of the unit that holds `at`: the nearer one. Time after `now` does not count."""
    start = unit_start(at, unit)
    if start == at:
        return at
    end = start + LENGTHS[unit]
    before, after = (_length(low, high, now) for low, high in pairwise((start, at, end)))
    return end if after <= before else start


def _length(start: datetime, end: datetime, now: datetime) -> timedelta:
    return max(min(end, now) - start, _ZERO)
