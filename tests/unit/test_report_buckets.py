"""Buckets: no gap, no overlap, and where people's clocks say."""

from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import get_args
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reporter.buckets import (
    Interval,
    bucket_bounds,
    calendar_start,
    day_start,
    is_bucket_start,
    next_bucket_start,
    previous_range,
)

ZONES = (
    "UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe",
    "America/Sao_Paulo", "Pacific/Apia", "America/St_Johns", "Africa/Casablanca",
)  # fmt: skip
STEPS = {"minute": 1, "15minutes": 15, "hour": 60}

instants = st.datetimes(datetime(2000, 1, 2), datetime(2099, 12, 1), timezones=st.just(UTC))


def cut(start: str, end: str, interval: Interval, zone: str) -> list[str]:
    """Starts of buckets, as local clocks show them, with the end of the last one."""
    first, last = (datetime.fromisoformat(text).astimezone(UTC) for text in (start, end))
    return [
        bound.astimezone(ZoneInfo(zone)).isoformat() for bound in bucket_bounds(first, last, interval, ZoneInfo(zone))
    ]


@given(
    start=instants,
    length=st.timedeltas(timedelta(microseconds=1), timedelta(days=3)),
    interval=st.sampled_from(get_args(Interval)),
    zone=st.sampled_from(ZONES).map(ZoneInfo),
)
def test_every_instant_lies_in_one_bucket(
    start: datetime, length: timedelta, interval: Interval, zone: ZoneInfo
) -> None:
    """Buckets rise from the first instant of the period to its last, and none is longer than its interval."""
    found = list(bucket_bounds(start, start + length, interval, zone))
    assert found[0] == start
    assert found[-1] == start + length
    assert all(begin < end for begin, end in pairwise(found))
    if interval in STEPS:
        assert all(end - begin <= timedelta(minutes=STEPS[interval]) for begin, end in pairwise(found))


@given(
    start=instants,
    length=st.timedeltas(timedelta(hours=1), timedelta(days=2)),
    interval=st.sampled_from(tuple(STEPS)),
    zone=st.sampled_from(ZONES).map(ZoneInfo),
)
def test_clocks_show_one_interval_throughout_a_bucket(
    start: datetime, length: timedelta, interval: Interval, zone: ZoneInfo
) -> None:
    """From its first to its last instant a bucket's clock stays within one multiple of the interval."""
    step = timedelta(minutes=STEPS[interval])
    for begin, end in pairwise(bucket_bounds(start, start + length, interval, zone)):
        first, last = (at.astimezone(zone).replace(tzinfo=None) for at in (begin, end - timedelta(microseconds=1)))
        if end - begin == last - first + timedelta(microseconds=1):  # the clock did not jump by a multiple of it
            assert (first - datetime(2000, 1, 1)) // step == (last - datetime(2000, 1, 1)) // step


@pytest.mark.parametrize("zone", ZONES)
def test_a_day_begins_at_the_first_instant_of_its_date(zone: str) -> None:
    """One microsecond earlier the clock still shows an earlier date; a skipped date begins where the next does."""
    day = date(2000, 1, 2)
    while day < date(2040, 1, 1):
        begin = day_start(day, ZoneInfo(zone))
        assert begin.astimezone(ZoneInfo(zone)).date() >= day
        assert (begin - timedelta(microseconds=1)).astimezone(ZoneInfo(zone)).date() < day
        day += timedelta(days=1)


def test_the_hour_that_comes_twice_is_two_buckets() -> None:
    """In Berlin's long night 02:00 comes at +02:00 and again at +01:00; in the short one it does not come."""
    assert cut("2026-10-25T00:00+00:00", "2026-10-25T03:00+00:00", "hour", "Europe/Berlin") == [
        "2026-10-25T02:00:00+02:00",
        "2026-10-25T02:00:00+01:00",
        "2026-10-25T03:00:00+01:00",
        "2026-10-25T04:00:00+01:00",
    ]
    assert cut("2026-03-29T00:00+00:00", "2026-03-29T02:00+00:00", "hour", "Europe/Berlin") == [
        "2026-03-29T01:00:00+01:00",
        "2026-03-29T03:00:00+02:00",
        "2026-03-29T04:00:00+02:00",
    ]


def test_days_are_23_and_25_hours_long() -> None:
    """Days of a change of clocks end at midnight all the same."""
    for day, hours in ((date(2026, 3, 29), 23), (date(2026, 10, 25), 25), (date(2026, 7, 1), 24)):
        berlin = ZoneInfo("Europe/Berlin")
        length = day_start(day + timedelta(days=1), berlin) - day_start(day, berlin)
        assert length == timedelta(hours=hours)


