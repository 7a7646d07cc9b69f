"""The schema: migrated once by anyone who comes first, and its functions act on days of events alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from core import postgres
from core.errors import Misconfigured
from ops.local import Servers
from tests.support.stack import Database
from tests.support.waiting import eventually, in_time


@pytest.fixture
async def empty(servers: Servers) -> AsyncIterator[Database]:
    """A database that nothing was migrated in."""
    superuser = await postgres.connect(servers.dsn("postgres", "postgres"), name="tests")
    await superuser.execute("CREATE DATABASE t_empty OWNER sluice_owner")
    try:
        yield Database(
            "t_empty",
            *(
                servers.dsn(role, "t_empty")
                for role in ("sluice_owner", "sluice_collector", "sluice_reporter", "sluice_bi")
            ),
        )
    finally:
        await superuser.execute("DROP DATABASE t_empty WITH (FORCE)")
        await superuser.close()


async def journal(dsn: str) -> list[Any]:
    connection = await postgres.connect(dsn, name="tests")
    try:
        return [tuple(row) for row in await connection.fetch("SELECT * FROM schema_migrations ORDER BY version")]
    finally:
        await connection.close()


async def test_migrating_twice_changes_nothing(database: Database) -> None:
    """A schema that is up to date is left as it is, to the instant each migration was applied."""
    before = await journal(database.owner_dsn)
    assert await postgres.migrate(database.owner_dsn) == postgres.migrations()[-1].version
    assert await journal(database.owner_dsn) == before


async def test_migrators_that_meet_wait_for_each_other(empty: Database) -> None:
    """Several services that start at once migrate once."""
    versions = await asyncio.gather(*(postgres.migrate(empty.owner_dsn) for _ in range(4)))
    assert set(versions) == {postgres.migrations()[-1].version}
    assert len(await journal(empty.owner_dsn)) == len(postgres.migrations())


async def test_a_migration_that_fails_leaves_nothing(
    empty: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each migration is applied whole or not at all, and those before it stay."""
    (tmp_path / "0001_first.sql").write_text("CREATE TABLE first ()")
    (tmp_path / "0002_second.sql").write_text("CREATE TABLE second (); SELECT 1 / 0;")
    monkeypatch.setattr(postgres, "MIGRATIONS", tmp_path)
    with pytest.raises(asyncpg.DivisionByZeroError):
        await postgres.migrate(empty.owner_dsn)
    assert [row[:2] for row in await journal(empty.owner_dsn)] == [(1, "first")]
    (tmp_path / "0002_second.sql").write_text("CREATE TABLE second ()")
    assert await postgres.migrate(empty.owner_dsn) == 2


async def test_a_migration_may_not_change(database: Database) -> None:
    """A file that was applied and differs now is reported, and nothing is done."""
    connection = await postgres.connect(database.owner_dsn, name="tests")
    await connection.execute("UPDATE schema_migrations SET sha256 = 'other' WHERE version = 1")
    await connection.close()
    with pytest.raises(Misconfigured, match="migration 1 was changed after it was applied"):
        await postgres.migrate(database.owner_dsn)


async def test_a_database_that_is_newer_is_reported(database: Database) -> None:
    """A program of yesterday does not start on tomorrow's schema."""
    connection = await postgres.connect(database.owner_dsn, name="tests")
    await connection.execute("INSERT INTO schema_migrations VALUES (9999, 'later', 'x')")
    await connection.close()
    with pytest.raises(Misconfigured, match="migration 9999, which this program does not know"):
        await postgres.migrate(database.owner_dsn)


async def test_who_may_not_migrate_waits_for_who_may(empty: Database) -> None:
    """Without the owner's DSN a service waits for the schema, and goes on when it is there."""
    waiting = [
        asyncio.create_task(postgres.prepare_schema(dsn, None, asyncio.Event()))
        for dsn in (empty.collector_dsn, empty.reporter_dsn)
    ]
    superuser = await postgres.connect(empty.owner_dsn, name="tests")

    async def requested() -> bool:
        found = await superuser.fetchval("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sluice-wait'")
        return bool(found)

    await eventually(requested, what="somebody waits for the schema", every=0.002)
    await superuser.close()
    assert not any(task.done() for task in waiting)
    await postgres.prepare_schema(empty.collector_dsn, empty.owner_dsn, asyncio.Event())
    await in_time(asyncio.gather(*waiting))


async def test_the_collectors_functions_make_days_of_events_alone(database: Database) -> None:
    """The two functions that run with the owner's rights cannot be led to other tables or another schema's."""
    connection = await postgres.connect(database.collector_dsn, name="tests")
    try:
        for parent in (
            "receipts",
            "dead_letters",
            "no_such_table",
            "pg_class",
            'facebook_events"; DROP TABLE receipts; --',
        ):
            with pytest.raises(asyncpg.PostgresError):
                await connection.fetchval("SELECT ensure_partition($1, '2026-01-01')", parent)
        assert await connection.fetchval("SELECT drop_partitions('receipts', '2026-01-01')") == 0
        # A table of the same name that stands earlier on the caller's path is not taken for ours.
        await connection.execute(
            "CREATE TEMP TABLE facebook_events (event_time timestamptz) PARTITION BY RANGE (event_time)"
        )
        assert await connection.fetchval("SELECT ensure_partition('facebook_events', '2026-01-01')") is True
        leaf = "SELECT inhparent::regclass::text FROM pg_inherits WHERE inhrelid = 'facebook_events_20260101'::regclass"
        assert await connection.fetchval(leaf) == "public.facebook_events"
        assert await connection.fetchval("SELECT count(*) FROM receipts") == 0
    finally:
        await connection.close()
