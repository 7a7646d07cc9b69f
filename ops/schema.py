"""Compare tables with the declarations of the sources, and draft the migration of a new source.

declaration --draft--> sql/migrations/NNNN_<source>.sql, which its author reviews and completes
declaration --differences--> what is missing in the database; `doctor` and a test use it
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import asyncpg

from collector.parse.row import MESSAGE_COLUMNS
from core.postgres import Connection, migrations
from core.sources import SOURCES
from core.sources.declaration import STAGES, Source
from core.sources.shape import ColumnType, Field, describe
from sql import MIGRATIONS, statements

_SQL: Final = statements("schema")
_TYPES: Final = {
    ColumnType.TEXT: "text",
    ColumnType.SMALLINT: "smallint",
    ColumnType.INTEGER: "integer",
    ColumnType.BIGINT: "bigint",
    ColumnType.TIMESTAMP: "timestamp with time zone",
    ColumnType.AMOUNT: "numeric",
}
# Fixed-width columns first: less padding in a row.
_WIDTHS: Final = ("timestamp with time zone", "bigint", "enum", "integer", "smallint", "text", "numeric")


class Column(NamedTuple):
    """A declared column. labels are those of an enum type, and empty for any other type."""

    name: str
    type: str
    required: bool
    labels: tuple[str, ...] = ()


def columns(source: Source) -> list[Column]:
    """Return the columns for the fields of a source's events, fixed-width columns first."""
    shapes = [{field.path: field for field in describe(shape)} for shape in source.shapes]
    declared = [_column(name, path, shapes, source) for name, path in source.columns.items()]
    return sorted(declared, key=lambda column: _WIDTHS.index(column.type))


def _column(name: str, path: str, shapes: Sequence[dict[str, Field]], source: Source) -> Column:
    if path == "funnelStage":
        return Column(name, "enum", True, STAGES)
    if path == "eventType":
        return Column(name, "enum", True, tuple(label for labels in source.event_types.values() for label in labels))
    fields = [fields[path] for fields in shapes if path in fields]
    required = len(fields) == len(shapes) and not any(field.nullable for field in fields)
    if fields[0].type is ColumnType.LABEL:
        return Column(name, "enum", required, tuple(dict.fromkeys(label for field in fields for label in field.labels)))
    return Column(name, _TYPES[fields[0].type], required)


async def differences(connection: Connection) -> list[str]:
    """Return each difference between the database and the declarations as a sentence."""
    problems = []
    for source in SOURCES.values():
        rows = {row["column"]: row for row in await connection.fetch(_SQL["columns"], source.table)}
        if not rows:
            problems.append(f"{source.table} does not exist: the migration of {source.name} is missing")
            continue
        problems += _differences(source, rows)
        for name, labels in _listed(source).items():
            known = {row["enumlabel"] for row in await connection.fetch(_SQL["labels"], name)}
            problems += [
                f"type {name} lacks {label!r}, which {source.name} needs" for label in labels if label not in known
            ]
        problems += await _reports_differences(connection, source)
    return problems


async def _reports_differences(connection: Connection, source: Source) -> list[str]:
    """Return what the views of reports do not know of a source."""
    declared = (source.title, source.purchase.event_type, list(source.funnel))
    row = await connection.fetchrow(_SQL["reported_source"], source.name)
    if row is None:
        return [f"reports.sources has no row of {source.name}, so no view of reports shows its revenue"]
    problems = [
        f"reports.sources.{name} of {source.name} is {known!r}, declared {wanted!r}"
        for (name, known), wanted in zip(row.items(), declared, strict=True)
        if known != wanted
    ]
    known = {
        row["breakdown"]: row["column_name"] for row in await connection.fetch(_SQL["reported_ranked"], source.name)
    }
    if known != _ranked_columns(source):
        problems.append(f"reports.ranked_columns of {source.name} has {known}, declared {_ranked_columns(source)}")
    return problems


def _ranked_columns(source: Source) -> dict[str, str]:
    """Return the breakdowns of a source that only rows or breakdowns have, with their columns."""
    return {
        columns[0].name: source.column_of(columns[0].path)
        for columns in source.breakdowns.values()
        if len(columns) == 1 and columns[0].ranked
    }


def _differences(source: Source, rows: dict[str, asyncpg.Record]) -> Iterator[str]:
    declared = {column.name: column for column in columns(source)}
    for name, column in declared.items():
        if (row := rows.get(name)) is None:
            yield f"{source.table} has no column {name}"
            continue
        column_type = "enum" if row["labels"] is not None else row["type"]
        if column_type != column.type:
            yield f"{source.table}.{name} is {row['type']}, declared {column.type}"
        elif missing := set(column.labels) - set(row["labels"] or ()):
            yield f"{source.table}.{name} does not accept {', '.join(sorted(missing))}"
        if row["required"] and not column.required:
            yield f"{source.table}.{name} is NOT NULL, but not every event has a value for it"
    for name in MESSAGE_COLUMNS:
        if name not in rows:
            yield f"{source.table} has no column {name}"
    for name, row in rows.items():
        if row["required"] and not row["defaulted"] and name not in {*declared, *MESSAGE_COLUMNS}:
            yield f"{source.table}.{name} is NOT NULL, but no field of an event is declared for it"


