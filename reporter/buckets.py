"""Cut a period into the buckets of an interval, as clocks in a time zone show it.

Invariant: buckets follow one another without gap or overlap, from the first instant of the period to its last, so
every instant lies in exactly one. The first and the last bucket may be cut short by the period itself.

    minute, 15minutes, hour  a bucket begins wherever the local clock shows a multiple of the interval; an hour that
                             the clock goes through twice is two buckets. Where the clock jumps by less than the
                             interval (Lord Howe Island: half an hour), the jump begins a bucket too.
    day, week, month         a bucket begins with its first day, at the first instant that the local clock shows
                             that day: usually midnight, 01:00 where midnight is skipped. Weeks begin on Monday.
"""

from __future__ import annotations

from bisect import bisect_right
from calendar import monthrange
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import Final, Literal

Interval = Literal["minute", "15minutes", "hour", "day", "week", "month"]

_STEPS: Final[dict[str, timedelta]] = {
    "minute": timedelta(minutes=1),
    "15minutes": timedelta(minutes=15),
    "hour": timedelta(hours=1),
}
_EPOCH: Final = datetime(2000, 1, 1)  # local time: whatever the zone, its clock shows 00:00 then
_ZERO: Final = timedelta(0)
_MICROSECOND: Final = timedelta(microseconds=1)


def bucket_bounds(start: datetime, end: datetime, interval: Interval | None, zone: tzinfo) -> Iterator[datetime]:
    """The instants (UTC) at which buckets begin, then `end`: one more than there are buckets.

    start lies before end, both are in UTC. Without an interval the whole period is one bucket.
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
    """Whether a bucket of this interval begins at this instant (UTC)."""
    return next(_bucket_starts(at - _MICROSECOND, interval, zone)) == at


@lru_cache(10_000)
def day_start(day: date, zone: tzinfo) -> datetime:
    """The first instant (UTC) at which the local clock shows this day, or a later one where the day was skipped."""
    midnight = datetime.combine(day, time(), zone)
    before, after = midnight.astimezone(UTC), midnight.replace(fold=1).astimezone(UTC)
    # Where the clock skips midnight, the two readings of it lie around the jump.
    return _offset_change(after, before, zone) if after < before else before


def previous_range(bounds: Sequence[datetime], interval: Interval | None, zone: tzinfo) -> tuple[datetime, datetime]:
    """The period before (UTC) one with these bounds of buckets: of the same buckets, by the same clocks.

    Before whole months lie as many months, unless they are cut into weeks; before whole days as many days, unless they
    are cut into weeks or months. Any other is moved back by whole intervals, as few as do, or without an interval by
    its own length. Raises OverflowError where it would lie before the year 1.
    """
    start, end = bounds[0], bounds[-1]
    first, last = start.astimezone(zone).date(), end.astimezone(zone).date()
    if _whole_days(bounds, zone):
        if first.day == last.day == 1 and interval != "week":
            months = (last.year - first.year) * 12 + last.month - first.month
            return day_start(_months_before(first, months), zone), start
        if interval not in ("week", "month"):
            return day_start(first - (last - first), zone), start
    if interval is None:
        return start - (end - start), start
    fewest = len(bounds) - 2
    back = fewest if _moved_back(end, fewest, interval, zone) <= start else fewest + 1
    return _moved_back(start, back, interval, zone), _moved_back(end, back, interval, zone)


def same_point(
    at: datetime,
    bounds: Sequence[datetime],
    previous_bounds: Sequence[datetime],
    interval: Interval | None,
    zone: tzinfo,
) -> datetime:
    """The instant (UTC) of the previous period that corresponds to `at`, which lies in the period [bounds[0],
    bounds[-1]).

    bounds, before: bounds of buckets of the period and of the previous one. `at` has passed a part of its bucket; the
    instant has passed the same part of the bucket beside it, or is that bucket's end if the bucket is shorter. Parts of
    whole days are counted by the days of the local clock, then by the time since the day's start; other parts by time.
    The end of the previous period if it has no bucket beside that of `at`.
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


def _moved_back(at: datetime, back: int, interval: Interval, zone: tzinfo) -> datetime:
    """As long after the start of the day, or of the hour, so many intervals earlier; within that day."""
    if interval in _STEPS:
        return at - back * _STEPS[interval]
    day = at.astimezone(zone).date()
    if interval == "month":
        before = _months_before(day, back)
    else:
        before = day - timedelta(days=back if interval == "day" else 7 * back)
    return min(day_start(before, zone) + (at - day_start(day, zone)), day_start(before + timedelta(days=1), zone))


def _months_before(day: date, months: int) -> date:
    """The same day of an earlier month, or the last one of that month."""
    year, month = divmod(day.year * 12 + day.month - 1 - months, 12)
    return date(year, month + 1, min(day.day, monthrange(year, month + 1)[1]))


def _bucket_starts(start: datetime, interval: Interval, zone: tzinfo) -> Iterator[datetime]:
    """Each instant after start at which a bucket begins."""
    return _step_starts(start, _STEPS[interval], zone) if interval in _STEPS else _day_starts(start, interval, zone)


def _step_starts(start: datetime, step: timedelta, zone: tzinfo) -> Iterator[datetime]:
    """Each instant after start at which the local clock shows a multiple of step."""
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
    """Return how far the local clock is past a multiple of step."""
    return (at.replace(tzinfo=None) + offset - _EPOCH) % step


def _day_starts(start: datetime, interval: str, zone: tzinfo) -> Iterator[datetime]:
    """The start of each day, week or month that begins after start."""
    day = start.astimezone(zone).date()
    at = start
    while True:
        match interval:
            case "day":
                day += timedelta(days=1)
            case "week":
                day += timedelta(days=7 - day.weekday())
            case _:
                day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
        if (begin := day_start(day, zone)) > at:  # a day that was skipped begins where the next one does
            yield begin
            at = begin


def _offset(at: datetime, zone: tzinfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or _ZERO


def _offset_change(low: datetime, high: datetime, zone: tzinfo) -> datetime:
    """The first instant after low whose offset is no longer that of low. The clock jumps once in (low, high]."""
    offset = _offset(low, zone)
    while high - low > _MICROSECOND:
        middle = low + (high - low) // 2
        low, high = (middle, high) if _offset(middle, zone) == offset else (low, middle)
    return high
