"""Lists of a dimension's values: in the dimension's own order or by figure, largest first; other last."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Protocol

from msgspec import UNSET, UnsetType

from core.sources import SourceName
from reporter.breakdowns import Figure, Order
from reporter.period import Period
from reporter.reports import audience
from reporter.reports.audience import DIMENSIONS_OF, Counts, Dimension, Value, Values
from reporter.reports.demographics_answer import ZERO, ResolvedDemographicsQuery, Share


def _counts() -> Counts:
    return defaultdict(dict)


@dataclass
class AudienceFigures:
    """Figures of a period by bucket, source, breakdown and value. Only those that may be off have an error."""

    events: Counts = field(default_factory=_counts)
    revenue: Counts = field(default_factory=_counts)
    events_errors: Counts = field(default_factory=_counts)
    revenue_errors: Counts = field(default_factory=_counts)

    def add(self, key: audience.Key, value: Value, figure: Figure, *, with_revenue: bool) -> None:
        """Add the figures of a value."""
        self.events[key][value] = figure.events
        if figure.events_error:
            self.events_errors[key][value] = figure.events_error
        if with_revenue:
            self.revenue[key][value] = figure.revenue
            if figure.revenue_error:
                self.revenue_errors[key][value] = figure.revenue_error

    @property
    def is_exact(self) -> bool:
        """Whether no figure may be off."""
        return not self.events_errors and not self.revenue_errors


class ShareQuery(Protocol):
    """The parts of a query that its lists depend on."""

    @property
    def resolved(self) -> ResolvedDemographicsQuery:
        """The resolved query."""

    @property
    def previous(self) -> Period | None:
        """The period of the comparison."""

    @property
    def with_revenue(self) -> bool:
        """Whether values have revenue."""

    @property
    def order(self) -> Order:
        """The figure that ranks values."""


class ShareLists:
    """Makes the lists of each row.

    before: the figures of the previous period, None without a comparison. omitted: source and breakdown of those that
    are not listed.
    """

    def __init__(
        self,
        query: ShareQuery,
        now: AudienceFigures,
        before: AudienceFigures | None,
        omitted: Collection[tuple[SourceName, str]],
    ) -> None:
        self._by = query.resolved.group_by
        self._previous = query.previous
        self._with_revenue = query.with_revenue
        self._by_revenue = query.order == "revenue"
        self._now, self._before, self._omitted = now, before, omitted
        self._is_exact = now.is_exact and (before is None or before.is_exact)

    def of_bucket(self, number: int, source: SourceName) -> dict[str, list[Share] | None]:
        """Return the lists of one bucket and source, by their Python attributes."""
        return {
            audience.attribute_name(dimension): None
            if (source, audience.counted_as(source, dimension)) in self._omitted
            else self._list(number, source, dimension)
            for dimension in DIMENSIONS_OF[source]
            if dimension in self._by
        }

    def _list(self, number: int, source: SourceName, dimension: Dimension) -> list[Share]:
        """Return the values that have events in the bucket or in that of the previous period, or may have some."""

        def values(counts: Counts) -> Values:
            return audience.bucket_values(counts, number, source, dimension)

        now = values(self._now.events)
        before: Values | None = None
        listed = [value for value, events in now.items() if events]
        if self._before is not None and self._previous is not None and self._previous.has_bucket(number):
            before = values(self._before.events)
            listed += [value for value, events in before.items() if events and not now.get(value)]
        if not self._is_exact:
            errors = {**values(self._now.events_errors), **(values(self._before.events_errors) if self._before else {})}
            listed = list(dict.fromkeys([*listed, *errors]))
        figures = values(self._now.revenue) if self._by_revenue else now
        listed.sort(key=audience.sort_key(source, dimension, figures))
        if self._before is None:
            shares = [_share(value, now.get(value, 0)) for value in listed]
        else:
            shares = [
                _share(value, now.get(value, 0), None if before is None else before.get(value, 0)) for value in listed
            ]
        if self._with_revenue:
            revenue = values(self._now.revenue)
            for value, share in zip(listed, shares, strict=True):
                share.revenue = ZERO + revenue.get(value, 0)
        if self._with_revenue and self._before is not None:
            revenue = values(self._before.revenue)
            for value, share in zip(listed, shares, strict=True):
                share.previous_revenue = None if before is None else ZERO + revenue.get(value, 0)
        if not self._is_exact:
            self._add_errors(listed, shares, values, has_bucket=before is not None)
        return shares

    def _add_errors(self, listed: list[Value], shares: list[Share], values: Any, *, has_bucket: bool) -> None:
        """Add the largest possible error of each figure."""
        events, revenue = values(self._now.events_errors), values(self._now.revenue_errors)
        for value, share in zip(listed, shares, strict=True):
            share.events_error = events.get(value, 0)
            if self._with_revenue:
                share.revenue_error = ZERO + revenue.get(value, 0)
        if self._before is None:
            return
        events, revenue = values(self._before.events_errors), values(self._before.revenue_errors)
        for value, share in zip(listed, shares, strict=True):
            share.previous_error = events.get(value, 0) if has_bucket else None
            if self._with_revenue:
                share.previous_revenue_error = ZERO + revenue.get(value, 0) if has_bucket else None


def _share(value: Value, events: int, previous: int | UnsetType | None = UNSET) -> Share:
    if isinstance(value, tuple):
        return Share(value[0], events, previous, value[1])
    return Share(value, events, previous)
