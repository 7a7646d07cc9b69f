"""The tables of the sources hold what the sources declare."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from core import postgres
from core.sources import SOURCES
from core.sources.declaration import Source
from ops import schema
from tests.support.stack import Database


async def test_the_migrated_database_holds_what_the_sources_declare(database: Database) -> None:
    """Every column has the type, the labels and the nullability that its struct asks for."""
    connection = await postgres.connect(database.owner_dsn, name="tests")
    assert await schema.differences(connection) == []
    await connection.close()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ALTER TABLE tiktok_events DROP COLUMN followers", "tiktok_events has no column followers"),
        ("ALTER TABLE tiktok_events ALTER followers TYPE bigint", "followers is bigint, declared integer"),
        ("ALTER TABLE tiktok_events ALTER country SET NOT NULL", "country is NOT NULL, but not every event"),
        ("ALTER TABLE tiktok_events ADD note text NOT NULL", "note is NOT NULL, but no field of an event"),
        ("ALTER TABLE tiktok_events RENAME TO other_events", "tiktok_events does not exist"),
        ("DELETE FROM reports.sources WHERE source = 'tiktok'", "reports.sources has no row of tiktok"),
        ("UPDATE reports.sources SET purchase_type = 'like'", "reports.sources.purchase_type of tiktok is 'like'"),
        ("DELETE FROM reports.ranked_columns WHERE breakdown = 'city'", "reports.ranked_columns of facebook has"),
    ],
)
async def test_a_difference_is_named(database: Database, change: str, said: str) -> None:
    """A column that is missing, of another type, or required without a value, is named with its table."""
    connection = await postgres.connect(database.owner_dsn, name="tests")
    await connection.execute(change)
    found = await schema.differences(connection)
    assert any(said in line for line in found), found
    await connection.close()


@pytest.mark.parametrize("source", SOURCES.values(), ids=list(SOURCES))
async def test_the_draft_of_a_migration_makes_the_table(database: Database, source: Source) -> None:
    """The draft runs as it is, and makes a table without a difference from its declaration."""
    connection = await postgres.connect(database.owner_dsn, name="tests")
    await connection.execute(f"DROP TABLE {source.table}")
    await connection.execute(f"DELETE FROM partition_floors WHERE parent = '{source.table}'")
    for table in ("ranked_columns", "sources"):
        await connection.execute(f"DELETE FROM reports.{table} WHERE source = $1", source.name)
    draft = schema.draft(source)
    made = re.findall(r"CREATE TYPE (\w+)", draft)
    for name in made:
        await connection.execute(f"DROP TYPE IF EXISTS {name}")
    await connection.execute(draft)
    assert await schema.differences(connection) == []
    await connection.close()


def test_a_column_has_the_type_of_its_struct() -> None:
    """A declaration names a column and its path alone."""
    declared = {column.name: column for column in schema.columns(SOURCES["facebook"])}
    assert declared["age"].type == "smallint"
    assert declared["gender"].labels == ("female", "male", "non-binary")
    assert not declared["action_time"].required


def test_a_declaration_that_contradicts_itself_is_rejected() -> None:
    """The program does not start with a source that forgets one of its parts."""
    for wrong, said in (
        ({"name": "Face-book"}, "the name must be"),
        ({"columns": {**SOURCES["facebook"].columns, "other": "data.none"}}, "no shape has data.none"),
        (
            {"columns": {**SOURCES["facebook"].columns, "event_id": "data.user.name"}},
            "column event_id must contain eventId",
        ),
        ({"funnel": ("ad.view", "sold")}, "sold is not one of its event types"),
        ({"funnel": ("ad.view",)}, "the funnel needs at least two different steps"),
        ({"funnel": ("ad.view", "ad.view")}, "the funnel needs at least two different steps"),
        ({"pairs": (("age", "income"),)}, "pair age, income: name two of its dimensions"),
        ({"campaign": "data.engagement.adName"}, "no column contains data.engagement.adName"),
    ):
        with pytest.raises(ValueError, match=said):
            replace(SOURCES["facebook"], **wrong)
