"""Rollups and signed rows together count every event once, in its own bucket."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from reporter.buckets import Interval
from reporter.read_plan import LENGTHS, ReadPlan, ReadRange, Unit, plan_reads, unit_start

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
MONDAY = datetime(2026, 11, 23, tzinfo=UTC)
LATER = NOON + timedelta(days=100)

# Few distinct instants, many at the ends of units: bounds and events often meet.
instants = st.builds(
    lambda minute, shift: NOON + timedelta(minutes=minute, microseconds=shift),
    st.one_of(
        st.sampled_from(range(0, 121, 15)),
        st.integers(0, 120),
        st.integers(-48, 48).map(lambda hour: 60 * hour),
        st.integers(-30, 30).map(lambda day: 24 * 60 * day + 12 * 60),
    ),
    st.sampled_from((0, 0, 0, 1, -1, 30_000_000)),
)
intervals = st.sampled_from((None, *get_args(Interval)))


def counted(plan: ReadPlan, bounds: list[datetime], events: Iterable[datetime]) -> Counter[int]:
    """What the database and the reader make of a plan."""
    found: Counter[int] = Counter()
    for event in events:
        for part in plan.ranges:
            at = event if part.unit == "rows" else unit_start(event, part.unit)
            if not part.start <= at < part.end:
                continue
            if part.bound is None:
                found[bisect_right(plan.rounded_bounds, at)] += part.sign
            else:
                found[part.bound - 1] += part.sign
                found[part.bound] -= part.sign
    return Counter({number: count for number, count in found.items() if count and 0 <= number < len(bounds) - 1})


@given(
    bounds=st.lists(instants, min_size=2, max_size=6, unique=True).map(sorted),
    interval=intervals,
    events=st.lists(instants, max_size=40),
    now=st.one_of(instants, st.just(LATER)),
)
@example(bounds=[NOON, NOON + timedelta(minutes=14)], interval=None, events=[NOON + timedelta(minutes=14)], now=NOON)
def test_each_event_counts_once_in_its_bucket(
    bounds: list[datetime], interval: str | None, events: list[datetime], now: datetime
) -> None:
    """Whatever the bounds and units, the buckets hold what counting the events one by one gives."""
    expected = Counter(bisect_right(bounds, event) - 1 for event in events if bounds[0] <= event < bounds[-1])
    assert counted(plan_reads(bounds, interval, now), bounds, events) == expected


@given(bounds=st.lists(instants, min_size=2, max_size=2, unique=True).map(sorted), interval=intervals)
def test_a_bound_costs_little(bounds: list[datetime], interval: str | None) -> None:
    """A bound of the past reads at most 7.5 minutes of rows, and of each unit at most half of the next one."""
    plan = plan_reads(bounds, interval, LATER)
    if bounds[1] - bounds[0] < LENGTHS["quarter"] or interval == "minute":
        return
    units: tuple[Unit, ...] = get_args(Unit)
    for part in plan.ranges:
        if part.bound is not None:
            following = LENGTHS[units[units.index(part.unit) + 1]]
            assert part.end - part.start <= following / 2


def test_until_now_reads_no_rows_of_the_past() -> None:
    """A range that ends now takes the running quarter-hour's rollup, less what lies after now: next to nothing."""
    now = NOON + timedelta(minutes=14)
    end = NOON + LENGTHS["quarter"]
    plan = plan_reads([NOON - timedelta(hours=1), now], "15minutes", now)
    assert plan.rows == [ReadRange("rows", now, end, 1, -1)]


def test_minutes_are_read_from_rows_in_one_go() -> None:
    """An hour by minutes needs no rollup and one part of rows."""
    plan = plan_reads([NOON + timedelta(minutes=minute) for minute in range(61)], "minute", NOON)
    assert plan.ranges == (ReadRange("rows", NOON, NOON + timedelta(hours=1), None, 1),)


@pytest.mark.parametrize(
    ("step", "interval", "unit"),
    [("quarter", "15minutes", "quarter"), ("hour", "hour", "hour"), ("day", "day", "day"), ("week", "week", "week")],
)
def test_whole_units_are_read_as_they_are(step: Unit, interval: str, unit: Unit) -> None:
    """Buckets that are units need nothing else, and no row."""
    bounds = [MONDAY + LENGTHS[step] * number for number in range(5)]
    assert plan_reads(bounds, interval, LATER) == ReadPlan(
        (ReadRange(unit, bounds[0], bounds[-1], None, 1),), tuple(bounds[1:-1])
    )


def test_a_month_by_days_of_another_zone_reads_few_hours() -> None:
    """Days that begin at 23:00 UTC are those of UTC, give or take an hour at each end of one."""
    bounds = [MONDAY - timedelta(hours=1) + timedelta(days=day) for day in range(31)]
    plan = plan_reads(bounds, "day", LATER)
    assert [part.unit for part in plan.ranges] == ["hour"] * 31 + ["day"]


def test_hours_of_a_half_hour_zone_come_from_quarter_hours() -> None:
    """Hours that begin at half past would each be taken apart again."""
    bounds = [NOON + timedelta(minutes=30, hours=hour) for hour in range(30)]
    assert {part.unit for part in plan_reads(bounds, "hour", LATER).ranges} == {"quarter"}
