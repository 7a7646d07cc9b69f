"""Dimensions of the audience: their values, their order, and the figures of one report.

Each dimension is counted by itself and counts all events that have it. A source's total is the sum of one dimension
that all of its events have. A pair of dimensions that a source declares is a dimension, too: `age:gender`.

    dimension        counted as      its values
    age              age             as counted
    ageBand          age             the ages of each band added up
    age:gender       age,gender      as counted
    ageBand:gender   age,gender      the ages of each band added up
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal

from core.sources import SOURCES, SourceName, declaration

Key = tuple[int, SourceName, str]
"""Number of a bucket, source, what is counted: the dimension, or both dimensions of a pair with a comma between."""
Value = str | tuple[str, str] | None
"""A value, or the two values of a pair; None means other."""
Values = dict[Value, Any]
"""A figure by value."""
Counts = defaultdict[Key, Values]

PAIR: Final = ":"
"""Separates the two dimensions of a pair."""

_DIMENSIONS: Final = {
    (name, declared.name): declared for name, source in SOURCES.items() for declared in source.dimensions
}
_COARSER: Final = {
    (name, declared.coarser.name): declared for (name, _), declared in _DIMENSIONS.items() if declared.coarser
}


def _views(declared: declaration.Dimension) -> tuple[str, ...]:
    return (declared.name, declared.coarser.name) if declared.coarser else (declared.name,)


_PAIRS: Final[Mapping[tuple[SourceName, str], tuple[str, str]]] = {
    (name, f"{one}{PAIR}{other}"): pair
    for name, source in SOURCES.items()
    for pair in source.pairs
    for one in _views(_DIMENSIONS[name, pair[0]])
    for other in _views(_DIMENSIONS[name, pair[1]])
}
DIMENSIONS_OF: Final[Mapping[SourceName, tuple[str, ...]]] = {
    name: (
        *(view for declared in source.dimensions for view in _views(declared)),
        *(pair for of, pair in _PAIRS if of == name),
    )
    for name, source in SOURCES.items()
}
"""The dimensions of each source, in the order of reports; pairs are last."""
DIMENSIONS: Final = tuple(
    sorted(dict.fromkeys(name for names in DIMENSIONS_OF.values() for name in names), key=lambda name: PAIR in name)
)
DEFAULT_DIMENSIONS: Final = tuple(
    name for name in DIMENSIONS if name not in {coarser for _, coarser in _COARSER} and PAIR not in name
)
RANKED: Final = frozenset(key for key, declared in _DIMENSIONS.items() if declared.ranked)
"""Source and name of each dimension whose most frequent values a report lists."""

if TYPE_CHECKING:
    Dimension = str
else:  # a closed list, so that OpenAPI shows it
    Dimension = Literal[DIMENSIONS]

_EXPECTED_REGISTERED_VALUES: Final = (
    250  # of a dimension that has a registry, as the limit of an answer's rows counts them
)


@cache
def _expected_values(source: SourceName, dimension: str) -> int:
    if PAIR in dimension:
        one, other = dimension.split(PAIR)
        return _expected_values(source, one) * _expected_values(source, other)
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
    return re.sub(r"[A-Z]", lambda capital: f"_{capital[0].lower()}", dimension.replace(PAIR, "_"))


def json_name(dimension: str) -> str:
    """Return the name of a dimension in JSON: ageGender for age:gender."""
    return re.sub(rf"{PAIR}(.)", lambda first: first[1].upper(), dimension)


def counted_as(source: SourceName, dimension: str) -> str:
    """Return the breakdown that counts a dimension: a key of `breakdowns` of the source's declaration."""
    if pair := _PAIRS.get((source, dimension)):
        return ",".join(pair)
    declared = _COARSER.get((source, dimension))
    return declared.name if declared else dimension


def is_registered(source: SourceName, dimension: str) -> bool:
    """Return whether a registry has the values of a dimension."""
    return dimension == declaration.REGISTERED and dimension in DIMENSIONS_OF[source]


def total_dimension(source: SourceName) -> str:
    """Return the dimension whose sum is the total of a source."""
    return _TOTAL_DIMENSION[source]


