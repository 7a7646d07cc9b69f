"""The period of a report: its range of time, its buckets, and the previous period."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import UTC, date, datetime
from itertools import islice, pairwise
from typing import Final, NamedTuple, get_args
from zoneinfo import ZoneInfo

from core.sources.fields import MINUTE_PATTERN, SECOND_PATTERN, ZONE_PATTERN
from reporter import pagination
from reporter.buckets import (
    Interval,
    bucket_bounds,
    day_start,
    is_bucket_start,
    local_instant,
    previous_range,
    year_before,
)
from reporter.parameters import COMPARE, FROM, INTERVAL, MINUTE_RANGE_HOURS, RANGE, TIME_ZONE, TO
from reporter.query_params import MAX_ROWS, BadQuery, Parameter, QueryParams
from reporter.read_plan import ReadPlan, plan_reads
from reporter.relative_range import Relative

EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2101, 1, 1, tzinfo=UTC)

_UTC: Final = ZoneInfo("UTC")
_INSTANT: Final = re.compile(f"{MINUTE_PATTERN}({SECOND_PATTERN})?({ZONE_PATTERN})?")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Period(NamedTuple):
    """A range of time and its buckets, in UTC. bounds: the start of each bucket, then the end of the last one.

    range, now: a relative range as in the query, and the instant that it is relative to.
    """

    start: datetime
    end: datetime
    zone: ZoneInfo
    interval: Interval | None
    bounds: tuple[datetime, ...]
    range: str | None = None
    now: datetime | None = None

    @property
    def inner_bounds(self) -> tuple[datetime, ...]:
        """The bounds between buckets."""
        return self.bounds[1:-1]

    def has_bucket(self, number: int) -> bool:
        """Return whether there is a bucket with this number."""
        return number < len(self.bounds) - 1

    def read_plan(self) -> ReadPlan:
        """Return what to read: rollups, and rows for the rest."""
        return plan_reads(self.bounds, self.interval, datetime.now(UTC))

    def buckets(self, stored_until: datetime | None) -> Iterator[tuple[datetime, datetime, bool]]:
        """Yield start and end of each bucket, with the zone's offset, and whether the bucket is complete.

        A bucket is complete if the range does not cut it and every event accepted before its end is stored.
        stored_until: None if not known.
        """
        last = len(self.bounds) - 2
        reached = -1 if stored_until is None else bisect_right(self.bounds, stored_until) - 2
        local = pairwise(bound.astimezone(self.zone) for bound in self.bounds)
        for number, (start, end) in enumerate(local):
            complete = number <= reached
            if complete and number in (0, last):
                complete = self._is_whole(number)
            yield start, end, complete

    def _is_whole(self, number: int) -> bool:
        return self.interval is None or all(
            is_bucket_start(bound, self.interval, self.zone) for bound in self.bounds[number : number + 2]
        )

    def until(self, at: datetime) -> Period:
        """Return the period cut at an instant: its bucket ends there, and later buckets are left out."""
        if at >= self.end:
            return self
        at = max(at, self.start)
        return self._replace(end=at, bounds=(*(self.bounds[: bisect_left(self.bounds, at)] or self.bounds[:1]), at))


def parse_period(params: QueryParams, groups: int = 1) -> Period:
    """Parse `from` and `to` or `range`, `timeZone` and `interval`. groups: rows of each bucket. Raises BadQuery."""
    zone = params.get(TIME_ZONE) or _UTC
    relative, now = params.get(RANGE), None
    if relative is not None:
        now = pagination.parse_now(params) or datetime.now(UTC)
        start, end = _relative_bounds(params, relative, now, zone)
    else:
        start, end = (_parse_instant(params, parameter, zone) for parameter in (FROM, TO))
    if start >= end:
        raise BadQuery("to", f"has to be after from: {end.isoformat()} is not after {start.isoformat()}")
    interval = params.get(INTERVAL)
    if interval == "minute" and (end - start).total_seconds() > MINUTE_RANGE_HOURS * 3600:
        longer = [name for name in get_args(Interval) if name != "minute"]
        raise BadQuery("interval", f"minute is for ranges up to {MINUTE_RANGE_HOURS} hours", longer)
    max_buckets = MAX_ROWS // groups
    period_bounds = tuple(islice(bucket_bounds(start, end, interval, zone), max_buckets + 2))
    if len(period_bounds) > max_buckets + 1:
        raise BadQuery(
            "interval",
            f"{interval} gives more than {MAX_ROWS} rows ({groups} for each bucket): use a longer interval, "
            "a shorter range or fewer groups",
        )
    return Period(start, end, zone, interval, period_bounds, relative.text if relative else None, now)


def parse_previous_period(params: QueryParams, period: Period) -> Period | None:
    """Return the period of the comparison, None if the query compares nothing. Raises BadQuery."""
    if (compare := params.get(COMPARE)) is None:
        return None
    interval = period.interval if len(period.bounds) > 2 else None  # one bucket is compared with one bucket
    earlier = year_before if compare == "year" else previous_range
    start, end = earlier(period.bounds, interval, period.zone)
    if start < EARLIEST:
        raise BadQuery("compare", f"the previous period starts at {start.isoformat()}, before {EARLIEST.isoformat()}")
    return Period(start, end, period.zone, interval, tuple(bucket_bounds(start, end, interval, period.zone)))


def _relative_bounds(
    params: QueryParams, relative: Relative, now: datetime, zone: ZoneInfo
) -> tuple[datetime, datetime]:
    for parameter in (FROM, TO):
        if params.has(parameter):
            raise BadQuery(parameter.name, "is not allowed with range: use either from and to, or range")
    try:
        start, end = relative.bounds(now, zone)
    except OverflowError:
        start = end = datetime.min.replace(tzinfo=UTC)
    if start < EARLIEST or end > LATEST:
        raise BadQuery(RANGE.name, f"has to be between {EARLIEST.isoformat()} and {LATEST.isoformat()}")
    return start, end


def _parse_instant(params: QueryParams, parameter: Parameter[str], zone: ZoneInfo) -> datetime:
    # A + that is not encoded as %2B arrives as a space, and an instant has no other space.
    name, text = parameter.name, params.required(parameter).replace(" ", "+")
    try:
        if _DATE.fullmatch(text):
            at = day_start(date.fromisoformat(text), zone)
        elif _INSTANT.fullmatch(text):
            given = datetime.fromisoformat(text.upper())
            at = given.astimezone(UTC) if given.tzinfo else local_instant(given, zone)
        else:
            raise BadQuery(
                name,
                f"{text[:100]!r} is neither a date nor a time with at most 9 fractional digits: "
                "use a format such as 2026-11-22, 2026-11-22T07:00 or 2026-11-22T07:00:00Z",
            )
    except (ValueError, OverflowError):
        raise BadQuery(name, f"{text[:100]!r} is a day or time that does not exist") from None
    if not EARLIEST <= at <= LATEST:
        raise BadQuery(name, f"has to be between {EARLIEST.isoformat()} and {LATEST.isoformat()}")
    return at
