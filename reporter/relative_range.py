"""Ranges relative to now, such as the last 7 days or this month, in local time of a time zone.

    today, this-week, this-month, this-quarter, this-year       the whole period that holds now
    yesterday, last-week, last-month, last-quarter, last-year   the period before it
    7d, 4w                                                      the last days or weeks, including the current one
    24h, 6h, 30m                                                up to the end of the current hour, quarter-hour, minute

Bounds are bucket starts, so rollups hold nearly all figures, and requests within one step have the same range.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, tzinfo
from typing import Final, NamedTuple

from reporter.buckets import Interval, calendar_start, moved_back, next_bucket_start
from reporter.query_params import BadQuery, Parameter

_NAMED: Final[dict[str, tuple[int, Interval]]] = {
    "today": (0, "day"),
    "yesterday": (1, "day"),
    "this-week": (0, "week"),
    "last-week": (1, "week"),
    "this-month": (0, "month"),
    "last-month": (1, "month"),
    "this-quarter": (0, "quarter"),
    "last-quarter": (1, "quarter"),
    "this-year": (0, "year"),
    "last-year": (1, "year"),
}
"""How many periods back, and the period."""
NAMES: Final = tuple(_NAMED)
QUARTER_HOUR_STEPS: Final = 12
"""Ranges of at most so many hours end with the current quarter-hour, longer ones with the current hour."""
_UNITS: Final[dict[str, Interval]] = {"m": "minute", "h": "hour", "d": "day", "w": "week"}
_AGE: Final = re.compile("([1-9][0-9]{0,4})([mhdw])")


class Relative(NamedTuple):
    """A parsed range: so many units that end with the current one, or `back` units before it."""

    text: str
    number: int
    unit: Interval
    back: int = 0

    def bounds(self, now: datetime, zone: tzinfo) -> tuple[datetime, datetime]:
        """Return start and end (UTC) at an instant. Raises OverflowError before the year 1."""
        if self.unit in ("minute", "hour"):
            length = self.number * (timedelta(minutes=1) if self.unit == "minute" else timedelta(hours=1))
            step: Interval = "15minutes" if self.unit == "hour" and self.number <= QUARTER_HOUR_STEPS else self.unit
            end = next_bucket_start(now, step, zone)
            return end - length, end
        current = calendar_start(now, self.unit, zone)
        if self.back:
            return moved_back(current, self.back, self.unit, zone), current
        return moved_back(current, self.number - 1, self.unit, zone), next_bucket_start(now, self.unit, zone)


class RelativeRange(Parameter[Relative]):
    """The name of a period, or a number of minutes, hours, days or weeks."""

    def read(self, text: str) -> Relative:
        if text in _NAMED:
            back, unit = _NAMED[text]
            return Relative(text, 1, unit, back)
        if age := _AGE.fullmatch(text):
            return Relative(text, int(age[1]), _UNITS[age[2]])
        raise BadQuery(
            self.name,
            f"{text[:100]!r} is neither a number of minutes, hours, days or weeks (30m, 24h, 7d, 4w) nor a name",
            NAMES,
        )
