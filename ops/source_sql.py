"""Write sql/sources.sql, the statements that differ by source, from sql/templates.sql and the declarations.

`python -m ops.source_sql` writes the file; a test checks that it matches the declarations in `core/sources`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from textwrap import indent
from typing import Final

from core.sources import SOURCES
from core.sources.declaration import REGISTERED, Dimension, Source
from sql import FOLDER, statements

_TEMPLATES: Final = statements("templates")
FILE: Final = FOLDER / "sources.sql"
_HEADING: Final = """\
-- Written by `python -m ops.source_sql` from sql/templates.sql and core/sources: change those, then run it.
-- What a collector merges staged rows with, and what reports count of rows.
"""
_REGISTRY: Final = (
    f"LEFT JOIN known_countries known ON seen.dimension = '{REGISTERED}' AND known.country = seen.{REGISTERED}"
)
_INDENT: Final = " " * 20


def text() -> str:
    """Return the text of sql/sources.sql."""
    written = [
        _statement(f"{name}_{source.name}", _filled(_TEMPLATES[name], source))
        for source in SOURCES.values()
        for name in ("merge", "audience_rows")
    ]
    with_campaigns = [source for source in SOURCES.values() if source.campaign]
    with_countries = [source for source in SOURCES.values() if _column(source, REGISTERED)]
    for name, part, sources in (
        ("campaign", "purchases_of_campaign", with_campaigns),
        ("country_rows", "countries_of", with_countries),
    ):
        parts = [_filled(_TEMPLATES[part], source) for source in sources]
        bodies = ["\n".join(line for line in text.splitlines() if not line.startswith("--")) for text in parts]
        united = "\nUNION ALL\n".join(bodies)
        written.append(_statement(name, _TEMPLATES[name].replace(f"[[{part}]]", indent(united, " " * 8))))
    written += [
        _statement(f"{name}_{source.name}", _with_fold(_TEMPLATES[name], source))
        for source in SOURCES.values()
        for name in ("count_breakdowns", "total_breakdowns")
    ]
    written += [
        _statement(f"breakdown_rows_{source.name}_{name.replace(',', '_')}", _breakdown_rows(source, columns))
        for source in SOURCES.values()
        for name, columns in source.breakdowns.items()
    ]
    return "\n".join([_HEADING, *written])


def _statement(name: str, text: str) -> str:
    return f"-- name: {name}\n{text}\n"


def _filled(template: str, source: Source) -> str:
    columns = {dimension.name: source.column_of(dimension.path) for dimension in source.counted}
    names = list(columns)
    places = {
        "source": source.name,
        "purchase": source.purchase.event_type,
        "values": ", ".join(_selected(dimension, columns[dimension.name]) for dimension in source.counted),
        "columns": ", ".join(names),
        "buckets": ", ".join(f"(bucket, {name})" for name in names),
        "dimension": _case([(f"grouping({name}) = 0", f"'{name}'") for name in names]),
        "value": _case([(f"dimension = '{name}'", _value(name)) for name in names]),
        "known": _known(source),
        "campaign": source.column_of(source.campaign) if source.campaign else "",
        "country": _column(source, REGISTERED) or "",
        "registry": _REGISTRY if REGISTERED in names else "",
    }
    return _replaced(template, places)


def _replaced(template: str, places: Mapping[str, str]) -> str:
    filled = re.sub(r"\[\[(\w+)\]\]", lambda place: places[place[1]], template)
    return "\n".join(line.rstrip() for line in filled.splitlines())


def _with_fold(template: str, source: Source) -> str:
    """A statement that writes the breakdowns of a source: see `fold` in the templates."""
    breakdowns = list(source.breakdowns.values())
    pairs = [columns for columns in breakdowns if len(columns) > 1]
    # What rows are grouped by: a dimension that is part of a pair is counted with the first one.
    sets = [next((pair for pair in pairs if set(columns) <= set(pair)), columns) for columns in breakdowns]
    grouped = list(dict.fromkeys(sets))
    singles = dict.fromkeys(dimension for columns in grouped for dimension in columns)
    types = [label for labels in source.event_types.values() for label in labels]
    counts = [f"events_{number}" for number, _ in enumerate(types, start=1)]
    place = "array_position(event_types, '{0}')"
    return _replaced(
        template.replace("[[fold]]", _body("fold")),
        {
            "source": source.name,
            "purchase": source.purchase.event_type,
            "names": _texts(source.breakdowns),
            "pairs": ", ".join(str(number) for number, columns in enumerate(breakdowns, 1) if len(columns) > 1),
            "number": _case(
                [
                    (" AND ".join(f"grouping({one.name}) = 0" for one in columns), str(number))
                    for number, columns in enumerate(grouped, start=1)
                ]
            ),
            "columns": ", ".join(one.name for one in singles),
            "values": ", ".join(_selected(one, source.column_of(one.path)) for one in singles),
            "sets": ", ".join(f"(event_type, {', '.join(one.name for one in columns)})" for columns in grouped),
            "named": "\n    UNION ALL\n".join(
                _breakdown(number, grouped.index(within) + 1, columns)
                for number, (columns, within) in enumerate(zip(breakdowns, sets, strict=True), start=1)
            ),
            "types": _texts(types),
            "counts": ", ".join(counts),
            "pivoted": _lines(
                f"coalesce(sum(events) FILTER (WHERE event_type = '{label}'), 0) AS {count}"
                for label, count in zip(types, counts, strict=True)
            ),
            "summed": _lines(f"coalesce(sum({count}), 0)::bigint AS {count}" for count in counts),
            "slices": ",\n        ".join(f"finer.events[{place}:{place}]".format(label) for label in types),
            "arrays": ", ".join(f"array_agg({count})" for count in counts),
        },
    )


def _breakdown(number: int, within: int, columns: tuple[Dimension, ...]) -> str:
    second = columns[1].name if len(columns) > 1 else None
    return _replaced(
        _body("breakdown"),
        {
            "breakdown": str(number),
            "set": str(within),
            "value": columns[0].name,
            "second": second or "NULL",
            "and": f" AND {second} IS NOT NULL" if second else "",
        },
    )


def _body(template: str) -> str:
    """A template that is a part of others, without its comment."""
    return "\n".join(line for line in _TEMPLATES[template].splitlines() if not line.startswith("--"))


def _breakdown_rows(source: Source, columns: tuple[Dimension, ...]) -> str:
    """The rows of a source with the values of one breakdown."""
    values = [
        banded(one, column) if one.bands else column
        for one, column in ((one, source.column_of(one.path)) for one in columns)
    ]
    return _replaced(
        _TEMPLATES["breakdown_rows"],
        {
            "source": source.name,
            "purchase": source.purchase.event_type,
            "one_value": f"({values[0]})",
            "one_second": f"({values[1]})" if len(values) > 1 else "NULL",
        },
    )


def _texts(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)


def _lines(expressions: Iterable[str]) -> str:
    return ",\n           ".join(expressions)


def _column(source: Source, dimension: str) -> str | None:
    """Return the column of a dimension of the rollups; None if the source does not have it."""
    return next((source.column_of(one.path) for one in source.counted if one.name == dimension), None)


def _selected(dimension: Dimension, column: str) -> str:
    """Return the expression by which a dimension is grouped: a number by its band."""
    if not dimension.bands:
        return column if column == dimension.name else f"{column} AS {dimension.name}"
    return f"{banded(dimension, column)} AS {dimension.name}"


def banded(dimension: Dimension, column: str) -> str:
    """Return the expression of the band of a number. A leading band of a single number is that number."""
    bands = dimension.bands
    places = (number for number, band in enumerate(bands) if band != (number, str(number)))
    singles = next(places, len(bands) - 1)
    singles -= bands[singles][0] > singles  # the last one covers more than one number
    arms = [(f"{column} < {singles}", f"{column}::text")] if singles > 0 else []
    arms += [(f"{column} < {end}", f"'{name}'") for (_, name), (end, _) in pairwise(bands[max(0, singles) :])]
    return _case([*arms, ("", f"'{bands[-1][1]}'")])


def _value(name: str) -> str:
    return "known.country" if name == REGISTERED else f"{name}::text"


def _known(source: Source) -> str:
    """Return the condition for counted values. A dimension that may be absent or null excludes absent values."""
    partial = [
        dimension.name
        for dimension in source.counted
        if any(key is None or key.nullable for key in source.keys_of(dimension.path))
    ]
    return " AND ".join(f"(dimension <> '{name}' OR seen.{name} IS NOT NULL)" for name in partial) or "true"


def _case(arms: list[tuple[str, str]]) -> str:
    """Return a CASE expression whose last arm has no condition."""
    if len(arms) == 1:
        return arms[0][1]
    conditions = f"\n{_INDENT}".join(f"WHEN {condition} THEN {value}" for condition, value in arms[:-1])
    return f"CASE {conditions}\n{_INDENT}ELSE {arms[-1][1]} END"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
