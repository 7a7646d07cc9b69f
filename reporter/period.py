"""What a report is about: a range of time, cut into buckets, and the period before it."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import UTC, date, datetime
from itertools import islice, pairwise
from typing import Final, NamedTuple, get_args
from zoneinfo import ZoneInfo

from core.sources.fields import MINUTE_PATTERN, SECOND_PATTERN, ZONE_PATTERN
from reporter.buckets import Interval, begins_bucket, bounds, day_start, previous
from reporter.cover import Cover, cover
from reporter.parameters import COMPARE, FROM, INTERVAL, MINUTE_RANGE_HOURS, TIME_ZONE, TO
from reporter.query import MOST_ROWS, BadQuery, Parameter, QueryParams

EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2101, 1, 1, tzinfo=UTC)

_UTC: Final = ZoneInfo("UTC")
_INSTANT: Final = re.compile(f"{MINUTE_PATTERN}({SECOND_PATTERN})?{ZONE_PATTERN}")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Period(NamedTuple):
    """What a report is about: instants in UTC, bounds of buckets included (one more than there are buckets)."""

    start: datetime
    end: datetime
    zone: ZoneInfo
    interval: Interval | None
    bounds: tuple[datetime, ...]

    @property
    def inner_bounds(self) -> tuple[datetime, ...]:
        """Where one bucket ends and the next begins."""
        return self.bounds[1:-1]

    def has(self, number: int) -> bool:
        """Whether there is a bucket of this number."""
        return number < len(self.bounds) - 1

    def cover(self) -> Cover:
        """What rollups and rows together have to be read."""
        return cover(self.bounds, self.interval, datetime.now(UTC))

    def rows(self) -> Cover:
        """The same from rows alone, for what the rollups do not hold."""
        return cover(self.bounds, "minute", datetime.now(UTC))

    def buckets(self, stored_until: datetime | None) -> Iterator[tuple[datetime, datetime, bool]]:
        """Start and end of each bucket, with the zone's offset, and whether it is complete: the range does not cut it,
        and everything that was accepted before its end is stored. stored_until: None if that is not known."""
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
            begins_bucket(bound, self.interval, self.zone) for bound in self.bounds[number : number + 2]
        )

    def until(self, at: datetime) -> Period:
        """The same period as far as this instant: the bucket that holds it is cut there, later ones are left out."""
        if at >= self.end:
            return self
        at = max(at, self.start)
        return self._replace(end=at, bounds=(*(self.bounds[: bisect_left(self.bounds, at)] or self.bounds[:1]), at))


def period_of(params: QueryParams, groups: int = 1) -> Period:
    """`from`, `to`, `timeZone` and, where the report has it, `interval`. groups: rows that each bucket has."""
    zone = params.get(TIME_ZONE) or _UTC
    start, end = (_instant(params, parameter, zone) for parameter in (FROM, TO))
    if start >= end:
        raise BadQuery("to", f"has to lie after from: {end.isoformat()} is not after {start.isoformat()}")
    interval = params.get(INTERVAL)
    if interval == "minute" and (end - start).total_seconds() > MINUTE_RANGE_HOURS * 3600:
        longer = [name for name in get_args(Interval) if name != "minute"]
        raise BadQuery("interval", f"minute is for ranges up to {MINUTE_RANGE_HOURS} hours", longer)
    most = MOST_ROWS // groups
    cut = tuple(islice(bounds(start, end, interval, zone), most + 2))
    if len(cut) > most + 1:
        raise BadQuery(
            "interval",
            f"{interval} makes more than {MOST_ROWS} rows ({groups} in each bucket): ask for a longer interval, "
            "a shorter range or fewer groups",
        )
    return Period(start, end, zone, interval, cut)


def previous_of(params: QueryParams, period: Period) -> Period | None:
    """The period before this one, where it is to be compared with."""
    if params.get(COMPARE) is None:
        return None
    interval = period.interval if len(period.bounds) > 2 else None  # one bucket stands beside one
    start, end = previous(period.bounds, interval, period.zone)
    if start < EARLIEST:
        raise BadQuery("compare", f"the period before begins at {start.isoformat()}, before {EARLIEST.isoformat()}")
    return Period(start, end, period.zone, interval, tuple(bounds(start, end, interval, period.zone)))


def _instant(params: QueryParams, parameter: Parameter[str], zone: ZoneInfo) -> datetime:
    # A + that is not written as %2B arrives as a space, and an instant holds no other one.
    name, text = parameter.name, params.required(parameter).replace(" ", "+")
    try:
        if _DATE.fullmatch(text):
            at = day_start(date.fromisoformat(text), zone)
        elif _INSTANT.fullmatch(text):
            at = datetime.fromisoformat(text.upper()).astimezone(UTC)
        else:
            raise BadQuery(
                name,
                f"{text[:100]!r} is neither a date nor an instant with a zone and at most 9 digits of fraction: "
                "write 2026-11-22 or 2026-11-22T07:00:00Z",
            )
    except (ValueError, OverflowError):
        raise BadQuery(name, f"{text[:100]!r}: there is no such day or time") from None
    if not EARLIEST <= at <= LATEST:
        raise BadQuery(name, f"has to lie between {EARLIEST.isoformat()} and {LATEST.isoformat()}")
    return at
