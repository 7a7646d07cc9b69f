"""What is known of those who cause events, and how figures of it are kept while a report is made.

Dimensions are counted one by one: each counts all events that have it. Gender counts every facebook event, followers
every tiktok event, so the two say how many events there were.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, get_args

from core.events.subjects import Source

Dimension = Literal["age", "ageBand", "gender", "country", "city", "followers", "device"]
Key = tuple[int, Source, str]
"""The number of a bucket, a source and a dimension."""
Values = dict[str | None, int]
"""Events by value; None is other."""
Counts = defaultdict[Key, Values]

DIMENSIONS: Final[tuple[Dimension, ...]] = get_args(Dimension)
OF: Final[Mapping[Source, tuple[Dimension, ...]]] = {
    "facebook": ("age", "ageBand", "gender", "country", "city"),
    "tiktok": ("followers", "country", "device"),
}
BY_DEFAULT: Final[tuple[Dimension, ...]] = ("age", "gender", "country", "city", "followers", "device")

FOLLOWERS: Final = ("0-999", "1000-9999", "10000-99999", "100000-999999", "1000000+")
AGE_BANDS: Final = ("0-17", "18-24", "25-34", "35-44", "45-54", "55-64", "65+")
ORDERS: Final[Mapping[Dimension, Callable[[str], int]]] = {
    "age": lambda age: int(age.rstrip("+")),
    "ageBand": AGE_BANDS.index,
    "followers": FOLLOWERS.index,
}

_ALL_EVENTS: Final[Mapping[Source, Dimension]] = {"facebook": "gender", "tiktok": "followers"}
# How many values a bucket usually has, as the limit of an answer's rows counts them.
_VALUES: Final[Mapping[Dimension, int]] = {
    "age": 121,
    "ageBand": len(AGE_BANDS),
    "gender": 3,
    "country": 250,
    "followers": len(FOLLOWERS),
    "device": 3,
}
_BAND_OF: Final = {
    str(age): next(band for band in AGE_BANDS if band.endswith("+") or age <= int(band.partition("-")[2]))
    for age in range(120)
} | {"120+": AGE_BANDS[-1]}


def attribute(dimension: Dimension) -> str:
    """The name of a dimension in Python."""
    return "age_band" if dimension == "ageBand" else dimension


def values(by: Iterable[Dimension], sources: Iterable[Source], top: int) -> int:
    """About how many figures each bucket has."""
    by = tuple(by)
    return sum(_VALUES.get(dimension, top + 1) for source in sources for dimension in OF[source] if dimension in by)


def counted(by: Iterable[Dimension], sources: Iterable[Source]) -> list[str]:
    """The dimensions that have to be read: those asked for, and those that count all events."""
    asked = {"age" if dimension == "ageBand" else dimension for dimension in by} - {"city"}
    return sorted(asked | {_ALL_EVENTS[source] for source in sources})


def events(counts: Counts, source: Source) -> Counter[int]:
    """All events of a source, by bucket."""
    dimension = _ALL_EVENTS[source]
    return Counter(
        {
            number: sum(found.values())
            for (number, of, name), found in counts.items()
            if of == source and name == dimension
        }
    )


def of(counts: Counts, number: int, source: Source, dimension: Dimension) -> Values:
    """The figures of one bucket, source and dimension, by value."""
    if dimension != "ageBand":
        return counts.get((number, source, dimension), {})
    bands: Counter[str | None] = Counter()
    for age, found in counts.get((number, source, "age"), {}).items():
        bands[_BAND_OF[str(age)]] += found
    return bands
