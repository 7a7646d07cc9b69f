"""Partitions by hand, and the checks of doctor that rest on what the database holds."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import asyncpg
import pytest

from collector.settings import MIN_RETENTION_DAYS
from core import postgres
from core.errors import SluiceError
from core.postgres import Connection
from ops.cli import partitions
from ops.cli.connection import to_nats
from ops.doctor import postgres_checks, server_checks
from ops.doctor.checks import CheckResult
from ops.doctor.compare import check_rows
from ops.ledger import read_dead_letters
from ops.settings import OperatorSettings
from sql import statements
from tests.support.collecting import collecting, connected, drained, publish, storing
from tests.support.events import NOON, facebook, message, tiktok
from tests.support.operator import operator, ops, ops_json
from tests.support.stack import Database, FreshNats

Capsys = pytest.CaptureFixture[str]
NO_NATS = "nats://127.0.0.1:1"


@pytest.fixture
async def today(connection: Connection) -> date:
    """The database's day, in UTC."""
    found: date = await connection.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date")
    return found


async def days(settings: OperatorSettings, capsys: Capsys) -> list[tuple[str, str]]:
    _, found = await ops_json(settings, capsys, "partitions", "list")
    return [(partition["table"], partition["day"]) for partition in found]


async def test_partitions_are_made_ahead(database: Database, today: date, capsys: Capsys) -> None:
    """The missing days of both tables are made, from yesterday on; a dry run makes none, and a second run neither."""
    settings = operator(NO_NATS, database.owner_dsn)
    code, said = await ops(settings, capsys, "partitions", "ensure", "--days", "1", "--dry-run")
    assert (code, await days(settings, capsys)) == (0, [])
    assert "6 partitions would be created (dry run: nothing was changed)" in said
    await ops(settings, capsys, "partitions", "ensure", "--days", "1")
    wanted = [today + timedelta(days=offset) for offset in (-1, 0, 1)]
    made = [(table, str(day)) for day in wanted for table in ("facebook_events", "tiktok_events")]
    assert await days(settings, capsys) == made
    _, said = await ops(settings, capsys, "partitions", "ensure", "--days", "1")
    assert "0 partitions created" in said
    assert await days(settings, capsys) == made


async def test_a_detached_day_is_reported_and_attached(
    database: Database, connection: Connection, today: date, capsys: Capsys
) -> None:
    """`list` and doctor name it, `ensure` attaches it and says so; one that cannot be attached is an error."""
    settings = operator(NO_NATS, database.owner_dsn, partitions_ahead_days=1)
    await ops(settings, capsys, "partitions", "ensure")
    leaves = [f"facebook_events_{today - timedelta(days=days):%Y%m%d}" for days in (0, 1)]
    for leaf in leaves:
        await connection.execute(f"ALTER TABLE facebook_events DETACH PARTITION {leaf}")
    await connection.execute(f"ALTER TABLE {leaves[1]} ADD another integer")
    _, listed = await ops_json(settings, capsys, "partitions", "list")
    assert [one["day"] for one in listed if not one["attached"]] == [str(today - timedelta(days=1)), str(today)]

    async def checked() -> str:
        (check,) = [
            one for one in await postgres_checks.check_postgres(connection, settings) if one.check == "partitions"
        ]
        return check.message

    assert f"the partition of facebook_events for {today} is detached" in await checked()
    _, said = await ops(settings, capsys, "partitions", "ensure", "--dry-run")
    assert f"facebook_events {today} detached" in said
    assert "2 partitions would be attached again" in said
    code, said = await ops(settings, capsys, "partitions", "ensure")
    assert code == 1
    assert f"facebook_events {today} attached" in said
    assert f"facebook_events {today - timedelta(days=1)} unchanged: table {leaves[1]} is not attached" in said
    assert "1 day still without a partition" in said
    await connection.execute(f"ALTER TABLE {leaves[1]} RENAME TO kept_for_later")
    code, said = await ops(settings, capsys, "partitions", "ensure")
    assert (code, "1 partition created" in said) == (0, True)
    assert await checked() == "they exist for 1 days ahead"


async def test_the_database_keeps_what_the_least_retention_keeps(connection: Connection, today: date) -> None:
    """The latest day from which `drop_days` keeps events is that of the least RETENTION_DAYS."""
    latest = today - timedelta(days=MIN_RETENTION_DAYS)
    for table in partitions.TABLES:
        await connection.fetch(statements("partitions")["drop_before"], table, latest)
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match=f"the latest floor is {latest}"):
            await connection.fetch(statements("partitions")["drop_before"], table, latest + timedelta(days=1))