def test_half_hour_zones_have_their_own_hours() -> None:
    """In Kolkata an hour begins at half past of UTC."""
    assert cut("2026-11-22T00:10+00:00", "2026-11-22T01:40+00:00", "hour", "Asia/Kolkata") == [
        "2026-11-22T05:40:00+05:30",
        "2026-11-22T06:00:00+05:30",
        "2026-11-22T07:00:00+05:30",
        "2026-11-22T07:10:00+05:30",
    ]


def test_a_jump_of_half_an_hour_begins_a_bucket() -> None:
    """On Lord Howe Island clocks go from 02:00 back to 01:30, and months later from 02:00 on to 02:30."""
    assert cut("2026-04-04T14:00+00:00", "2026-04-04T16:30+00:00", "hour", "Australia/Lord_Howe") == [
        "2026-04-05T01:00:00+11:00",
        "2026-04-05T01:30:00+10:30",
        "2026-04-05T02:00:00+10:30",
        "2026-04-05T03:00:00+10:30",
    ]
    assert cut("2026-10-03T14:30+00:00", "2026-10-03T17:00+00:00", "hour", "Australia/Lord_Howe") == [
        "2026-10-04T01:00:00+10:30",
        "2026-10-04T02:30:00+11:00",
        "2026-10-04T03:00:00+11:00",
        "2026-10-04T04:00:00+11:00",
    ]


def test_a_skipped_day_is_no_bucket() -> None:
    """Samoa went from 29 to 31 December 2011."""
    assert cut("2011-12-29T10:00+00:00", "2011-12-31T10:00+00:00", "day", "Pacific/Apia") == [
        "2011-12-29T00:00:00-10:00",
        "2011-12-31T00:00:00+14:00",
        "2012-01-01T00:00:00+14:00",
    ]


def test_weeks_begin_on_monday_and_months_on_the_first() -> None:
    """The first and the last bucket are cut short by the period."""
    assert cut("2026-11-22T12:00+00:00", "2026-12-08T00:00+00:00", "week", "UTC") == [
        "2026-11-22T12:00:00+00:00",
        "2026-11-23T00:00:00+00:00",
        "2026-11-30T00:00:00+00:00",
        "2026-12-07T00:00:00+00:00",
        "2026-12-08T00:00:00+00:00",
    ]
    assert cut("2026-12-31T12:00+00:00", "2027-03-01T00:00+00:00", "month", "UTC") == [
        "2026-12-31T12:00:00+00:00",
        "2027-01-01T00:00:00+00:00",
        "2027-02-01T00:00:00+00:00",
        "2027-03-01T00:00:00+00:00",
    ]


def test_quarters_and_years_begin_on_the_first() -> None:
    """Quarters begin in January, April, July and October, at the first instant of the day in local time."""
    assert cut("2026-11-22T12:00+00:00", "2027-07-02T00:00+00:00", "quarter", "Europe/Berlin") == [
        "2026-11-22T13:00:00+01:00",
        "2027-01-01T00:00:00+01:00",
        "2027-04-01T00:00:00+02:00",
        "2027-07-01T00:00:00+02:00",
        "2027-07-02T02:00:00+02:00",
    ]
    assert cut("2024-02-29T00:00+00:00", "2026-01-01T00:00+00:00", "year", "UTC") == [
        "2024-02-29T00:00:00+00:00",
        "2025-01-01T00:00:00+00:00",
        "2026-01-01T00:00:00+00:00",
    ]


@given(
    start=instants,
    interval=st.sampled_from(("day", "week", "month", "quarter", "year")),
    zone=st.sampled_from(ZONES).map(ZoneInfo),
)
def test_the_calendar_around_an_instant(start: datetime, interval: Interval, zone: ZoneInfo) -> None:
    """The period around an instant begins at or before it, ends after it, and is one bucket."""
    begin, end = calendar_start(start, interval, zone), next_bucket_start(start, interval, zone)
    assert begin <= start < end
    assert list(bucket_bounds(begin, end, interval, zone)) == [begin, end]
    assert is_bucket_start(begin, interval, zone)


def test_every_zone_keeps_to_quarter_hours() -> None:
    """Since 2000 no zone's offset breaks quarter-hours: buckets of a quarter-hour and more come from rollups alone."""
    moments = [datetime(year, month, 15, tzinfo=UTC) for year in range(2000, 2101, 4) for month in (1, 4, 7, 10)]
    odd = {
        (name, offset)
        for name in available_timezones()
        for offset in {moment.astimezone(ZoneInfo(name)).utcoffset() for moment in moments}
        if offset is not None and offset % timedelta(minutes=15)
    }
    assert not odd


