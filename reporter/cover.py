"""Decide which figures come from the rollups and which from the rows.

Rollups count whole quarter-hours. A bound of the report that lies inside a quarter-hour leaves a ragged edge; the
rows on the shorter side of the bound are counted, and added or taken away:

                     from                                    to
    ----|------------x-----|-----------|---  ...  ---|-------x--------|---- quarter-hours
                     +rows |<-------- rollups ------>| +rows              the shorter side lies inside
        |<--- -rows -x---------- rollups ------------------->|            ... or outside the report

Invariant: rollups and signed rows together count each event of the period once and no other, and each of them
falls into the right bucket once it is put into the nearest one: what lies outside the report belongs to its first
or its last bucket.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

QUARTER_HOUR: Final = timedelta(minutes=15)
_ORIGIN: Final = datetime(2000, 1, 1, tzinfo=UTC)  # as quarter_hour() in the schema
_ZERO: Final = timedelta(0)


class Span(NamedTuple):
    """Rows with start <= event_time < end; sign is 1 where they are added, -1 where they are taken away."""

    start: datetime
    end: datetime
    sign: int


class Cover(NamedTuple):
    """Rollups of the quarter-hours from start to end without those in left_out, and signed rows."""

    start: datetime
    end: datetime
    left_out: tuple[datetime, ...]
    spans: tuple[Span, ...]

    @property
    def has_rollups(self) -> bool:
        return (self.end - self.start) // QUARTER_HOUR > len(self.left_out)


def cover(bounds: Sequence[datetime], now: datetime) -> Cover:
    """What has to be read for a report with these bounds of buckets (ascending instants in UTC, at least two).

    `now` only weighs what is cheaper: few events lie after it.
    """
    ragged: dict[datetime, list[datetime]] = {}
    for bound in bounds:
        if (quarter := quarter_hour(bound)) != bound:
            ragged.setdefault(quarter, []).append(bound)
    first, last = bounds[0], bounds[-1]
    left_out: list[datetime] = []
    spans: list[Span] = []
    for quarter, inside in ragged.items():
        inner = Span(max(quarter, first), min(quarter + QUARTER_HOUR, last), 1)
        outer = _outer(quarter, inside, first, last)
        if outer is not None and _length(outer, now) < _length(inner, now):
            spans.append(outer)
            continue
        left_out.append(quarter)
        if spans and spans[-1].sign == 1 and spans[-1].end == inner.start:
            inner = spans.pop()._replace(end=inner.end)
        spans.append(inner)
    end = quarter_hour(last)
    return Cover(quarter_hour(first), end if end == last else end + QUARTER_HOUR, tuple(left_out), tuple(spans))


def quarter_hour(at: datetime) -> datetime:
    """The start of the quarter-hour that holds this instant."""
    return at - (at - _ORIGIN) % QUARTER_HOUR


def _outer(quarter: datetime, inside: Sequence[datetime], first: datetime, last: datetime) -> Span | None:
    """The rows of a quarter-hour that lie outside the report, where the quarter-hour holds no other bound."""
    if inside == [first]:
        return Span(quarter, first, -1)
    if inside == [last]:
        return Span(last, quarter + QUARTER_HOUR, -1)
    return None


def _length(span: Span, now: datetime) -> timedelta:
    return max(min(span.end, now) - span.start, _ZERO)