async def test_old_days_are_dropped_for_good(
    database: Database, connection: Connection, today: date, capsys: Capsys
) -> None:
    """Only days that are older go, only when somebody says yes, and never ones that events may still come for."""
    settings = operator(NO_NATS, database.owner_dsn)
    kept, old = today - timedelta(days=20), today - timedelta(days=21)
    for day in (old, kept):
        await connection.execute("SELECT ensure_partition('facebook_events', $1)", day)
    with pytest.raises(SluiceError, match=r"--older-than 10 is too small: .* Keep at least 11 days"):
        await ops(settings, capsys, "partitions", "drop", "--older-than", "10", "--yes")
    code, said = await ops(settings, capsys, "partitions", "drop", "--older-than", "20d", "--dry-run")
    assert code == 0
    assert f"facebook_events {old}" in said
    assert "1 partition would be dropped (dry run: nothing was changed)" in said
    with pytest.raises(SluiceError, match="confirm with --yes"):  # no one can be asked here
        await ops(settings, capsys, "partitions", "drop", "--older-than", "20")
    assert len(await days(settings, capsys)) == 2
    _, said = await ops(settings, capsys, "partitions", "drop", "--older-than", "20", "--yes")
    assert f"1 partition dropped; events of days before {kept} are no longer stored" in said
    assert await days(settings, capsys) == [("facebook_events", str(kept))]
    with pytest.raises(asyncpg.CheckViolationError):
        await connection.execute("SELECT ensure_partition('facebook_events', $1)", old)
    await connection.execute(f"CREATE VIEW mine AS SELECT * FROM facebook_events_{kept:%Y%m%d}")
    code, said = await ops(settings, capsys, "partitions", "drop", "--older-than", "19", "--yes")
    assert code == 1
    assert f"facebook_events {kept} unchanged: cannot drop table facebook_events_{kept:%Y%m%d}" in said
    assert "0 partitions dropped" in said


async def test_a_table_that_is_held_is_reported(database: Database, connection: Connection, capsys: Capsys) -> None:
    """Where somebody holds the table, the command says so in a sentence instead of waiting for ever."""
    settings = operator(NO_NATS, database.owner_dsn)
    async with connection.transaction():
        await connection.execute("LOCK TABLE facebook_events IN ACCESS SHARE MODE; LOCK TABLE facebook_events")
        with pytest.raises(SluiceError, match="another session locks facebook_events: run the command again"):
            await ops(settings, capsys, "partitions", "ensure")


async def test_what_the_ledger_and_the_streams_report(
    database: Database, connection: Connection, fresh_nats: FreshNats, capsys: Capsys
) -> None:
    """Dead letters, rollups that are not the rows', dead letters that are gone and a stream without room: each is
    found."""
    await connection.execute("ALTER TABLE facebook_events ADD CHECK (city <> 'Bergen')")
    full = operator(fresh_nats.url, database.owner_dsn, stream_max_bytes=1 << 21)

    async def wrong() -> dict[str, str]:
        async with to_nats(full) as asking:
            found, facts = await server_checks.check_nats(asking, full)
            found += server_checks.check_state(facts, await server_checks.read_facts(connection), 30.0)
            found += await postgres_checks.check_postgres(connection, full)
            found += await server_checks.check_ledger(asking, connection) + await server_checks.check_clocks(
                asking, connection
            )
        return {check.check: check.message for check in found if check.state != "ok"}

    async with connected(fresh_nats) as client:
        async with collecting(database, client, "facebook"):
            await publish(client, "facebook", message(facebook(), facebook()))
            await drained(client, "facebook")
        await ops(full, capsys, "partitions", "ensure")
        js = client.jetstream()
        await js.update_stream((await js.stream_info("EVENTS_FACEBOOK")).config.evolve(max_bytes=1 << 20))
        await publish(client, "facebook", b"x" * 900_000, 1)
        found = await wrong()
        assert found["dead letters"] == "2 accepted events of facebook could not be stored: unstorable"
        assert found["room in streams"] == "EVENTS_FACEBOOK is 86% full; when it is full, requests get 503"
        assert found["streams"].startswith("EVENTS_FACEBOOK max_bytes is ")
        assert found.keys() == {"dead letters", "room in streams", "streams", "collectors", "requests"}
        await ops(full, capsys, "dead-letters", "discard", "--kind", "dead", "--yes")
        await connection.execute("INSERT INTO event_counts VALUES (now(), 'facebook', 'top', 'like', 0, 7, 0)")
        await connection.execute("DELETE FROM dead_letters WHERE id = 1")
        ledger = (await wrong())["ledger"]
        assert "facebook: 0 events stored, but the rollups count 7" in ledger
        assert "EVENTS_FACEBOOK: 2 dead letters by the receipts" in ledger
        assert (await read_dead_letters(connection))["EVENTS_FACEBOOK"].discarded == 1


