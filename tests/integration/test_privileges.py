"""Who may do what behind the gateway: NATS lets no one in without the password, and each role of PostgreSQL may do its
own work and no more."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import nats.errors
import pytest
from nats.aio.client import Client

from core import postgres
from ops.local import Servers
from tests.support.collecting import storing
from tests.support.events import NOON, facebook, message
from tests.support.gateway import start_gateway
from tests.support.stack import Database, FreshNats
from tests.support.waiting import eventually

TABLES = (
    *("facebook_events", "tiktok_events", "receipts", "receipt_totals", "event_counts", "audience_counts"),
    *("known_countries", "watermarks", "dead_letters", "rejected_events", "partition_floors", "schema_migrations"),
    *("dead_letter_totals", "stream_lives", "other_countries", "source_states", "gateway_state"),
    *("breakdown_buckets", "breakdown_counts", "breakdown_turns"),
)
LEAF = f"facebook_events_{NOON:%Y%m%d}"


@pytest.fixture
async def filled(database: Database) -> Database:
    """A database with an event, and so with its leaf."""
    async with storing("facebook", database) as store:
        await store.save(message(facebook()))
    return database


async def forbidden(dsn: str, *statements: str) -> None:
    """Each statement is rejected to this role without a right."""
    connection = await postgres.connect(dsn, name="tests")
    try:
        for statement in statements:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement)
                pytest.fail(f"was allowed: {statement}")
    finally:
        await connection.close()


async def test_the_reporter_can_only_read(filled: Database) -> None:
    """It reads every table; it writes, empties, changes and drops none, makes none, and acts on no partition."""
    connection = await postgres.connect(filled.reporter_dsn, name="tests")
    for table in TABLES:
        await connection.fetch(f"SELECT * FROM {table} LIMIT 1")
    await connection.close()
    await forbidden(
        filled.reporter_dsn,
        *(f"INSERT INTO {table} DEFAULT VALUES" for table in (*TABLES, LEAF)),
        *(f"DELETE FROM {table}" for table in TABLES),
        *(f"TRUNCATE {table}" for table in TABLES),
        *(f"DROP TABLE {table}" for table in TABLES),
        "INSERT INTO known_countries VALUES ('Peru')",
        "UPDATE watermarks SET pending_messages = 0",
        "UPDATE dead_letters SET outcome = 'discarded'",
        "UPDATE event_counts SET events = 0",
        "CREATE TABLE mine (a int)",
        "CREATE SCHEMA mine",
        "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "SELECT ensure_partition('facebook_events', '2026-11-23')",
        "SELECT drop_partitions('facebook_events', '2100-01-01')",
        "COPY facebook_events TO PROGRAM 'cat'",
        "SELECT pg_read_file('postgresql.conf')",
        "SET ROLE sluice_collector",
        "SET ROLE sluice_owner",
    )


async def test_the_collector_cannot_change_the_house(filled: Database) -> None:
    """It writes rows; by two functions it makes days and drops those past every retention that may be set.

    It drops, empties or alters no other table, and changes no event.
    """
    connection = await postgres.connect(filled.collector_dsn, name="tests")
    await connection.execute("SELECT ensure_partition('facebook_events', (now() AT TIME ZONE 'UTC')::date)")
    await connection.execute("SELECT drop_partitions('facebook_events', (now() AT TIME ZONE 'UTC')::date - 5)")
    await connection.execute("CREATE TEMPORARY TABLE staging (a int)")
    await connection.close()
    events = ("facebook_events", "tiktok_events", LEAF)
    await forbidden(
        filled.collector_dsn,
        *(f"DROP TABLE {table}" for table in (*TABLES, LEAF)),
        *(f"TRUNCATE {table}" for table in (*TABLES, LEAF)),
        *(f"ALTER TABLE {table} ADD mine int" for table in (*TABLES, LEAF)),
        *(f"DELETE FROM {table}" for table in events),
        *(f"UPDATE {table} SET event_id = 'x'" for table in events),
        f"ALTER TABLE facebook_events DETACH PARTITION {LEAF}",
        "CREATE TABLE facebook_events_20260101 PARTITION OF facebook_events "
        "FOR VALUES FROM ('2026-01-01') TO ('2026-01-02')",
        "SELECT drop_partitions('facebook_events', (now() AT TIME ZONE 'UTC')::date - 4)",
        "SELECT drop_partitions('facebook_events', '2100-01-01')",
        "SELECT drop_partitions('facebook_events', 'infinity')",
        "DELETE FROM receipt_totals",
        "DELETE FROM event_counts",
        "DELETE FROM audience_counts",
        "DELETE FROM known_countries",
        "INSERT INTO other_countries VALUES ('Peru')",
        "DELETE FROM watermarks",
        "UPDATE dead_letters SET outcome = 'discarded'",
        "UPDATE partition_floors SET floor = '2000-01-01'",
        "INSERT INTO schema_migrations VALUES (2, 'x', 'x')",
        "CREATE TABLE mine (a int)",
        "COPY facebook_events FROM PROGRAM 'cat'",
        "SET ROLE sluice_owner",
    )


async def test_only_collectors_make_temporary_tables(servers: Servers) -> None:
    """The reporter and BI tools cannot even make one for themselves."""
    await forbidden(servers.reporter_dsn, "CREATE TEMPORARY TABLE mine (a int)")
    writing = servers.dsn("sluice_bi") + "?default_transaction_read_only=off"  # a right, not a setting, forbids it
    await forbidden(writing, "CREATE TEMPORARY TABLE mine (a int)")
    connection = await postgres.connect(servers.collector_dsn, name="tests")
    await connection.execute("CREATE TEMPORARY TABLE staging (a int)")
    await connection.close()


async def test_no_role_is_more_than_it_is_called(database: Database) -> None:
    """None of the four is a superuser, makes roles or databases, replicates, or belongs to another."""
    connection = await postgres.connect(database.reporter_dsn, name="tests")
    try:
        rows = await connection.fetch(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE 'sluice_%'"
            " AND NOT (rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication OR rolbypassrls)"
            " AND NOT EXISTS (SELECT FROM pg_auth_members WHERE member = oid)"
        )
    finally:
        await connection.close()
    assert {row["rolname"] for row in rows} >= {"sluice_owner", "sluice_collector", "sluice_reporter", "sluice_bi"}


async def test_nats_asks_for_the_password(fresh_nats: FreshNats) -> None:
    """Without it, or with another, no one publishes, reads or looks."""
    address = fresh_nats.url.rpartition("@")[2]
    for url in (f"nats://{address}", f"nats://sluice:wrong@{address}", f"nats://other:wrong@{address}"):
        with pytest.raises(nats.errors.Error, match=r"(?i)authorization"):
            await Client().connect(url, allow_reconnect=False, connect_timeout=5, error_cb=_silent)


async def _silent(_: Exception) -> None:
    pass


async def test_a_gateway_with_a_wrong_password_is_not_ready_and_says_why(fresh_nats: FreshNats, tmp_path: Path) -> None:
    """It lives, is not ready, and reports the rejection in its log without the password."""
    wrong = "nats://sluice:not-the-password@" + fresh_nats.url.rpartition("@")[2]
    async with start_gateway(fresh_nats, wait_ready=False, NATS_URL=wrong) as gateway:

        async def reported() -> bool:
            return "authorization violation" in (tmp_path / "gateway.log").read_text().lower()

        await eventually(reported, what="the log says that NATS rejected the gateway")
        answer = await gateway.http.get(f"{gateway.url}/health/ready")
        assert (answer.status_code, answer.json()["missing"]["nats"]) == (503, "not connected")
        assert "not-the-password" not in (tmp_path / "gateway.log").read_text()
