"""Dimensions of the audience: their values, their order, and the counts of one report.

Each dimension is counted by itself and counts all events that have it. A source's total is the sum of one dimension
that all of its events have.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Final, Literal

from core.sources import SOURCES, SourceName, declaration
from sql import statements

Key = tuple[int, SourceName, str]
"""Number of a bucket, source, dimension."""
Values = dict[str | None, int]
"""Events by value; None means other."""
Counts = defaultdict[Key, Values]

_DIMENSIONS: Final = {
    (name, declared.name): declared for name, source in SOURCES.items() for declared in source.dimensions
}
_COARSER: Final = {
    (name, declared.coarser.name): declared for (name, _), declared in _DIMENSIONS.items() if declared.coarser
}
DIMENSIONS_OF: Final[Mapping[SourceName, tuple[str, ...]]] = {
    name: tuple(
        view
        for declared in source.dimensions
        for view in (declared.name, *([declared.coarser.name] if declared.coarser else []))
    )
    for name, source in SOURCES.items()
}
"""The dimensions of each source, in the order of reports."""
DIMENSIONS: Final = tuple(dict.fromkeys(name for names in DIMENSIONS_OF.values() for name in names))
DEFAULT_DIMENSIONS: Final = tuple(name for name in DIMENSIONS if name not in {coarser for _, coarser in _COARSER})
RANKED: Final = frozenset(key for key, declared in _DIMENSIONS.items() if declared.ranked)
"""Source and name of each dimension that no rollup holds; reports list its most frequent values."""

if TYPE_CHECKING:
    Dimension = str
else:  # a closed list, so that OpenAPI shows it
    Dimension = Literal[DIMENSIONS]

_RANKED_SQL: Final = statements("report_demographics")["ranked"]
_EXPECTED_REGISTERED_VALUES: Final = (
    250  # of a dimension that has a registry, as the limit of an answer's rows counts them
)


@cache
def _expected_values(source: SourceName, dimension: str) -> int:
    if declared := _COARSER.get((source, dimension)):
        assert declared.coarser
        return len(declared.coarser.bands)
    declared = _DIMENSIONS[source, dimension]
    return len(declared.bands) or _labels(source, declared) or _EXPECTED_REGISTERED_VALUES


def _labels(source: SourceName, declared: declaration.Dimension) -> int:
    return max(len(key.labels) for key in SOURCES[source].keys_of(declared.path) if key)


def _total_dimension(source: declaration.Source) -> str:
    """Return the dimension with the fewest values among those that all events of a source have."""
    having = [
        declared.name
        for declared in source.counted
        if all(key and not key.nullable for key in source.keys_of(declared.path))
    ]
    return min(having, key=lambda name: _expected_values(source.name, name))


_TOTAL_DIMENSION: Final = {name: _total_dimension(source) for name, source in SOURCES.items()}
_ORDERS: Final[Mapping[tuple[SourceName, str], Mapping[str, int]]] = {
    **{
        key: {name: place for place, (_, name) in enumerate(declared.bands)}
        for key, declared in _DIMENSIONS.items()
        if declared.bands
    },
    **{
        key: {name: place for place, (_, name) in enumerate(declared.coarser.bands)}
        for key, declared in _COARSER.items()
        if declared.coarser
    },
}
_COARSER_BAND: Final[Mapping[tuple[SourceName, str], Mapping[str | None, str]]] = {
    key: {
        name: declared.coarser.bands[bisect_right([low for low, _ in declared.coarser.bands], first) - 1][1]
        for first, name in declared.bands
    }
    for key, declared in _COARSER.items()
    if declared.coarser
}


def attribute_name(dimension: str) -> str:
    """Return the Python attribute of a dimension."""
    return re.sub(r"[A-Z]", lambda capital: f"_{capital[0].lower()}", dimension)


def value_order(source: SourceName, dimension: str) -> Mapping[str, int] | None:
    """Return the position of each value; None if the dimension has no order of its own."""
    return _ORDERS.get((source, dimension))


def estimated_values(by: Iterable[str], sources: Iterable[SourceName], top: int) -> int:
    """Return about how many figures each bucket has."""
    by = tuple(by)
    return sum(
        top + 1 if (source, dimension) in RANKED else _expected_values(source, dimension)
        for source in sources
        for dimension in DIMENSIONS_OF[source]
        if dimension in by
    )


def ranked_dimensions(by: Iterable[str], sources: Iterable[SourceName]) -> list[tuple[SourceName, str]]:
    """Return source and name of each ranked dimension in `by`."""
    by = tuple(by)
    return [
        (source, name)
        for source in sources
        for name in DIMENSIONS_OF[source]
        if name in by and (source, name) in RANKED
    ]


def ranked_statement(source: SourceName, dimension: str) -> str:
    """Return the SQL that counts a ranked dimension: `ranked` in sql/report_demographics.sql."""
    declared_source, declared = SOURCES[source], _DIMENSIONS[source, dimension]
    return _RANKED_SQL.format(table=declared_source.table, column=declared_source.column_of(declared.path))


def rollup_dimensions(by: Iterable[str], sources: Iterable[SourceName]) -> list[str]:
    """Return the dimensions to read from rollups: those in `by`, and those that give the sources' totals."""
    by = tuple(by)
    read = {_COARSER[key].name if (key := (source, name)) in _COARSER else name for source in sources for name in by}
    rolled_up = {declared.name for source in sources for declared in SOURCES[source].counted}
    return sorted((read & rolled_up) | {_TOTAL_DIMENSION[source] for source in sources})


def events_by_bucket(counts: Counts, source: SourceName) -> Counter[int]:
    """Return all events of a source, by bucket."""
    dimension = _TOTAL_DIMENSION[source]
    return Counter(
        {
            number: sum(events.values())
            for (number, event_source, name), events in counts.items()
            if event_source == source and name == dimension
        }
    )


def bucket_values(counts: Counts, number: int, source: SourceName, dimension: str) -> Values:
    """Return the events of one bucket, source and dimension, by value."""
    if (declared := _COARSER.get((source, dimension))) is None:
        return counts.get((number, source, dimension), {})
    bands: Counter[str | None] = Counter()
    for value, events in counts.get((number, source, declared.name), {}).items():
        bands[_COARSER_BAND[source, dimension][value]] += events
    return bands


def counted_values(counts: Counts, source: SourceName, name: str) -> set[str]:
    """Return the values of a dimension that were counted in any bucket, without other."""
    return {
        value
        for (_, event_source, dimension), events in counts.items()
        if (event_source, dimension) == (source, name)
        for value in events
        if value is not None
    }


def describe(dimension: str) -> str:
    """Return the OpenAPI description of a dimension: its sources and their bands."""
    parts = []
    for source, names in DIMENSIONS_OF.items():
        if dimension not in names:
            continue
        declared = _COARSER.get((source, dimension)) or _DIMENSIONS[source, dimension]
        bands = declared.coarser.bands if declared.coarser and declared.coarser.name == dimension else declared.bands
        details = f": {bands[0][1]!r} to {bands[-1][1]!r}" if bands else ""
        if declared.ranked:
            details = ": the `top` most frequent values of the bucket, and other"
        elif len({key is None for key in SOURCES[source].keys_of(declared.path)}) > 1:
            details += ", one funnel stage only"
        parts.append(source + details)
    return "; ".join(parts)