def _listed(source: Source) -> dict[str, list[str]]:
    """Return the labels that the enum types of all sources need for this source."""
    return {
        "source": [source.name],
        "event_type": [label for labels in source.event_types.values() for label in labels],
        "audience_dimension": [dimension.name for dimension in source.counted],
    }


def draft(source: Source) -> str:
    """Return a draft of the migration that creates the table of a source. Its author reviews and completes it."""
    shared = {"funnel_stage": "funnel_stage", "event_type": "event_type"}
    declared = columns(source)
    lines = [f"-- {source.title}: its events, and its labels in the enum types of all sources."]
    for name, labels in _listed(source).items():
        lines += [f"ALTER TYPE {name} ADD VALUE IF NOT EXISTS '{label}';" for label in labels]
    for column in declared:
        if column.labels and column.name not in shared:
            values = ", ".join(f"'{label}'" for label in column.labels)
            lines.append(f"CREATE TYPE {source.name}_{column.name} AS ENUM ({values});")
    lines += [
        "",
        "-- One partition a day (UTC) of the events' own timestamp; no DEFAULT partition.",
        f"CREATE TABLE {source.table} (",
    ]
    lines += [f"    {column.name} {_written(column, source, shared)}," for column in declared[:1]]
    lines += [
        "    received_at timestamptz NOT NULL,",
        "    stored_at timestamptz NOT NULL DEFAULT now(),",
        "    stream_sequence bigint NOT NULL,",
    ]
    lines += [f"    {column.name} {_written(column, source, shared)}," for column in declared[1:]]
    lines += [
        '    correlation_id text COLLATE "C" NOT NULL,',
        "    PRIMARY KEY (event_time, event_id)",
        ") PARTITION BY RANGE (event_time);",
        f"INSERT INTO partition_floors VALUES ('{source.table}', '2000-01-01');",
        *_campaign_index(source),
        "",
        *_reported(source),
        "",
        f"GRANT SELECT ON {source.table} TO sluice_reporter, sluice_collector;",
        f"GRANT INSERT ON {source.table} TO sluice_collector;",
    ]
    return "\n".join(lines) + "\n"


def _reported(source: Source) -> list[str]:
    """Return the rows by which the views of reports know the source."""
    title = source.title.replace("'", "''")
    lines = [
        "-- What the views of reports need to know of it (docs/bi.md).",
        f"INSERT INTO reports.sources VALUES ('{source.name}', '{title}', '{source.purchase.event_type}', "
        f"'{{{','.join(source.funnel)}}}');",
    ]
    ranked = [f"('{source.name}', '{name}', '{column}')" for name, column in _ranked_columns(source).items()]
    return [*lines, f"INSERT INTO reports.ranked_columns VALUES {', '.join(ranked)};"] if ranked else lines


def _campaign_index(source: Source) -> list[str]:
    """Return the index on campaigns.

    Its condition is not an event type: PostgreSQL does not allow the use of an added enum label before its commit.
    """
    if source.campaign is None:
        return []
    column = source.column_of(source.campaign)
    return [
        "-- By the hash, because a campaign may be longer than an entry of a B-tree. New partitions inherit the index.",
        f"CREATE INDEX {source.table}_campaign ON {source.table} (hashtextextended({column}, 0), event_time)",
        f"    WHERE {column} IS NOT NULL;",
    ]


def _written(column: Column, source: Source, shared: dict[str, str]) -> str:
    types = {"timestamp with time zone": "timestamptz", "numeric": "numeric(12, 2)", "text": 'text COLLATE "C"'}
    written = types.get(column.type, column.type)
    if column.type == "enum":
        written = shared.get(column.name, f"{source.name}_{column.name}")
    return f"{written} NOT NULL" if column.required else written


def write_draft(source: Source) -> Path:
    """Write the draft as the next migration. Raises FileExistsError if the source already has a migration."""
    if existing := sorted(MIGRATIONS.glob(f"*_{source.name}.sql")):
        raise FileExistsError(f"{existing[0]} exists")
    file = MIGRATIONS / f"{migrations()[-1].version + 1:04}_{source.name}.sql"
    file.write_text(draft(source), encoding="utf-8")
    return file


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(
        prog="python -m ops.schema", description="Write a draft of the migration of a new source."
    )
    arguments.add_argument("source", choices=sorted(SOURCES), help="source that core/sources declares")
    print(write_draft(SOURCES[arguments.parse_args().source]))
