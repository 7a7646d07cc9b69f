"""Query parameters that several reports share."""

from __future__ import annotations

from typing import Final, get_args
from zoneinfo import ZoneInfo, available_timezones

from core.sources import SOURCES, SourceName
from reporter.buckets import Interval
from reporter.query_params import MAX_ROWS, BadQuery, Choice, ChoiceList, Flag, Integer, Parameter, Text
from reporter.relative_range import RelativeRange

MINUTE_RANGE_HOURS: Final = 24

_ZONES: Final = frozenset(available_timezones() - {"localtime"})  # depends on the machine


class TimeZone(Parameter[ZoneInfo]):
    """An IANA time zone."""

    def read(self, text: str) -> ZoneInfo:
        if text not in _ZONES:
            raise BadQuery(self.name, f"{text[:100]!r} is not an IANA time zone such as Europe/Berlin")
        return ZoneInfo(text)


FROM: Final = Text(
    "from",
    "Start of the range, inclusive: an ISO 8601 instant with a zone (`2026-11-22T07:00:00Z`, "
    "`2026-11-22T08:00:00+01:00`), truncated to microseconds; a local time of `timeZone` (`2026-11-22T08:00`); or a "
    "date, which starts at its first instant in `timeZone`. A local time that occurs twice is the first of the two. "
    "Required, like `to`, unless the query has a `range`.",
    example="2026-11-22",
)
TO: Final = Text("to", "End of the range, exclusive, in the same format as `from`.", example="2026-11-23")
RANGE: Final = RelativeRange(
    "range",
    "A range relative to now, in local time of `timeZone`, instead of `from` and `to`. `today`, `this-week`, "
    "`this-month`, `this-quarter` and `this-year` end with that period, and `yesterday`, `last-week`, `last-month`, "
    "`last-quarter` and `last-year` are the ones before. `7d` is the last 7 days including today, and `4w` the last 4 "
    "weeks including this one. `24h` and `30m` end with the current hour or minute, and ranges of 1 to 12 hours with "
    "the current quarter-hour. `query` of the answer has the bounds.",
    example="7d",
)
TIME_ZONE: Final = TimeZone(
    "timeZone", "IANA time zone of dates and buckets. The default is UTC.", example="Europe/Berlin"
)
INTERVAL: Final = Choice[Interval](
    "interval",
    f"Length of a bucket in local time of `timeZone`. `minute` is for ranges up to {MINUTE_RANGE_HOURS} hours. "
    "Without it the whole range is one bucket.",
    allowed=get_args(Interval),
    example="day",
)
SOURCE: Final = ChoiceList[SourceName](
    "source",
    "Only events of these sources: comma separated, in repeated parameters, or both.",
    allowed=tuple(SOURCES),
    example=next(iter(SOURCES)),
)
COMPARE: Final = Choice[str](
    "compare",
    "`previous` adds to each figure the one of the previous period, bucket by bucket; `query.compare` of the answer "
    "has the bounds of that period. Whole months are compared with the same number of months before, whole days (in "
    "`timeZone`) with the same number of days. Other ranges, and ranges whose weeks or months would not match, are "
    "moved back by whole intervals, or by their own length if there is no `interval`. If the range has not ended, "
    "previous figures stop at the instant that corresponds to the earliest `storedUntil`; it is "
    "`query.compare.countedUntil`. `year` adds the figures of the same range one year earlier by the local calendar; "
    "if buckets are weeks, 52 weeks earlier.",
    allowed=("previous", "year"),
)
LIMIT: Final = Integer(
    "limit",
    f"Maximum rows of a page. The default is the whole answer, at most {MAX_ROWS} rows. `totals` cover all pages.",
    bounds=(1, MAX_ROWS),
    example="1000",
)
BOM: Final = Flag(
    "bom",
    "`true`: the file begins with a byte order mark, which Excel needs to detect UTF-8.",
    example="true",
)
AFTER: Final = Text("after", "Cursor of a page: `next` of the previous page.")
