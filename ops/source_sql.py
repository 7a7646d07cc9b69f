"""Write sql/sources.sql, the statements that differ by source, from sql/templates.sql and the declarations.

`python -m ops.source_sql` writes the file; a test checks that it matches the declarations in `core/sources`.
"""

from __future__ import annotations

import re
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
        ("campaigns", "purchases", with_campaigns),
        ("country_rows", "countries_of", with_countries),
    ):
        parts = [_filled(_TEMPLATES[part], source) for source in sources]
        bodies = ["\n".join(line for line in text.splitlines() if not line.startswith("--")) for text in parts]
        united = "\nUNION ALL\n".join(bodies)
        written.append(_statement(name, _TEMPLATES[name].replace(f"[[{part}]]", indent(united, " " * 8))))
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
    filled = re.sub(r"\[\[(\w+)\]\]", lambda place: places[place[1]], template)
    return "\n".join(line.rstrip() for line in filled.splitlines())


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
