"""Split a period into buckets of an interval, by the local time of a time zone.

Invariant: buckets cover the period without gap or overlap, so every instant of it lies in exactly one bucket. The
period's own start and end may cut the first and the last bucket short.

    minute, 15minutes, hour  A bucket starts at each multiple of the interval in local time. An hour that local time
                             repeats is two buckets. If the offset changes by less than the interval (Lord Howe
                             Island: half an hour), the change starts a bucket too.
    day, week, month,        A bucket starts at the first instant of its first day in local time. This is midnight,
    quarter, year            or 01:00 if the offset change skips midnight. Weeks start on Monday. Quarters start in
                             January, April, July and October.
"""

from __future__ import annotations

from bisect import bisect_right
from calendar import monthrange
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Final, Literal

Interval = Literal["minute", "15minutes", "hour", "day", "week", "month", "quarter", "year"]

_STEPS: Final[dict[str, timedelta]] = {
    "minute": timedelta(minutes=1),
    "15minutes": timedelta(minutes=15),
    "hour": timedelta(hours=1),
}
_MONTHS: Final[dict[str, int]] = {"month": 1, "quarter": 3, "year": 12}
_YEAR_OF_WEEKS: Final = 52
_EPOCH: Final = datetime(2000, 1, 1)  # local time in any zone: a multiple of every step
_ZERO: Final = timedelta(0)
_MICROSECOND: Final = timedelta(microseconds=1)


def bucket_bounds(start: datetime, end: datetime, interval: Interval | None, zone: tzinfo) -> Iterator[datetime]:
    """Yield the start (UTC) of each bucket, then `end`: one instant more than there are buckets.

    start and end are in UTC, start < end. Without an interval the whole period is one bucket.
    """
    yield start
    if interval is not None:
        for begin in _bucket_starts(start, interval, zone):
            if begin >= end:
                break
            yield begin
    yield end


@lru_cache(10_000)
def is_bucket_start(at: datetime, interval: Interval, zone: tzinfo) -> bool:
    """Return whether a bucket of this interval starts at this instant (UTC)."""
    return next(_bucket_starts(at - _MICROSECOND, interval, zone)) == at


def local_instant(local: datetime, zone: tzinfo) -> datetime:
    """Return the instant (UTC) of a local time, the first one if local time repeats.

    Raises ValueError if local time skips it.
    """
    at = local.replace(tzinfo=zone).astimezone(UTC)
    if at.astimezone(zone).replace(tzinfo=None) != local:
        raise ValueError(f"{local} does not exist")
    return at


def next_bucket_start(at: datetime, interval: Interval, zone: tzinfo) -> datetime:
    """Return the first instant (UTC) after `at` at which a bucket starts."""
    return next(_bucket_starts(at, interval, zone))


def calendar_start(at: datetime, interval: Interval, zone: tzinfo) -> datetime:
    """Return the start (UTC) of the day, week, month, quarter or year that holds an instant."""
    return day_start(_first_day(at.astimezone(zone).date(), interval), zone)


@lru_cache(10_000)
def day_start(day: date, zone: tzinfo) -> datetime:
    """Return the first instant (UTC) of a day in local time, or of the next day if the zone skipped this one."""
    midnight = datetime.combine(day, time(), zone)
    before, after = midnight.astimezone(UTC), midnight.replace(fold=1).astimezone(UTC)
    # If local time skips midnight, the two values of `fold` give instants before and after the change.
    return _offset_change(after, before, zone) if after < before else before


def previous_range(bounds: Sequence[datetime], interval: Interval | None, zone: tzinfo) -> tuple[datetime, datetime]:
    """Return start and end (UTC) of the period that comes before one with these bucket bounds, in local time.

    The period before whole months has as many months, unless its buckets would not match: they are weeks, or quarters
    or years of which the period is no multiple. The period before whole days has as many days, unless buckets are
    longer than days. Any other period is moved back by the fewest whole intervals that avoid an overlap, or by its own
    length if there is no interval. Raises OverflowError before the year 1.
    """
    start, end = bounds[0], bounds[-1]
    first, last = start.astimezone(zone).date(), end.astimezone(zone).date()
    if _whole_days(bounds, zone):
        months = (last.year - first.year) * 12 + last.month - first.month
        if first.day == last.day == 1 and interval != "week" and months % _MONTHS.get(interval or "", 1) == 0:
            return day_start(_months_before(first, months), zone), start
        if interval not in ("week", *_MONTHS):
            return day_start(first - (last - first), zone), start
    if interval is None:
        return start - (end - start), start
    fewest = len(bounds) - 2
    back = fewest if moved_back(end, fewest, interval, zone) <= start else fewest + 1
    return moved_back(start, back, interval, zone), moved_back(end, back, interval, zone)


