"""The parameters that several reports have."""

from __future__ import annotations

from typing import Final, get_args
from zoneinfo import ZoneInfo, available_timezones

from core.sources import SOURCES, SourceName
from reporter.buckets import Interval
from reporter.query_params import MAX_ROWS, BadQuery, Choice, Flag, Integer, Parameter, Text

MINUTE_RANGE_HOURS: Final = 24

_ZONES: Final = frozenset(available_timezones() - {"localtime"})  # that is this machine's own


class TimeZone(Parameter[ZoneInfo]):
    """A time zone of the IANA's."""

    def read(self, text: str) -> ZoneInfo:
        if text not in _ZONES:
            raise BadQuery(self.name, f"{text[:100]!r} is no IANA time zone: write it like Europe/Berlin")
        return ZoneInfo(text)


FROM: Final = Text(
    "from",
    "First instant of the report, inclusive: ISO 8601 with a zone (`2026-11-22T07:00:00Z`, "
    "`2026-11-22T08:00:00+01:00`), cut to microseconds, or a date, which begins at its first instant in `timeZone`.",
    required=True,
    example="2026-11-22",
)
TO: Final = Text("to", "End of the report, exclusive; written like `from`.", required=True, example="2026-11-23")
TIME_ZONE: Final = TimeZone(
    "timeZone", "IANA time zone of dates and buckets; UTC if not given.", example="Europe/Berlin"
)
INTERVAL: Final = Choice[Interval](
    "interval",
    f"Length of a bucket, by the clocks of `timeZone`; `minute` for ranges up to {MINUTE_RANGE_HOURS} hours. Without "
    "it the whole range is one bucket.",
    allowed=get_args(Interval),
    example="day",
)
SOURCE: Final = Choice[SourceName](
    "source", "Events of this source alone.", allowed=tuple(SOURCES), example=next(iter(SOURCES))
)
COMPARE: Final = Choice[str](
    "compare",
    "`previous`: beside each figure that of the period before, bucket by bucket; the answer's `query` tells which it "
    "is. Whole months are compared with as many months before, whole days (in `timeZone`) with as many days. All other "
    "ranges, and those whose weeks or months would not match, are moved back by whole intervals; without `interval` "
    "by their own length. While the range is not over, previous figures count as much of the period before as the "
    "earliest `storedUntil` has passed of this one; `countedUntil` in `query.compare` says to which instant.",
    allowed=("previous",),
)
LIMIT: Final = Integer(
    "limit",
    f"Rows of a page; the whole answer (at most {MAX_ROWS} rows) if not given. `totals` are of the whole answer.",
    bounds=(1, MAX_ROWS),
    example="1000",
)
BOM: Final = Flag(
    "bom",
    "`true`: the file begins with a byte order mark, by which Excel knows UTF-8.",
    example="true",
)
AFTER: Final = Text("after", "The page after this one: `next` of the page before.")
