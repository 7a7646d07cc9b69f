"""Count the rows of a message for the rollups, while parsing them.

    rows of a message --by quarter-hour--> events and revenue of each type
                                       \\-> events of each audience value

Invariant: these counts equal those of the merge in `sql/sources.sql` for rows that are all new, so the direct path adds
them to the rollups. Counts are per message, because a message may be skipped. Money is whole cents.

This is the reference. The native parser counts the same (`core/native/src/counts.rs`) in an object of its own, which
`total` converts.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from functools import partial
from itertools import repeat
from operator import itemgetter
from typing import Any, Final, NamedTuple

from collector.sources.source import Audience
from core import native
from core.sources.declaration import stage_of
from core.sources.shape import keys

QUARTER_MICROSECONDS: Final = 900_000_000
QUARTERS_IN_DAY: Final = 96
MAX_LABEL_CHARACTERS: Final = 64
"""A longer text has no count of its own: it is counted as other."""


class Counts(NamedTuple):
    """What rows add to the rollups. A quarter is a quarter-hour, counted from 2000-01-01T00:00:00Z.

    events     (quarter, stage, type) -> (events, revenue in cents)
    audience   (quarter, dimension, value) -> events; the value None is other
    """

    events: dict[tuple[int, str, str], tuple[int, int]]
    audience: dict[tuple[int, str, str | None], int]


Picked = tuple[Any, ...]
Seen = defaultdict[tuple[int, type[Any]], list[Picked]]
"""(quarter, shape) -> the counted values of each event."""


class Rollup:
    """Counts the events of a source: `picker` selects each event's counted values, `counts` counts them at the end."""

    def __init__(self, audience: Audience, shapes: Iterable[type[Any]]) -> None:
        self._audience = audience
        banded = [dimension for dimension in audience.dimensions if dimension.bands]
        self._bands = {dimension.name: [name for _, name in dimension.bands] for dimension in banded}
        self._band_index = {
            dimension.name: partial(bisect_right, [first for first, _ in dimension.bands]) for dimension in banded
        }
        self._counted = {shape: _CountedFields(audience, shape) for shape in shapes}

    def picker(self, shape: type[Any], attributes: list[str]) -> Callable[[Picked], Picked]:
        """Return a function that selects the counted values from a tuple of the values of these attributes."""
        first, *others = (attributes.index(name) for name in self._counted[shape].attributes)
        return itemgetter(first, *others) if others else lambda values: (values[first],)

    def counts(self, seen: Seen) -> Counts:
        """Return the counts of the selected values."""
        events: dict[tuple[int, str, str], tuple[int, int]] = {}
        columns: defaultdict[tuple[int, str], Counter[Any]] = defaultdict(Counter)
        for (quarter, shape), picked in seen.items():
            counted = self._counted[shape]
            values = dict(zip(counted.attributes, zip(*picked, strict=True), strict=True))
            types = values[counted.type]
            stage, purchase = stage_of(shape), self._audience.purchase.event_type
            revenue = _revenue(zip(types, values[counted.amount], strict=True), purchase) if counted.amount else 0
            for event_type, number in Counter(types).items():
                events[quarter, stage, event_type] = (number, revenue if event_type == purchase else 0)
            for dimension, attribute in counted.dimensions.items():
                columns[quarter, dimension].update(values[attribute])
        audience: dict[tuple[int, str, str | None], int] = {}
        for (quarter, name), counter in columns.items():
            if bands := self._bands.get(name):
                sums = [0] * (len(bands) + 1)
                for index, number in zip(map(self._band_index[name], counter), counter.values(), strict=True):
                    sums[index] += number
                audience.update(((quarter, name, band), sums[at]) for at, band in enumerate(bands, 1) if sums[at])
                continue
            # Only free texts can be too long for a count of their own, never the labels of an enum.
            if other := sum(
                counter.pop(text) for text in [text for text in counter if len(text) > MAX_LABEL_CHARACTERS]
            ):
                audience[quarter, name, None] = other
            audience.update(zip(zip(repeat(quarter), repeat(name), counter), counter.values(), strict=True))
        return Counts(events, audience)


class _CountedFields:
    """The counted attributes of a shape: event type, amount of a purchase (None if it has none), and dimensions."""

    def __init__(self, audience: Audience, shape: type[Any]) -> None:
        fields, purchase = keys(shape), audience.purchase
        sells = purchase.amount in fields and purchase.event_type in fields["eventType"].labels
        self.type = fields["eventType"].attribute
        self.amount = fields[purchase.amount].attribute if sells else None
        self.dimensions = {
            dimension.name: fields[dimension.path].attribute
            for dimension in audience.dimensions
            if dimension.path in fields
        }
        self.attributes = [self.type, *([self.amount] if self.amount else []), *self.dimensions.values()]


def _revenue(amounts: Iterable[tuple[str, str | None]], purchase: str) -> int:
    """Return the sum of the purchases' amounts, in cents. The contract allows digits, and at most two decimals."""
    cents = 0
    for event_type, amount in amounts:
        if event_type == purchase and amount is not None:
            whole, _, fraction = amount.partition(".")
            cents += int(whole + (fraction + "00")[:2])
    return cents


def no_counts() -> Counts:
    """Return empty counts."""
    return Counts({}, {})


def total(all_counts: Iterable[Counts | native.Counts], without_days: Iterable[int] = ()) -> Counts:
    """Return the sum of these counts, without the rows of some days (days since 2000-01-01).

    All native counts must come from one parser.
    """
    excluded = frozenset(without_days)
    all_counts = list(all_counts)
    counted = [counts for counts in all_counts if isinstance(counts, Counts)]
    if native_counts := [counts for counts in all_counts if not isinstance(counts, Counts)]:
        counted.append(Counts(*native.Counts.total(native_counts)))
    events: dict[tuple[int, str, str], tuple[int, int]] = {}
    audience: dict[tuple[int, str, str | None], int] = {}
    for counts in counted:
        for key, (number, cents) in counts.events.items():
            before = events.get(key, (0, 0))
            events[key] = (before[0] + number, before[1] + cents)
        for value, number in counts.audience.items():
            audience[value] = audience.get(value, 0) + number
    if excluded:
        events = {key: sums for key, sums in events.items() if key[0] // QUARTERS_IN_DAY not in excluded}
        audience = {value: sums for value, sums in audience.items() if value[0] // QUARTERS_IN_DAY not in excluded}
    return Counts(events, audience)
