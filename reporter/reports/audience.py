"""What is known of those who cause events, and how figures of it are kept while a report is made.

Dimensions are counted one by one: each counts all events that have it. Of each source, one dimension that all of its
events have says how many events there were.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Final, Literal

from core.sources import SOURCES, SourceName
from core.sources import declaration as declared
from sql import statements

Key = tuple[int, SourceName, str]
"""The number of a bucket, a source and a dimension."""
Values = dict[str | None, int]
"""Events by value; None is other."""
Counts = defaultdict[Key, Values]

_DECLARED: Final = {(name, one.name): one for name, source in SOURCES.items() for one in source.dimensions}
_COARSER: Final = {(name, one.coarser.name): one for (name, _), one in _DECLARED.items() if one.coarser}
OF: Final[Mapping[SourceName, tuple[str, ...]]] = {
    name: tuple(view for one in source.dimensions for view in (one.name, *([one.coarser.name] if one.coarser else [])))
    for name, source in SOURCES.items()
}
"""What is known of a source's audience, in the order of reports."""
DIMENSIONS: Final = tuple(dict.fromkeys(name for names in OF.values() for name in names))
BY_DEFAULT: Final = tuple(name for name in DIMENSIONS if name not in {coarser for _, coarser in _COARSER})
RANKED: Final = frozenset(key for key, one in _DECLARED.items() if one.ranked)
"""The source and name of each dimension that no rollup holds: its most frequent values are listed."""

if TYPE_CHECKING:
    Dimension = str
else:  # a closed list, as OpenAPI shows it
    Dimension = Literal[DIMENSIONS]

_RANKED_SQL: Final = statements("report_demographics")["ranked"]
_USUAL_VALUES: Final = 250  # of a dimension that has a registry, as the limit of an answer's rows counts them


@cache  # it inspects structs, which takes ten times as long as the rest of reading a query
def _usual_values(source: SourceName, dimension: str) -> int:
    if one := _COARSER.get((source, dimension)):
        assert one.coarser
        return len(one.coarser.bands)
    one = _DECLARED[source, dimension]
    return len(one.bands) or _labels(source, one) or _USUAL_VALUES


def _labels(source: SourceName, one: declared.Dimension) -> int:
    return max(len(key.labels) for key in SOURCES[source].keys_of(one.path) if key)


def _everywhere(source: declared.Source) -> str:
    """The dimension with the fewest values of those that all of a source's events have."""
    having = [one.name for one in source.counted if all(key and not key.nullable for key in source.keys_of(one.path))]
    return min(having, key=lambda name: _usual_values(source.name, name))


_ALL_EVENTS: Final = {name: _everywhere(source) for name, source in SOURCES.items()}
_ORDERS: Final[Mapping[tuple[SourceName, str], Mapping[str, int]]] = {
    **{key: {name: place for place, (_, name) in enumerate(one.bands)} for key, one in _DECLARED.items() if one.bands},
    **{
        key: {name: place for place, (_, name) in enumerate(one.coarser.bands)}
        for key, one in _COARSER.items()
        if one.coarser
    },
}
_COARSER_BAND: Final[Mapping[tuple[SourceName, str], Mapping[str | None, str]]] = {
    key: {
        name: one.coarser.bands[bisect_right([low for low, _ in one.coarser.bands], first) - 1][1]
        for first, name in one.bands
    }
    for key, one in _COARSER.items()
    if one.coarser
}


def attribute(dimension: str) -> str:
    """The name of a dimension in Python."""
    return re.sub(r"[A-Z]", lambda capital: f"_{capital[0].lower()}", dimension)


def order(source: SourceName, dimension: str) -> Mapping[str, int] | None:
    """The place of each value, if the dimension has an order of its own."""
    return _ORDERS.get((source, dimension))


def values(by: Iterable[str], sources: Iterable[SourceName], top: int) -> int:
    """About how many figures each bucket has."""
    by = tuple(by)
    return sum(
        top + 1 if (source, dimension) in RANKED else _usual_values(source, dimension)
        for source in sources
        for dimension in OF[source]
        if dimension in by
    )


def ranked(by: Iterable[str], sources: Iterable[SourceName]) -> list[tuple[SourceName, str]]:
    """The ranked dimensions that are asked for, with their sources."""
    by = tuple(by)
    return [(source, name) for source in sources for name in OF[source] if name in by and (source, name) in RANKED]


def ranked_rows(source: SourceName, dimension: str) -> str:
    """The statement that counts a ranked dimension: see `ranked` in sql/report_demographics.sql."""
    declared_source, one = SOURCES[source], _DECLARED[source, dimension]
    return _RANKED_SQL.format(table=declared_source.table, column=declared_source.column_of(one.path))


def counted(by: Iterable[str], sources: Iterable[SourceName]) -> list[str]:
    """The dimensions that have to be read: those asked for, and those that count all events."""
    by = tuple(by)
    params = {_COARSER[key].name if (key := (source, name)) in _COARSER else name for source in sources for name in by}
    rolled_up = {one.name for source in sources for one in SOURCES[source].counted}
    return sorted((params & rolled_up) | {_ALL_EVENTS[source] for source in sources})


def events(counts: Counts, source: SourceName) -> Counter[int]:
    """All events of a source, by bucket."""
    dimension = _ALL_EVENTS[source]
    return Counter(
        {
            number: sum(found.values())
            for (number, of, name), found in counts.items()
            if of == source and name == dimension
        }
    )


def of(counts: Counts, number: int, source: SourceName, dimension: str) -> Values:
    """The figures of one bucket, source and dimension, by value."""
    if (one := _COARSER.get((source, dimension))) is None:
        return counts.get((number, source, dimension), {})
    bands: Counter[str | None] = Counter()
    for value, found in counts.get((number, source, one.name), {}).items():
        bands[_COARSER_BAND[source, dimension][value]] += found
    return bands


def values_of(counts: Counts, source: SourceName, name: str) -> set[str]:
    """The values of a dimension that were counted in any bucket, without other."""
    return {
        value
        for (_, of, dimension), found in counts.items()
        if (of, dimension) == (source, name)
        for value in found
        if value is not None
    }


def described(dimension: str) -> str:
    """What the document says of a dimension: its sources with their bands."""
    said = []
    for source, names in OF.items():
        if dimension not in names:
            continue
        one = _COARSER.get((source, dimension)) or _DECLARED[source, dimension]
        bands = one.coarser.bands if one.coarser and one.coarser.name == dimension else one.bands
        more = f": {bands[0][1]!r} to {bands[-1][1]!r}" if bands else ""
        if one.ranked:
            more = ": the `top` most frequent ones of the bucket, and other"
        elif len({key is None for key in SOURCES[source].keys_of(one.path)}) > 1:
            more += ", one funnel stage only"
        said.append(source + more)
    return "; ".join(said)
