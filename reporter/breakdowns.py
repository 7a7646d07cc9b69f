"""Read breakdowns: the figures of each value of one breakdown, by bucket, with the largest error of each.

`read` in sql/report_breakdowns.sql sums valid buckets, and rows for all others. It returns parts: the figures of whole
units between the bounds of buckets, and of what lies before a bound. A bucket is the sum of its own part and the one
before its end, without the one before its start.

Invariant: the figures of a bucket, those of other (None) among them, add up to all events that have a value. Figures of
values that were cut off when their bucket was counted are in other. So a listed figure, and other, may be off, each by
at most its error; both are exact if the error is 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from functools import cache
from typing import Any, Final, Literal, NamedTuple

from core.sources import SOURCES, SourceName
from sql import statements

Order = Literal["events", "revenue"]
Value = tuple[str, str | None]
"""A value; and the second one, if the breakdown is a pair."""

_READ: Final = statements("report_breakdowns")["read"]
_ROWS: Final = statements("sources")
# Counts are added as floats: these are exact up to 9 * 10**15, and cheap.
_EVENTS: Final = "(CASE WHEN place = 0 THEN totals ELSE counted.events[place:place] END)::float8[]"
_RANKED_BY: Final[dict[Order, dict[str, str]]] = {
    "events": {
        "columns": "figure",
        "events": "figure",
        "figures": f"unnest({_EVENTS}) AS figure",
        "row_figures": "events::float8",
    },
    "revenue": {
        "columns": "figure, occurrences",
        "events": "occurrences",
        "figures": f"unnest(CASE WHEN paid THEN counted.revenue END) AS figure, unnest({_EVENTS}) AS occurrences",
        "row_figures": "revenue, events::float8",
    },
}
_NOTHING: Final = Decimal(0)


class Request(NamedTuple):
    """What to read of one breakdown.

    breakdown    a key of `breakdowns` of the source's declaration
    event_types  the event types that count; None: all
    values       the values to list; None: the `top` values with the largest figures of the whole period, by `order`
    with_absent  whether those of `values` that no bucket lists are listed if they may have events
    """

    source: SourceName
    breakdown: str
    event_types: Sequence[str] | None
    top: int
    order: Order = "events"
    values: Sequence[Value] | None = None
    with_absent: bool = True

    @property
    def words(self) -> str:
        """The breakdown in words."""
        return self.breakdown.replace(",", " and ")

    def arguments(self, last_bound: int) -> tuple[Any, ...]:
        """Return the parameters $7 to $14 of the statement. last_bound: the number of the last bucket bound."""
        listed: tuple[Any, Any] = (None, None)
        top = self.top
        if self.values is not None:
            listed = [value for value, _ in self.values], [second or "" for _, second in self.values]
            top = len(self.values)
        return self.source, self.breakdown, self.event_types, last_bound, top, 0, *listed


class Figure(NamedTuple):
    """The figures of a value, and by how much each may be off."""

    events: int
    revenue: Decimal
    events_error: int
    revenue_error: Decimal


Bucket = dict[Value | None, Figure]
"""The figures of a bucket by value; None is other: all values that are not listed."""


@cache
def read_statement(source: SourceName, breakdown: str, order: Order = "events") -> str:
    """The statement that reads one breakdown of a source (a key of `breakdowns` of its declaration), in this order."""
    declared = SOURCES[source]
    pair = len(declared.breakdowns[breakdown]) > 1
    return _READ.format(
        rows=_ROWS[f"breakdown_rows_{source}_{breakdown.replace(',', '_')}"],
        purchase=declared.purchase.event_type,
        keys="value, second" if pair else "value",
        second="second" if pair else "''",
        pair="true" if pair else "false",
        unnested="unnest(values) AS value, unnest(seconds) AS second" if pair else "unnest(values) AS value",
        **_RANKED_BY[order],
    )


def buckets(records: Iterable[Any], last_bound: int, request: Request) -> list[Bucket]:
    """Return the figures of each bucket from the records of the statement."""
    figures: list[defaultdict[Value | None, list[Any]]] = [
        defaultdict(lambda: [0, _NOTHING, 0, _NOTHING]) for _ in range(last_bound)
    ]
    unlisted_events, unlisted_revenue = [0] * last_bound, [_NOTHING] * last_bound
    records = [record for record in records if record["events"] is not None]
    # The errors of a value that a part does not list. Those of a listed value replace them.
    errors = {
        (record["bucket"], record["bound"]): (record["error"], record["revenue_error"])
        for record in records
        if record["value"] is None
    }
    for bucket, bound, value, second, events, revenue, error, revenue_error, _ in records:
        base, revenue_base = errors.get((bucket, bound), (0, _NOTHING))
        for number, sign in _buckets_of(bucket, bound, last_bound):
            of = figures[number][None if value is None else (value, second)]
            of[0] += sign * events
            of[1] += sign * revenue
            if value is None:
                unlisted_events[number] += base
                unlisted_revenue[number] += revenue_base
            else:
                of[2] += error - base
                of[3] += revenue_error - revenue_base
    listed = {value for of in figures for value in of if value is not None}
    if request.with_absent:
        listed.update(request.values or ())
    return [
        _with_errors(of, listed, events, revenue)
        if events or revenue
        else {value: Figure(*one) for value, one in of.items()}
        for of, events, revenue in zip(figures, unlisted_events, unlisted_revenue, strict=True)
    ]


def is_exact(bucket: Bucket) -> bool:
    """Return whether no figure of a bucket may be off."""
    return not any(figure.events_error or figure.revenue_error for figure in bucket.values())


def _buckets_of(bucket: int | None, bound: int | None, last_bound: int) -> Iterator[tuple[int, int]]:
    """Yield the numbers of the buckets that a part changes, and by which sign."""
    if bound is None:
        assert bucket is not None
        yield bucket, 1
        return
    if bound > 0:
        yield bound - 1, 1
    if bound < last_bound:
        yield bound, -1


def _with_errors(
    of: defaultdict[Value | None, list[Any]], listed: Iterable[Value], events: int, revenue: Decimal
) -> Bucket:
    """Return a bucket with an entry for each listed value. Other is off by at most what all of them are."""
    bucket: Bucket = {}
    for value in listed:
        one = of[value]
        bucket[value] = Figure(one[0], one[1], one[2] + events, one[3] + revenue)
    other = of[None]
    bucket[None] = Figure(
        other[0],
        other[1],
        sum(figure.events_error for figure in bucket.values()),
        sum((figure.revenue_error for figure in bucket.values()), _NOTHING),
    )
    return bucket