async def test_rows_that_are_not_what_the_rollups_count(
    database: Database, connection: Connection, today: date, capsys: Capsys
) -> None:
    """Rows that were deleted, changed or added by hand: doctor names day, source and by how much, and what it did not
    look at. It says ok only of what it compared."""
    old = NOON - timedelta(days=3)
    async with storing("facebook", database) as store, storing("tiktok", database) as other:
        await store.save(message(*(facebook() for _ in range(7)), *(facebook("bottom", at=old) for _ in range(3))))
        await other.save(message(tiktok()))

    async def rows(**bounds: Any) -> CheckResult:
        (check,) = await check_rows(connection, **({"days": 8, "seconds": 30.0} | bounds))
        return check

    assert await rows() == CheckResult(
        "rows", "ok", "the rows of the last 8 days equal their rollups; older days are not compared"
    )
    await connection.execute(
        f"DELETE FROM facebook_events_{NOON:%Y%m%d} "
        f"WHERE event_id IN (SELECT event_id FROM facebook_events_{NOON:%Y%m%d} LIMIT 5)"
    )
    found = (await rows()).message
    assert found == f"facebook {NOON.date()}: 2 rows, the rollups count 7 (5 rows missing)"
    assert "restore them (docs/backup.md)" in (await rows()).fix
    await connection.execute("UPDATE facebook_events SET purchase_amount = 1.11 WHERE event_time = $1", old)
    assert (
        f"facebook {old.date()}: 3 rows, as many as the rollups count, but stage, type or amount differ"
        in (await rows()).message
    )
    await connection.execute("UPDATE event_counts SET events = events - 1 WHERE source = 'tiktok'")
    assert f"tiktok {NOON.date()}: 1 row, the rollups count 0 (1 extra row)" in (await rows()).message
    unlooked = await rows(seconds=0)
    assert unlooked.state == "unknown"
    assert unlooked.message.startswith("no day was compared; not compared within the time-out: facebook ")
    await connection.execute("UPDATE partition_floors SET floor = $1", today + timedelta(days=1))
    assert (await rows()).state == "ok", "of dropped days the rollups stay alone"
    holder = await postgres.connect(database.owner_dsn, name="tests")
    async with holder.transaction():
        await holder.execute("LOCK TABLE tiktok_events IN ACCESS EXCLUSIVE MODE")
        held = (await rows(days=1, seconds=1.0)).message
    await holder.close()
    tomorrow = today + timedelta(days=1)
    assert f"not compared within the time-out: tiktok {tomorrow}, facebook {today}, tiktok {today} (raise" in held


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("ALTER TABLE tiktok_events DROP COLUMN followers", "tiktok_events has no column followers"),
        ("ALTER TABLE tiktok_events ADD note text NOT NULL", "tiktok_events.note is NOT NULL"),
        ("DROP TABLE tiktok_events", "tiktok_events does not exist: the migration of tiktok is missing"),
    ],
)
async def test_doctor_compares_columns_with_the_declarations(
    database: Database, connection: Connection, change: str, said: str
) -> None:
    """A column unlike its source's declaration, and a table that is missing, are named; other checks go on."""
    settings = operator(NO_NATS, database.owner_dsn)

    async def columns() -> CheckResult:
        checks = {check.check: check for check in await postgres_checks.check_postgres(connection, settings)}
        assert {"columns", "partitions", "countries"} <= checks.keys()
        return checks["columns"]

    assert (await columns()).state == "ok"
    await connection.execute(change)
    found = await columns()
    assert found.state == "wrong"
    assert said in found.message
    assert "docs/add-a-source.md" in found.fix
