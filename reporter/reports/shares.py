"""Lists of a dimension's values and their events: in the dimension's own order or most events first, other last."""

from __future__ import annotations

from collections.abc import Sequence

from core.sources import SourceName
from reporter.period import Period
from reporter.reports import audience
from reporter.reports.audience import DIMENSIONS_OF, Counts, Dimension
from reporter.reports.demographics_answer import Share


class ShareLists:
    """Makes the lists of each row. before: the counts of the period `previous`; both None without a comparison."""

    def __init__(
        self,
        by: Sequence[Dimension],
        now: Counts,
        before: Counts | None,
        previous: Period | None,
        *,
        with_ranked: bool,
    ) -> None:
        self._by = by
        self._counts, self._before, self._with_ranked = now, before, with_ranked
        self._previous = previous

    def of_bucket(self, number: int, source: SourceName) -> dict[str, list[Share] | None]:
        """Return the lists of one bucket and source, by their Python attributes."""
        return {
            audience.attribute_name(dimension): self._list(number, source, dimension)
            if self._with_ranked or (source, dimension) not in audience.RANKED
            else None
            for dimension in DIMENSIONS_OF[source]
            if dimension in self._by
        }

    def _list(self, number: int, source: SourceName, dimension: Dimension) -> list[Share]:
        """Return the values that have events: in the dimension's own order or most events first, other last."""
        ranked = (source, dimension) in audience.RANKED
        counts = audience.bucket_values(self._counts, number, source, dimension)
        if self._before is None or self._previous is None:
            listed = [Share(value, events) for value, events in counts.items() if events]
        elif not self._previous.has_bucket(number):
            listed = [Share(value, events, None) for value, events in counts.items() if events]
        else:
            before = audience.bucket_values(self._before, number, source, dimension)
            values = counts.keys() | before.keys() if not ranked else counts.keys() | {None}
            then = {value: before.get(value, 0) for value in values}
            if ranked:  # includes values that are listed in other buckets only
                then[None] = sum(before.values()) - sum(events for value, events in then.items() if value is not None)
            now = {value: counts.get(value, 0) for value in values}
            listed = [Share(value, now[value], then[value]) for value in values if now[value] or then[value]]
        order = audience.value_order(source, dimension)
        listed.sort(
            key=lambda share: (
                share.value is None,
                order[share.value] if order and share.value is not None else -share.events,
                share.value or "",
            )
        )
        return listed
