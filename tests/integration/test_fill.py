"""A filled database holds what collectors would have stored: rows, rollups, totals, and a ledger that balances."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import asyncpg
import pytest

from bench.fill import NoRoom, check_room, days_of, fill
from collector.maintenance.breakdowns import MAX_VALUES, BreakdownCounter
from core.errors import Misconfigured
from core.events.subjects import stream_of
from core.sources import SOURCES
from ops.cli.arguments import amount
from sql import statements
from tests.support import breakdowns
from tests.support.operator import operator, ops
from tests.support.report_rows import connected
from tests.support.rollups import rollup_differences
from tests.support.stack import Database

EVENTS = 3_000


async def test_a_filled_database_balances(database: Database) -> None:
    """Filled twice: so many events of the last days, none in the future; rollups equal rows, receipts report of all."""
    ledger = statements("ledger")
    stored = await fill(database.collector_dsn, EVENTS, 3, show=False, seed=1)
    stored += await fill(database.collector_dsn, EVENTS, 2, show=False, seed=2)
    assert stored.total() == 2 * EVENTS
    async with connected(database.owner_dsn) as connection:
        assert await rollup_differences(connection) == []
        assert await breakdowns.wrong(connection, MAX_VALUES) == []
        for source in SOURCES:
            assert await BreakdownCounter(connection, source).uncounted(datetime.now(UTC)) == 0
            assert await connection.fetchval(ledger["stored_total"], stream_of(source)) == stored[source]
            assert await connection.fetchval(ledger["rolled_up"], source) == stored[source]
            first, last = await connection.fetchrow(f"SELECT min(event_time), max(event_time) FROM {source}_events")
            assert timedelta(days=2, hours=23) < datetime.now(UTC) - first < timedelta(days=3, hours=1)
            assert last < datetime.now(UTC)


async def test_plausible_events(database: Database) -> None:
    """With plausible values people return, campaigns are few, and purchases are rare; rollups equal the rows."""
    await fill(database.collector_dsn, EVENTS, 1, values="plausible", show=False, seed=1)
    async with connected(database.owner_dsn) as connection:
        found = await connection.fetchrow(
            "SELECT count(*) AS events, count(DISTINCT user_id) AS people, count(DISTINCT campaign_id) AS campaigns, "
            "count(*) FILTER (WHERE event_type = 'ad.view') AS views, "
            "count(*) FILTER (WHERE event_type = 'checkout.complete') AS purchases FROM facebook_events"
        )
        assert found["people"] < 0.9 * found["events"]
        assert 0 < found["campaigns"] <= 200
        assert found["views"] > 10 * found["purchases"]
        assert await rollup_differences(connection) == []


async def test_totals_follow_their_rollups(database: Database) -> None:
    """Whatever is done to a rollup, its totals follow; what is done to totals alone is found."""
    await fill(database.collector_dsn, 100, 1, show=False, seed=1)
    async with connected(database.owner_dsn) as connection:
        await connection.execute("UPDATE event_counts SET events = events + 1, bucket = bucket - interval '9 days'")
        await connection.execute("DELETE FROM audience_counts WHERE dimension = 'age'")
        assert not [line for line in await rollup_differences(connection) if "_totals" in line]
        with pytest.raises(asyncpg.ObjectNotInPrerequisiteStateError):
            await connection.execute("TRUNCATE event_counts")
        for table, unit, meddle in (
            ("event", "week", "UPDATE event_totals SET revenue = revenue + 1 WHERE unit = 'week'"),
            ("audience", "hour", "UPDATE audience_totals SET events = events + 1 WHERE unit = 'hour'"),
            ("audience", "day", "DELETE FROM audience_totals WHERE unit = 'day' AND dimension = 'gender'"),
        ):
            await connection.execute(meddle)
            assert [line for line in await rollup_differences(connection) if f"{table}_totals by {unit}" in line]


async def test_no_more_days_than_the_floor_allows(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    """Where days were dropped, as many as may still be stored are named and can be filled; nothing is stored before."""
    settings = operator("nats://127.0.0.1:1", database.owner_dsn)
    async with connected(database.owner_dsn) as connection:
        floor = datetime.now(UTC).date() - timedelta(days=6)
        await connection.execute("SELECT drop_partitions('tiktok_events', $1)", floor)
        with pytest.raises(
            Misconfigured, match=f"--days 7 is too large: days before {floor} were dropped, so the maximum is 6"
        ):
            await ops(settings, capsys, "fill", "--events", "100", "--days", "7", "--yes")
        assert await connection.fetchval("SELECT count(*) FROM receipts") == 0
        code, _ = await ops(settings, capsys, "fill", "--events", "100", "--days", "6", "--yes")
        assert (code, await connection.fetchval("SELECT sum(stored) FROM receipts")) == (0, 100)


def test_days_share_the_events() -> None:
    """Days follow one another to now, cut at midnight, and get all events in proportion."""
    now = datetime(2026, 11, 23, 6, tzinfo=UTC)
    found = days_of(1_000, 2, now)
    assert [(day.start.hour, day.end.hour, day.events) for day in found] == [(6, 0, 375), (0, 0, 500), (0, 6, 125)]
    assert all(before.end == after.start for before, after in pairwise(found))


def test_a_full_disk_is_reported_before(tmp_path: Path) -> None:
    """What cannot fit is rejected before anything is stored, with what is needed and what there is."""
    check_room(tmp_path, 1)
    with pytest.raises(NoRoom, match="GiB"):
        check_room(tmp_path, 10**12)


def test_amounts_in_words() -> None:
    """Thousands and millions may be written short."""
    assert [amount(text) for text in ("5", "500k", "10M")] == [5, 500_000, 10_000_000]
