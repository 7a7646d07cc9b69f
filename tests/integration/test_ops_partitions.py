"""Partitions by hand, and the checks of doctor that rest on what the database holds."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import asyncpg
import pytest

from core.errors import SluiceError
from core.settings import OperatorSettings
from ops import examine
from ops.connection import to_nats
from ops.ledger import read_letters
from tests.support.collecting import collecting, connected, drained, publish
from tests.support.events import facebook, message
from tests.support.operator import operator, ops, ops_json
from tests.support.stack import Database, FreshNats

Capsys = pytest.CaptureFixture[str]
NO_NATS = "nats://127.0.0.1:1"


@pytest.fixture
async def today(connection: asyncpg.Connection[Any]) -> date:
    """The database's day, in UTC."""
    found: date = await connection.fetchval("SELECT (now() AT TIME ZONE 'UTC')::date")
    return found


async def days(chosen: OperatorSettings, capsys: Capsys) -> list[tuple[str, str]]:
    _, found = await ops_json(chosen, capsys, "partitions", "list")
    return [(partition["table"], partition["day"]) for partition in found]


async def test_partitions_are_made_ahead(database: Database, today: date, capsys: Capsys) -> None:
    """The missing days of both tables are made, from yesterday on; a dry run makes none, and a second run neither."""
    chosen = operator(NO_NATS, database.owner_dsn)
    code, said = await ops(chosen, capsys, "partitions", "ensure", "--days", "1", "--dry-run")
    assert (code, await days(chosen, capsys)) == (0, [])
    assert "6 partitions would be made (dry run: nothing was changed)" in said
    await ops(chosen, capsys, "partitions", "ensure", "--days", "1")
    wanted = [today + timedelta(days=offset) for offset in (-1, 0, 1)]
    made = [(table, str(day)) for day in wanted for table in ("facebook_events", "tiktok_events")]
    assert await days(chosen, capsys) == made
    _, said = await ops(chosen, capsys, "partitions", "ensure", "--days", "1")
    assert "0 partitions made" in said
    assert await days(chosen, capsys) == made


async def test_old_days_are_dropped_for_good(
    database: Database, connection: asyncpg.Connection[Any], today: date, capsys: Capsys
) -> None:
    """Only days that are older go, only when somebody says yes, and never ones that events may still come for."""
    chosen = operator(NO_NATS, database.owner_dsn)
    kept, old = today - timedelta(days=20), today - timedelta(days=21)
    for day in (old, kept):
        await connection.execute("SELECT ensure_partition('facebook_events', $1)", day)
    with pytest.raises(SluiceError, match="--older-than 10: at least 11"):
        await ops(chosen, capsys, "partitions", "drop", "--older-than", "10", "--yes")
    code, said = await ops(chosen, capsys, "partitions", "drop", "--older-than", "20d", "--dry-run")
    assert code == 0
    assert f"facebook_events {old}" in said
    assert "1 partition would be dropped (dry run: nothing was changed)" in said
    with pytest.raises(SluiceError, match="give --yes"):  # nobody can be asked here
        await ops(chosen, capsys, "partitions", "drop", "--older-than", "20")
    assert len(await days(chosen, capsys)) == 2
    _, said = await ops(chosen, capsys, "partitions", "drop", "--older-than", "20", "--yes")
    assert f"1 partition dropped; nothing before {kept} is stored any more" in said
    assert await days(chosen, capsys) == [("facebook_events", str(kept))]
    with pytest.raises(asyncpg.CheckViolationError):
        await connection.execute("SELECT ensure_partition('facebook_events', $1)", old)


async def test_a_table_that_is_held_is_told(
    database: Database, connection: asyncpg.Connection[Any], capsys: Capsys
) -> None:
    """Where somebody holds the table, the command says so in a sentence instead of waiting for ever."""
    chosen = operator(NO_NATS, database.owner_dsn)
    async with connection.transaction():
        await connection.execute("LOCK TABLE facebook_events IN ACCESS SHARE MODE; LOCK TABLE facebook_events")
        with pytest.raises(SluiceError, match="facebook_events is held by another session: try again"):
            await ops(chosen, capsys, "partitions", "ensure")


async def test_what_the_ledger_and_the_streams_tell(
    database: Database, connection: asyncpg.Connection[Any], fresh_nats: FreshNats, capsys: Capsys
) -> None:
    """Dead letters, rollups that are not the rows', letters that are gone and a stream without room: each is found."""
    await connection.execute("ALTER TABLE facebook_events ADD CHECK (city <> 'Bergen')")
    full = operator(fresh_nats.url, database.owner_dsn, stream_max_bytes=1 << 21)

    async def wrong() -> dict[str, str]:
        async with to_nats(full) as asking:
            found, facts = await examine.of_nats(asking, full)
            found += examine.of_state(facts, await examine.noted(connection), 30.0)
            found += await examine.of_postgres(connection, full)
            found += await examine.of_ledger(asking, connection) + await examine.clocks(asking, connection)
        return {check.check: check.found for check in found if check.state != "ok"}

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
        assert "EVENTS_FACEBOOK: 2 letters by the receipts" in ledger
        assert (await read_letters(connection))["EVENTS_FACEBOOK"].discarded == 1
