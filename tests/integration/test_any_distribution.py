"""The cost of a row does not depend on how values are distributed, and the upgrade blocks no writer for long."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path

import asyncpg
import pytest
from structlog.testing import capture_logs

from core import postgres
from core.postgres import Connection
from ops.cli import partitions
from ops.cli.countries import PLACES, free_places
from ops.doctor import postgres_checks
from sql import MIGRATIONS
from tests.integration.test_collector_schema import empty
from tests.support.operator import operator, ops
from tests.support.stack import Database
from tests.support.waiting import eventually

__all__ = ["empty"]  # a fixture

Capsys = pytest.CaptureFixture[str]
NO_NATS = "nats://127.0.0.1:1"
DAY = "2026-11-20"
LEAF = "facebook_events_20261120"
ROWS = 20_000
BATCH = 1_000
# What every row of a day may have alike, as SQL over the row's number n.
DIFFERENT = {
    "event_time": f"timestamptz '{DAY} 00:00+00' + n * interval '10 ms'",
    "user_id": "md5('user' || n)",
    "city": "md5('city' || n)",
    "country": "md5('country' || n)",
    "campaign_id": "md5('campaign' || n)",
    "video_id": "md5('video' || n)",
}
ALIKE = {
    "nothing": (),
    "instant": ("event_time",),
    "campaign": ("campaign_id",),
    "everything but the id": tuple(DIFFERENT),
}


def insert(alike: tuple[str, ...], start: int) -> str:
    """A statement that inserts a batch of purchases, a few columns alike in all rows and the others different."""
    value = {
        column: f"(SELECT {text} FROM (VALUES (1)) AS one (n))" if column in alike else text
        for column, text in DIFFERENT.items()
    }
    return f"""
        INSERT INTO {LEAF} (event_time, received_at, stream_sequence, funnel_stage, event_type, gender, age, event_id,
                            user_id, user_name, country, city, video_id, ad_id, campaign_id, purchase_amount,
                            correlation_id)
        SELECT {value["event_time"]}, now(), n, 'bottom', 'checkout.complete', 'male', 30, md5('event' || n),
               {value["user_id"]}, 'Ada Example', {value["country"]}, {value["city"]}, {value["video_id"]}, 'ad-1',
               {value["campaign_id"]}, 12.50, 'test'
        FROM generate_series({start}::int, {start + BATCH - 1}) AS n"""


async def pages(connection: Connection, statement: str) -> int:
    """How many pages a statement touches: what it costs, on a busy machine too."""
    plan = json.loads(await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT json) {statement}"))[0]["Plan"]
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


@pytest.mark.parametrize("alike", ALIKE)
async def test_a_row_costs_the_same_in_a_full_day(database: Database, connection: Connection, alike: str) -> None:
    """A batch touches as many pages beside 20,000 like rows as beside 1,000, whatever the rows have alike."""
    await connection.execute("SELECT ensure_partition('facebook_events', $1::text::date)", DAY)
    touched = [await pages(connection, insert(ALIKE[alike], start)) for start in range(0, ROWS, BATCH)]
    # A tree may grow by a level meanwhile: each of its inserts then touches one page more.
    assert touched[-1] < touched[1] * 1.7, touched


async def test_no_table_has_an_index_that_depends_on_the_distribution(
    database: Database, connection: Connection
) -> None:
    """Every index is a B-tree or a BRIN: a hash index keeps equal values in one chain, which each insert reads."""
    await connection.execute("SELECT ensure_partition('facebook_events', $1::text::date)", DAY)
    kinds = await connection.fetch(
        "SELECT DISTINCT amname FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid "
        "JOIN pg_am ON pg_am.oid = relam WHERE relnamespace = 'public'::regnamespace"
    )
    assert {row["amname"] for row in kinds} == {"btree", "brin"}


async def before_this_version(empty: Database, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Connection:
    """The owner's connection to a database of the version before, with two days of purchases."""
    for path in MIGRATIONS.glob("000[1-4]*.sql"):
        shutil.copy(path, folder)
    with monkeypatch.context() as patched:
        patched.setattr(postgres, "MIGRATIONS", folder)
        assert await postgres.migrate(empty.owner_dsn) == 4
    connection = await postgres.connect(empty.owner_dsn, name="tests")
    for day in (DAY, "2026-11-21"):
        await connection.execute("SELECT ensure_partition('facebook_events', $1::text::date)", day)
    await connection.execute(insert(("campaign_id",), 0))
    return connection


async def test_an_upgrade_indexes_existing_days_one_by_one(
    empty: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capsys
) -> None:
    """After the migration, new days have the index; the doctor names the others until the command has built theirs."""
    connection = await before_this_version(empty, tmp_path, monkeypatch)
    settings = operator(NO_NATS, empty.owner_dsn)

    async def index_check() -> tuple[str, str]:
        found = await postgres_checks.check_postgres(connection, settings)
        return next((check.state, check.message) for check in found if check.check == "index")

    reader = await asyncpg.connect(empty.reporter_dsn)
    await reader.execute("BEGIN")
    await reader.fetch("SELECT count(*) FROM facebook_events")
    with capture_logs() as lines:
        migrating = asyncio.create_task(postgres.migrate(empty.owner_dsn))

        async def held_up() -> bool:
            return any(line["event"] == "migration waits for a lock" for line in lines)

        await eventually(held_up, what="a report holds the table for longer than the migration waits")
        assert not migrating.done()
        await reader.close()
        await migrating

    await connection.execute("SELECT ensure_partition('facebook_events', '2026-11-22')")
    lacking = await partitions.without_index(connection)
    assert [row["partition"] for row in lacking] == ["facebook_events_20261121", LEAF]
    assert await index_check() == (
        "wrong",
        "reports of one campaign are slow: 2 partitions without the index on campaigns",
    )
    # What an interrupted command leaves: an index that is not attached, and may be invalid.
    await connection.execute(f"CREATE INDEX {LEAF}_campaign ON {LEAF} (event_id)")
    code, said = await ops(settings, capsys, "partitions", "index", "--dry-run")
    assert (code, said) == (0, "2 partitions would be indexed (dry run: nothing was changed)\n")
    code, said = await ops(settings, capsys, "partitions", "index")
    assert (code, said) == (0, "2 partitions indexed; all partitions have the index on campaigns\n")
    assert (await index_check())[0] == "ok"
    assert await connection.fetchval(
        "SELECT bool_and(indisvalid) FROM pg_index WHERE indexrelid::regclass::text LIKE '%campaign%'"
    )
    await connection.close()


@pytest.mark.parametrize(("known", "free"), [(600, PLACES - 600), (999, 1), (PLACES, 0)])
async def test_an_upgrade_reserves_places_for_countries(
    empty: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, known: int, free: int
) -> None:
    """Countries that were met keep their places; a registry that was full stays full until a rebuild counts anew."""
    connection = await before_this_version(empty, tmp_path, monkeypatch)
    await connection.execute("INSERT INTO known_countries SELECT 'Land ' || generate_series(1, $1::int)", known - 1)
    await connection.execute("INSERT INTO known_countries VALUES ('Peru')")
    await postgres.migrate(empty.owner_dsn)
    assert await free_places(connection) == (free + 1 if free else 0)
    reserved = await connection.fetchval("SELECT count(*) FROM known_countries WHERE reserved")
    assert reserved == (820 if free else 0)
    await connection.close()
