"""Count a message's rows as the rollups do, while every field is at hand.

    rows of a message --by quarter-hour--> events and revenue of each type
                                       \\-> events of each audience value

Invariant: what is counted here is what the merge in `sql/store.sql` counts from the rows it inserted, so that a batch
whose rows are all new can take its rollups from here. Counts are kept per message: one may be left out.
Money is whole cents. This is the reference; the native parser counts the same (`core/native/src/counts.rs`), and
keeps a message's counts to itself: `total` has them in Python's hands.
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
"""A text that is longer has no count of its own: it is counted as other."""


class Counts(NamedTuple):
    """What rows add to the rollups. A quarter is a quarter-hour, counted from 2000-01-01T00:00:00Z.

    events     (quarter, stage, type) -> events, and revenue in cents
    audience   (quarter, dimension, value) -> events; the value None is other
    """

    events: dict[tuple[int, str, str], tuple[int, int]]
    audience: dict[tuple[int, str, str | None], int]


Picked = tuple[Any, ...]
Seen = defaultdict[tuple[int, type[Any]], list[Picked]]
"""Of each quarter and shape, what was picked of its events."""


class Rollup:
    """How the events of a source are counted: `pick` of each event's values, and at the end `counts` of all."""

    def __init__(self, audience: Audience, shapes: Iterable[type[Any]]) -> None:
        self._audience = audience
        banded = [one for one in audience.dimensions if one.bands]
        self._bands = {one.name: [name for _, name in one.bands] for one in banded}
        self._place = {one.name: partial(bisect_right, [first for first, _ in one.bands]) for one in banded}
        self._counted = {shape: _Counted(audience, shape) for shape in shapes}

    def picker(self, shape: type[Any], attributes: list[str]) -> Callable[[Picked], Picked]:
        """What picks the values that are counted out of those of these attributes."""
        first, *others = (attributes.index(name) for name in self._counted[shape].attributes)
        return itemgetter(first, *others) if others else lambda values: (values[first],)

    def counts(self, seen: Seen) -> Counts:
        """The counts of what was picked."""
        events: dict[tuple[int, str, str], tuple[int, int]] = {}
        columns: defaultdict[tuple[int, str], Counter[Any]] = defaultdict(Counter)
        for (quarter, shape), picked in seen.items():
            counted = self._counted[shape]
            values = dict(zip(counted.attributes, zip(*picked, strict=True), strict=True))
            types = values[counted.type]
            stage, purchase = stage_of(shape), self._audience.purchase.event_type
            revenue = _revenue(zip(types, values[counted.amount], strict=True), purchase) if counted.amount else 0
            for kind, number in Counter(types).items():
                events[quarter, stage, kind] = (number, revenue if kind == purchase else 0)
            for dimension, attribute in counted.dimensions.items():
                columns[quarter, dimension].update(values[attribute])
        audience: dict[tuple[int, str, str | None], int] = {}
        for (quarter, name), counter in columns.items():
            if bands := self._bands.get(name):
                sums = [0] * (len(bands) + 1)
                for place, number in zip(map(self._place[name], counter), counter.values(), strict=True):
                    sums[place] += number
                audience.update(((quarter, name, band), sums[at]) for at, band in enumerate(bands, 1) if sums[at])
                continue
            # No label of a closed list is too long to have a count of its own.
            if other := sum(
                counter.pop(text) for text in [text for text in counter if len(text) > MAX_LABEL_CHARACTERS]
            ):
                audience[quarter, name, None] = other
            audience.update(zip(zip(repeat(quarter), repeat(name), counter), counter.values(), strict=True))
        return Counts(events, audience)


class _Counted:
    """What is counted of one shape: the attributes of its type, of a purchase's amount if it has one, and of each
    dimension that it has."""

    def __init__(self, audience: Audience, shape: type[Any]) -> None:
        has, purchase = keys(shape), audience.purchase
        sells = purchase.amount in has and purchase.event_type in has["eventType"].labels
        self.type = has["eventType"].attribute
        self.amount = has[purchase.amount].attribute if sells else None
        self.dimensions = {one.name: has[one.path].attribute for one in audience.dimensions if one.path in has}
        self.attributes = [self.type, *([self.amount] if self.amount else []), *self.dimensions.values()]


def _revenue(sold: Iterable[tuple[str, str | None]], purchase: str) -> int:
    """Cents of the purchases' amounts, as the contract took them: digits, and at most two behind a point."""
    cents = 0
    for kind, amount in sold:
        if kind == purchase and amount is not None:
            whole, _, fraction = amount.partition(".")
            cents += int(whole + (fraction + "00")[:2])
    return cents


def nothing() -> Counts:
    """The counts of no rows."""
    return Counts({}, {})


def total(many: Iterable[Counts | native.Counts], without_days: Iterable[int] = ()) -> Counts:
    """All of these together, but for the rows of some days (counted from 2000-01-01). The native ones are of one
    parser."""
    left_out = frozenset(without_days)
    kept = list(many)
    counted = [counts for counts in kept if isinstance(counts, Counts)]
    if natively := [counts for counts in kept if not isinstance(counts, Counts)]:
        counted.append(Counts(*native.Counts.total(natively)))
    events: dict[tuple[int, str, str], tuple[int, int]] = {}
    audience: dict[tuple[int, str, str | None], int] = {}
    for counts in counted:
        for key, (number, cents) in counts.events.items():
            before = events.get(key, (0, 0))
            events[key] = (before[0] + number, before[1] + cents)
        for value, number in counts.audience.items():
            audience[value] = audience.get(value, 0) + number
    if left_out:
        events = {key: sums for key, sums in events.items() if key[0] // QUARTERS_IN_DAY not in left_out}
        audience = {value: sums for value, sums in audience.items() if value[0] // QUARTERS_IN_DAY not in left_out}
    return Counts(events, audience)
