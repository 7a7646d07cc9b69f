"""Read a report's query from the URL.

Every parameter is declared once, here or in its report; the declaration is what the reader checks against and what
the OpenAPI document shows. Whatever is unknown, repeated, malformed or out of bounds is a BadQuery that names the
parameter and what is allowed.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from itertools import islice, pairwise
from typing import Final, NamedTuple, cast, get_args
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo, available_timezones

from core.errors import SluiceError
from core.events.subjects import SOURCES
from core.sources.fields import MINUTE_PATTERN, SECOND_PATTERN, ZONE_PATTERN
from reporter.buckets import Interval, begins_bucket, bounds, day_start, previous
from reporter.cover import Cover, cover

MOST_ROWS: Final = 25_000
"""Rows that one answer holds at most: buckets times groups."""
MOST_PARAMETERS: Final = 50
MINUTE_RANGE_HOURS: Final = 24

EARLIEST: Final = datetime(2000, 1, 1, tzinfo=UTC)
LATEST: Final = datetime(2101, 1, 1, tzinfo=UTC)

_INSTANT: Final = re.compile(f"{MINUTE_PATTERN}({SECOND_PATTERN})?{ZONE_PATTERN}")
_ZONES: Final = frozenset(available_timezones() - {"localtime"})  # that is this machine's own
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


FLAG: Final = ("true", "false")


class BadQuery(SluiceError):
    """A parameter, or the query as a whole, is not what its report takes.

    `allowed` lists what is, where the list is closed.
    """

    def __init__(self, parameter: str | None, detail: str, allowed: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.parameter = parameter
        self.detail = detail
        self.allowed = tuple(allowed)


class Parameter(NamedTuple):
    """One query parameter. A closed list has its values in `allowed`; `several` of them come in repeated parameters,
    comma separated, or both."""

    name: str
    description: str
    required: bool = False
    allowed: tuple[str, ...] = ()
    several: bool = False
    bounds: tuple[int, int] | None = None
    example: str | None = None


FROM: Final = Parameter(
    "from",
    "First instant of the report, inclusive: ISO 8601 with a zone (`2026-11-22T07:00:00Z`, "
    "`2026-11-22T08:00:00+01:00`), cut to microseconds, or a date, which begins at its first instant in `timeZone`.",
    required=True,
    example="2026-11-22",
)
TO: Final = Parameter("to", "End of the report, exclusive; written like `from`.", required=True, example="2026-11-23")
TIME_ZONE: Final = Parameter(
    "timeZone", "IANA time zone of dates and buckets; UTC if not given.", example="Europe/Berlin"
)
INTERVAL: Final = Parameter(
    "interval",
    f"Length of a bucket, by the clocks of `timeZone`; `minute` for ranges up to {MINUTE_RANGE_HOURS} hours. Without "
    "it the whole range is one bucket.",
    allowed=get_args(Interval),
    example="day",
)
SOURCE: Final = Parameter("source", "Events of this source alone.", allowed=SOURCES, example=SOURCES[0])
COMPARE: Final = Parameter(
    "compare",
    "`previous`: beside each figure that of the period before, bucket by bucket; the answer's `query` tells which it "
    "is. Whole months are compared with as many months before, whole days (in `timeZone`) with as many days. All other "
    "ranges, and those whose weeks or months would not match, are moved back by whole intervals; without `interval` "
    "by their own length. While the range is not over, previous figures count as much of the period before as the "
    "earliest `storedUntil` has passed of this one; `countedUntil` in `query.compare` says to which instant.",
    allowed=("previous",),
)
LIMIT: Final = Parameter(
    "limit",
    f"Rows of a page; the whole answer (at most {MOST_ROWS} rows) if not given. `totals` are of the whole answer.",
    bounds=(1, MOST_ROWS),
    example="1000",
)
BOM: Final = Parameter(
    "bom",
    "`true`: the file begins with a byte order mark, by which Excel knows UTF-8.",
    allowed=FLAG,
    example="true",
)
AFTER: Final = Parameter("after", "The page after this one: `next` of the page before.")


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


class Asked:
    """The parameters of one request: each is known, and stands once unless it is a list."""

    def __init__(self, query_string: bytes, known: Sequence[Parameter]) -> None:
        """Raises BadQuery."""
        self._known = {parameter.name: parameter for parameter in known}
        self._given: dict[str, str] = {}
        try:
            pairs = parse_qsl(
                query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS
            )
        except ValueError as error:  # UnicodeDecodeError among them
            raise BadQuery(None, f"the query of the URL cannot be read: {error}", tuple(self._known)) from None
        for name, value in pairs:
            if name not in self._known:
                raise BadQuery(name[:100], "this report has no such parameter", tuple(self._known))
            if name not in self._given:
                self._given[name] = value
            elif self._known[name].several:
                self._given[name] += f",{value}"
            else:
                raise BadQuery(name, "is given more than once")
        for parameter in known:
            if parameter.required and parameter.name not in self._given:
                raise BadQuery(parameter.name, "is required: " + parameter.description)

    def text(self, name: str) -> str | None:
        return self._given.get(name)

    def choice(self, name: str) -> str | None:
        """One value of a closed list."""
        value = self._given.get(name)
        if value is not None and value not in self._known[name].allowed:
            raise BadQuery(name, f"{value[:100]!r} is not allowed", self._known[name].allowed)
        return value

    def several(self, name: str) -> tuple[str, ...]:
        """Values of a closed list, in the list's own order."""
        if (given := self._given.get(name)) is None:
            return ()
        allowed = self._known[name].allowed
        values = given.split(",")
        if unknown := [value for value in values if value not in allowed]:
            raise BadQuery(name, f"{unknown[0][:100]!r} is not allowed", allowed)
        if len(set(values)) < len(values):
            raise BadQuery(name, "holds a value more than once", allowed)
        return tuple(value for value in allowed if value in values)

    def integer(self, name: str, default: int) -> int:
        if (value := self._given.get(name)) is None:
            return default
        least, most = self._known[name].bounds or (0, 0)
        if not re.fullmatch("[0-9]{1,9}", value) or not least <= int(value) <= most:
            raise BadQuery(name, f"has to be a whole number from {least} to {most}")
        return int(value)

    def period(self, groups: int = 1) -> Period:
        """`from`, `to`, `timeZone` and, where the report has it, `interval`. groups: rows that each bucket has."""
        zone = self._zone()
        start, end = self._instant("from", zone), self._instant("to", zone)
        if start >= end:
            raise BadQuery("to", f"has to lie after from: {end.isoformat()} is not after {start.isoformat()}")
        interval = cast(Interval | None, self.choice("interval"))
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

    def compared(self, period: Period) -> Period | None:
        """The period before this one, where it is to be compared with."""
        if self.choice("compare") is None:
            return None
        interval = period.interval if len(period.bounds) > 2 else None  # one bucket stands beside one
        start, end = previous(period.bounds, interval, period.zone)
        if start < EARLIEST:
            raise BadQuery("compare", f"the period before begins at {start.isoformat()}, before {EARLIEST.isoformat()}")
        return Period(start, end, period.zone, interval, tuple(bounds(start, end, interval, period.zone)))

    def _zone(self) -> ZoneInfo:
        name = self._given.get("timeZone", "UTC")
        if name not in _ZONES:
            raise BadQuery("timeZone", f"{name[:100]!r} is no IANA time zone: write it like Europe/Berlin")
        return ZoneInfo(name)

    def _instant(self, name: str, zone: ZoneInfo) -> datetime:
        # A + that is not written as %2B arrives as a space, and an instant holds no other one.
        text = self._given[name].replace(" ", "+")
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