def year_before(bounds: Sequence[datetime], interval: Interval | None, zone: tzinfo) -> tuple[datetime, datetime]:
    """Return start and end (UTC) of the period one year before one with these bucket bounds, by the local calendar.

    29 February becomes 28 February. Weeks are moved back by 52 weeks, so that they match. Raises OverflowError before
    the year 1.
    """
    start, end = bounds[0], bounds[-1]
    if interval == "week":
        before, until = (moved_back(at, _YEAR_OF_WEEKS, "week", zone) for at in (start, end))
    else:
        before, until = (moved_back(at, 1, "year", zone) for at in (start, end))
    # 28 February 12:00 to 29 February 6:00 would end before it starts.
    return before, until if until > before else before + (end - start)


def same_point(
    at: datetime,
    bounds: Sequence[datetime],
    previous_bounds: Sequence[datetime],
    interval: Interval | None,
    zone: tzinfo,
) -> datetime:
    """Return the instant (UTC) of the previous period that corresponds to `at`; bounds[0] <= at < bounds[-1].

    bounds, previous_bounds: bucket bounds of the period and of the previous one, in UTC. The result is as far into its
    bucket as `at` is, or the end of that bucket if it is shorter. Buckets of whole days count local days first, then
    the time since the start of the day. Returns the previous period's end if it has no bucket with this number.
    """
    number = bisect_right(bounds, at) - 1
    if number >= len(previous_bounds) - 1:
        return previous_bounds[-1]
    start, end = previous_bounds[number], previous_bounds[number + 1]
    if interval in _STEPS or (interval is None and not _whole_days(bounds, zone)):
        return min(start + (at - bounds[number]), end)
    today, first, then = (instant.astimezone(zone).date() for instant in (at, bounds[number], start))
    moved = day_start(then + (today - first), zone) + (at - day_start(today, zone))
    return max(min(moved, end), start)


def _whole_days(bounds: Sequence[datetime], zone: tzinfo) -> bool:
    return all(day_start(bound.astimezone(zone).date(), zone) == bound for bound in (bounds[0], bounds[-1]))


def moved_back(at: datetime, back: int, interval: Interval, zone: tzinfo) -> datetime:
    """Return `at` moved back by some intervals, at the same time after the start of its day, within that day."""
    if interval in _STEPS:
        return at - back * _STEPS[interval]
    day = at.astimezone(zone).date()
    if months := _MONTHS.get(interval):
        before = _months_before(day, back * months)
    else:
        before = day - timedelta(days=back if interval == "day" else 7 * back)
    return min(day_start(before, zone) + (at - day_start(day, zone)), day_start(before + timedelta(days=1), zone))


def _first_day(day: date, interval: str) -> date:
    """Return the first day of the day, week, month, quarter or year that holds a day."""
    match interval:
        case "day":
            return day
        case "week":
            return day - timedelta(days=day.weekday())
    months = _MONTHS[interval]
    return day.replace(month=(day.month - 1) // months * months + 1, day=1)


def _months_before(day: date, months: int) -> date:
    """Return the same day of an earlier month, or the last day of that month if it is shorter."""
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def _bucket_starts(start: datetime, interval: Interval, zone: tzinfo) -> Iterator[datetime]:
    """Yield each instant after start at which a bucket starts."""
    return _step_starts(start, _STEPS[interval], zone) if interval in _STEPS else _day_starts(start, interval, zone)


def _step_starts(start: datetime, step: timedelta, zone: tzinfo) -> Iterator[datetime]:
    """Yield each instant after start that is a multiple of step in local time."""
    offset = _offset(start, zone)
    at = start
    to_next = step - _past_multiple(at, offset, step)
    while True:
        following = at + to_next
        to_next = step
        if (new := _offset(following, zone)) != offset:
            if (new - offset) % step:
                following = _offset_change(at, following, zone)
            offset = new
            to_next -= _past_multiple(following, offset, step)
        yield following
        at = following


def _past_multiple(at: datetime, offset: timedelta, step: timedelta) -> timedelta:
    """Return how long after a multiple of step local time is."""
    return (at.replace(tzinfo=None) + offset - _EPOCH) % step


def _day_starts(start: datetime, interval: str, zone: tzinfo) -> Iterator[datetime]:
    """Yield the start of each day, week, month, quarter or year that starts after `start`."""
    day = start.astimezone(zone).date()
    at = start
    while True:
        match interval:
            case "day":
                day += timedelta(days=1)
            case "week":
                day += timedelta(days=7 - day.weekday())
            case _:
                day = _months_before(_first_day(day, interval), -_MONTHS[interval])
        if (begin := day_start(day, zone)) > at:  # a day that the zone skipped starts when the next day does
            yield begin
            at = begin


def _offset(at: datetime, zone: tzinfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or _ZERO


def _offset_change(low: datetime, high: datetime, zone: tzinfo) -> datetime:
    """Return the first instant after low with another offset. The offset changes once in (low, high]."""
    offset = _offset(low, zone)
    while high - low > _MICROSECOND:
        middle = low + (high - low) // 2
        low, high = (middle, high) if _offset(middle, zone) == offset else (low, middle)
    return high