def lengths(start: datetime, end: datetime, interval: Interval) -> list[timedelta]:
    return [after - begin for begin, after in pairwise(bucket_bounds(start, end, interval, UTC))]


@given(
    start=instants,
    length=st.timedeltas(timedelta(microseconds=1), timedelta(days=40)),
    interval=st.sampled_from(("15minutes", "hour", "day", "week")),
    whole=st.booleans(),
)
def test_a_bucket_stands_beside_one_as_long(
    start: datetime, length: timedelta, interval: Interval, whole: bool
) -> None:
    """The period before is cut into as many buckets, each as long as the one that it stands beside, and is over when
    this one begins; whole months are as many months instead."""
    end = start + length
    if whole:
        start, end = (at.replace(hour=0, minute=0, second=0, microsecond=0) for at in (start, end + timedelta(days=1)))
    cut = tuple(bucket_bounds(start, end, interval, UTC))
    assume(len(cut) > 2 and not (whole and start.day == end.day == 1))
    before = previous_range(cut, interval, UTC)
    assert before[1] <= start
    assert start - before[1] < max(timedelta(days=7) if interval == "week" else timedelta(days=1), length)
    assert lengths(*before, interval) == lengths(start, end, interval)


@pytest.mark.parametrize(
    ("start", "end", "interval", "zone", "before"),
    [
        ("2026-11-01", "2026-12-01", "day", "UTC", ("2026-10-01", "2026-11-01")),
        ("2026-01-01", "2026-04-01", "month", "Europe/Berlin", ("2025-10-01", "2026-01-01")),
        ("2026-11-01", "2026-12-01", "week", "UTC", ("2026-09-27", "2026-10-27")),
        ("2026-11-23", "2026-11-30", "week", "UTC", ("2026-11-16", "2026-11-23")),
        ("2026-11-16", "2026-11-26", "week", "UTC", ("2026-11-02", "2026-11-12")),
        ("2026-10-20", "2026-10-30", "day", "Europe/Berlin", ("2026-10-10", "2026-10-20")),
        ("2026-10-20", "2026-10-30", "hour", "Europe/Berlin", ("2026-10-10", "2026-10-20")),
        ("2026-08-30", "2026-11-28", "month", "Asia/Kolkata", ("2026-05-30", "2026-08-28")),
        ("2026-11-24T12:00", "2026-11-26", "day", "UTC", ("2026-11-22T12:00", "2026-11-24")),
        ("2026-10-24T12:00", "2026-10-26T09:00", "day", "Europe/Berlin", ("2026-10-22T12:00", "2026-10-24T09:00")),
        ("2026-10-24", "2026-10-25T23:30", "day", "Europe/Berlin", ("2026-10-22", "2026-10-24")),  # 24.5 hours on
        ("2026-11-28T10:30", "2026-11-28T13:00", "hour", "UTC", ("2026-11-28T07:30", "2026-11-28T10:00")),
        ("2026-11-28T10:30", "2026-11-28T13:00", None, "UTC", ("2026-11-28T08:00", "2026-11-28T10:30")),
        ("2026-11-24", "2026-11-26", None, "UTC", ("2026-11-22", "2026-11-24")),
        ("2026-01-01", "2026-07-01", "quarter", "Europe/Berlin", ("2025-07-01", "2026-01-01")),
        ("2026-01-01", "2026-05-01", "quarter", "UTC", ("2025-07-01", "2025-11-01")),  # 3 months and 1, not 1 and 3
        ("2025-01-01", "2027-01-01", "year", "UTC", ("2023-01-01", "2025-01-01")),
        ("2024-07-01", "2026-01-01", "year", "UTC", ("2022-07-01", "2024-01-01")),
    ],
)
def test_the_period_before(start: str, end: str, interval: Interval | None, zone: str, before: tuple[str, str]) -> None:
    """Months before months, days before days, and otherwise the same time of the hour, day, week or month."""
    clock = ZoneInfo(zone)
    first, last, *expected = (datetime.fromisoformat(text).replace(tzinfo=clock) for text in (start, end, *before))
    cut = tuple(bucket_bounds(first.astimezone(UTC), last.astimezone(UTC), interval, clock))
    assert [*previous_range(cut, interval, clock)] == expected