def sort_key(source: SourceName, dimension: str, figures: Values) -> Callable[[Value], tuple[Any, ...]]:
    """Return the key that orders values: in the dimension's own order or by figure, largest first; other last."""
    if PAIR in dimension:
        one, other = (_ORDERS.get((source, name)) for name in dimension.split(PAIR))
        return lambda value: (
            (value is None, *((_place(one, value[0]), _place(other, value[1])) if isinstance(value, tuple) else ()))
        )
    if order := _ORDERS.get((source, dimension)):
        return lambda value: (value is None, order[value] if isinstance(value, str) else 0)
    return lambda value: (value is None, -figures.get(value, 0), value or "")


def _place(order: Mapping[str, int] | None, value: str) -> int | str:
    return order[value] if order else value


def estimated_values(by: Iterable[str], sources: Iterable[SourceName], top: int) -> int:
    """Return about how many figures each bucket has."""
    by = tuple(by)
    return sum(
        top + 1 if (source, dimension) in RANKED else _expected_values(source, dimension)
        for source in sources
        for dimension in DIMENSIONS_OF[source]
        if dimension in by
    )


def rollup_dimensions(by: Iterable[str], sources: Iterable[SourceName]) -> list[str]:
    """Return the dimensions to read from rollups: those in `by`, and those that give the sources' totals."""
    sources = tuple(sources)
    read = {counted_as(source, name) for source in sources for name in by}
    rolled_up = {declared.name for source in sources for declared in SOURCES[source].counted}
    return sorted((read & rolled_up) | {_TOTAL_DIMENSION[source] for source in sources})


def breakdowns_of(by: Iterable[str], source: SourceName, *, all_dimensions: bool) -> list[str]:
    """Return the breakdowns to read: of what no rollup holds, or of all dimensions in `by` and the source's total.

    The one that gives the total is first.
    """
    rolled_up = {declared.name for declared in SOURCES[source].counted}
    total = [_TOTAL_DIMENSION[source]] if all_dimensions else []
    names = [counted_as(source, name) for name in DIMENSIONS_OF[source] if name in by]
    return list(dict.fromkeys([*total, *(name for name in names if all_dimensions or name not in rolled_up)]))


def sum_by_bucket(counts: Counts, source: SourceName) -> Counter[int]:
    """Return a figure of all events of a source, by bucket."""
    dimension = _TOTAL_DIMENSION[source]
    return Counter(
        {
            number: sum(figures.values())
            for (number, event_source, name), figures in counts.items()
            if event_source == source and name == dimension
        }
    )


def bucket_values(counts: Counts, number: int, source: SourceName, dimension: str) -> Values:
    """Return a figure of one bucket, source and dimension, by value."""
    values = counts.get((number, source, counted_as(source, dimension)), {})
    bands = [_COARSER_BAND.get((source, name)) for name in dimension.split(PAIR)]
    if not any(bands):
        return values
    summed: Values = {}
    for value, figure in values.items():
        band = _band(value, bands)
        summed[band] = summed.get(band, 0) + figure
    return summed


def _band(value: Value, bands: list[Mapping[str | None, str] | None]) -> Value:
    """Return the value that a report shows of a counted one. bands: of each of its dimensions; None: as counted."""
    if isinstance(value, tuple):
        one, other = ((of[part] if of else part) for of, part in zip(bands, value, strict=True))
        return one, other
    return bands[0][value] if value is not None and bands[0] else value


def counted_values(counts: Counts, source: SourceName, name: str) -> set[Any]:
    """Return the values that were counted in any bucket, without other."""
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
        if PAIR in dimension:
            parts.append(f"{source}: each pair of {dimension.replace(PAIR, ' and ')}")
            continue
        declared = _COARSER.get((source, dimension)) or _DIMENSIONS[source, dimension]
        bands = declared.coarser.bands if declared.coarser and declared.coarser.name == dimension else declared.bands
        details = f": {bands[0][1]!r} to {bands[-1][1]!r}" if bands else ""
        if declared.ranked:
            details = ": the `top` values of the range, and other"
        elif len({key is None for key in SOURCES[source].keys_of(declared.path)}) > 1:
            details += ", one funnel stage only"
        parts.append(source + details)
    return "; ".join(parts)
