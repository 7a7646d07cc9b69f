"""Daily partitions: made ahead and on demand, dropped past their retention, and never made again below the floor."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta

import asyncpg
import pytest

from collector.maintenance.maintain import create_partitions_ahead
from collector.store.batch import WritePath
from core import postgres
from core.pg_errors import ErrorClass, classify
from core.postgres import Connection
from sql import statements
from tests.support.collecting import ANY_TIME, balanced, each_path, storing
from tests.support.events import NOON, facebook, message, part, tiktok
from tests.support.stack import Database

__all__ = ["each_path"]

PARTITIONS = statements("partitions")
LEAF = f"facebook_events_{NOON:%Y%m%d}"
LONG_AGO = NOON - timedelta(days=30)  # a day that may be dropped


@pytest.fixture
async def owner(database: Database) -> AsyncIterator[Connection]:
    """A connection of the owner's."""
    connection = await postgres.connect(database.owner_dsn, name="tests")
    yield connection
    await connection.close()


@pytest.fixture
async def collector(database: Database) -> AsyncIterator[Connection]:
    """A connection of the collector's role."""
    connection = await postgres.connect(database.collector_dsn, name="tests")
    yield connection
    await connection.close()


async def days(connection: Connection, table: str = "facebook_events") -> list[date]:
    return [row["day"] for row in await connection.fetch(PARTITIONS["days"], table)]


async def drop_before(connection: Connection, floor: date) -> int:
    days = await connection.fetch(PARTITIONS["drop_before"], "facebook_events", floor)
    assert [row["error"] for row in days if row["error"]] == []
    return len(days)


async def test_partitions_are_made_ahead(collector: Connection) -> None:
    """From yesterday to the last day ahead, each day once, however often it is asked for."""
    today = date(2026, 11, 23)
    for _ in range(2):
        await create_partitions_ahead(collector, "facebook_events", today, 3)
    assert await days(collector) == [today + timedelta(days=offset) for offset in range(-1, 4)]
    assert await days(collector, "tiktok_events") == []


async def test_a_late_event_gets_its_partition(database: Database, collector: Connection) -> None:
    """An event of a day that has no partition is stored: its partition is made before the transaction."""
    late = [NOON - timedelta(days=offset) for offset in (1, 5, 6)]
    async with storing("facebook", database, ANY_TIME) as store:
        assert (await store.save(message(*(facebook(at=moment) for moment in late)))).stored == 3
    assert await days(collector) == sorted(moment.date() for moment in late)
    await balanced(collector)


async def test_a_days_bounds_are_utcs(database: Database, collector: Connection) -> None:
    """Whatever the session's time zone, a partition holds a day of UTC, from its first microsecond to its last."""
    await collector.execute("SET timezone = 'Pacific/Auckland'")
    await collector.fetchval(PARTITIONS["ensure"], "facebook_events", NOON.date())
    first = NOON.replace(hour=0)
    last = first + timedelta(days=1) - timedelta(microseconds=1)
    async with storing("facebook", database, ANY_TIME) as store:
        await store.save(message(facebook(at=first), facebook(at=last)))
    rows = await collector.fetch("SELECT tableoid::regclass::text AS leaf FROM facebook_events")
    assert {row["leaf"] for row in rows} == {f"facebook_events_{NOON:%Y%m%d}"}


async def test_collectors_that_make_one_partition_at_once(database: Database, owner: Connection) -> None:
    """Several collectors that meet the first event of a day make one partition and store all events."""
    async with (
        storing("facebook", database) as one,
        storing("facebook", database) as two,
        storing("facebook", database) as three,
    ):
        outcomes = await asyncio.gather(
            *(
                store.save(message(*(facebook(at=NOON - timedelta(days=number)) for number in range(4))))
                for store in (one, two, three)
            )
        )
    assert sum(outcome.stored for outcome in outcomes) == 12
    assert len(await days(owner)) == 4
    await balanced(owner)


async def test_writers_are_not_held_up_by_a_new_partition(
    database: Database, owner: Connection, collector: Connection
) -> None:
    """A partition is made while others write into their days and a report reads the parent."""
    async with storing("facebook", database) as store:
        await store.save(message(facebook()))
        async with owner.transaction():
            await owner.fetchval("SELECT count(*) FROM facebook_events")
            assert await collector.fetchval(PARTITIONS["ensure"], "facebook_events", date(2026, 1, 1)) == "made"


async def test_a_partition_dropped_behind_the_collectors_back_is_made_again(
    database: Database, owner: Connection
) -> None:
    """A store that knows a partition which is gone fails once, as a missing partition, and stores the next time."""
    async with storing("facebook", database) as store:
        await store.save(message(facebook()))
        await owner.execute(f"DROP TABLE facebook_events_{NOON:%Y%m%d}")
        entry = store.entry(message(facebook()))
        with pytest.raises(asyncpg.PostgresError) as caught:
            await store.store.save([entry])
        assert classify(caught.value) is ErrorClass.MISSING_PARTITION
        assert (await store.store.save([entry])).stored == 1
    assert await owner.fetchval("SELECT count(*) FROM facebook_events") == 1


async def test_another_table_that_is_missing_is_no_missing_leaf(database: Database, owner: Connection) -> None:
    """What no partition fixes stops the source: it is not tried again for ever."""
    async with storing("facebook", database) as store:
        await store.save(message(facebook()))
        await owner.execute("ALTER TABLE receipts RENAME TO gone")
        with pytest.raises(asyncpg.UndefinedTableError) as caught:
            await store.save(message(facebook()))
        assert classify(caught.value) is ErrorClass.FATAL


async def test_retention_drops_days_and_raises_the_floor(database: Database, owner: Connection) -> None:
    """Days before the new floor go with their rows; their rollups stay, and later days are untouched."""
    moments = [LONG_AGO - timedelta(days=offset) for offset in range(5)]
    async with storing("facebook", database, ANY_TIME) as store:
        await store.save(message(*(facebook("bottom", at=moment) for moment in moments)))
        floor = (LONG_AGO - timedelta(days=2)).date()
        assert await drop_before(owner, floor) == 2
        assert await drop_before(owner, floor) == 0
    assert await days(owner) == sorted(moment.date() for moment in moments[:3])
    assert await owner.fetchval("SELECT count(*) FROM facebook_events") == 3
    assert await owner.fetchval("SELECT sum(events) FROM event_counts") == 5
    assert await owner.fetchval("SELECT floor FROM partition_floors WHERE parent = 'facebook_events'") == floor
    await balanced(owner)


async def test_the_floor_never_sinks(owner: Connection) -> None:
    """A shorter retention that is taken back brings nothing back: the days are gone."""
    await drop_before(owner, date(2026, 10, 20))
    await drop_before(owner, date(2026, 10, 1))
    assert await owner.fetchval("SELECT floor FROM partition_floors WHERE parent = 'facebook_events'") == date(
        2026, 10, 20
    )
    with pytest.raises(asyncpg.CheckViolationError, match="below the floor"):
        await owner.fetchval(PARTITIONS["ensure"], "facebook_events", date(2026, 10, 19))


async def test_an_event_below_the_floor_is_a_dead_letter(database: Database, owner: Connection) -> None:
    """An event of a dropped day is kept as dead letter, and so is one whose day is dropped while its batch waits."""
    old, new = LONG_AGO, NOON
    parts = [part(1, "request-a"), part(3, "request-b", NOON)]
    async with storing("facebook", database, ANY_TIME) as store:
        await store.save(message(facebook(at=old), facebook(at=new)))  # the store knows both days
        await drop_before(owner, LONG_AGO.date() + timedelta(days=1))
        late = facebook(at=old, event_id="late")
        entry = store.entry(
            message(facebook(at=new), b"{", late, facebook(at=new), parts=parts),
            published_at=datetime(2026, 1, 2, tzinfo=UTC),
        )
        with pytest.raises(asyncpg.PostgresError) as caught:
            await store.store.save([entry])
        assert classify(caught.value) is ErrorClass.MISSING_PARTITION
        outcome = await store.store.save([entry])
        assert (outcome.events, outcome.stored, len(outcome.dead_letters)) == (4, 2, 2)
        again = await store.save(message(late))
        assert (again.stored, len(again.dead_letters)) == (0, 1)
    dead_letters = await owner.fetch("SELECT reason, path, position, correlation_id FROM dead_letters ORDER BY id")
    assert sorted(tuple(row) for row in dead_letters) == [
        ("below_floor", "$.timestamp", 0, "test-1"),
        ("below_floor", "$.timestamp", 2, "request-b"),
        ("malformed", "$", 1, "request-b"),
    ]
    assert await owner.fetchval("SELECT count(*) FROM facebook_events") == 3
    await balanced(owner)


async def test_a_report_that_reads_holds_up_retention_for_a_moment_only(
    database: Database, owner: Connection, collector: Connection
) -> None:
    """Dropping waits at most two seconds for a reader, then gives up, changes nothing and may be tried again."""
    floor = LONG_AGO.date() + timedelta(days=1)
    async with storing("facebook", database, ANY_TIME) as store:
        await store.save(message(facebook(at=LONG_AGO)))
    async with owner.transaction():
        await owner.fetchval("SELECT count(*) FROM facebook_events")
        assert "lock_timeout=2s" in await owner.fetchval("SELECT proconfig FROM pg_proc WHERE proname = 'drop_days'")
        with pytest.raises(asyncpg.LockNotAvailableError) as caught:
            await drop_before(collector, floor)
        assert classify(caught.value) is ErrorClass.RETRY
        assert await collector.fetchval("SELECT floor FROM partition_floors WHERE parent = 'facebook_events'") == date(
            2000, 1, 1
        )
    assert await drop_before(collector, floor) == 1


async def test_sources_have_floors_of_their_own(database: Database, owner: Connection) -> None:
    """Retention of one source leaves the other's days alone."""
    async with storing("tiktok", database, ANY_TIME) as store:
        await store.save(message(tiktok(at=LONG_AGO)))
        await drop_before(owner, LONG_AGO.date() + timedelta(days=1))
        assert (await store.save(message(tiktok(at=LONG_AGO)))).stored == 1


async def detach(owner: Connection, database: Database, how: str) -> None:
    """Detach NOON's leaf as an operator does; "pending" is CONCURRENTLY, broken off while it waits for a reader."""
    if how == "plain":
        await owner.execute(f"ALTER TABLE facebook_events DETACH PARTITION {LEAF}")
        return
    if how == "concurrently":
        await owner.execute(f"ALTER TABLE facebook_events DETACH PARTITION {LEAF} CONCURRENTLY")
        return
    reader = await postgres.connect(database.owner_dsn, name="tests")
    async with reader.transaction():
        await reader.fetch("SELECT FROM facebook_events")
        await owner.execute("SET statement_timeout = '500ms'")
        with pytest.raises(asyncpg.QueryCanceledError):
            await owner.execute(f"ALTER TABLE facebook_events DETACH PARTITION {LEAF} CONCURRENTLY")
        await owner.execute("RESET statement_timeout")
    await reader.close()
    assert await owner.fetchval("SELECT inhdetachpending FROM pg_inherits WHERE inhrelid = $1::text::regclass", LEAF)


@pytest.mark.parametrize("how", ["plain", "concurrently", "pending"])
async def test_nothing_is_written_into_a_detached_table(
    database: Database, owner: Connection, each_path: WritePath, how: str
) -> None:
    """A store that knows a leaf which is detached since writes nothing into it; the leaf is attached again, and the
    event is stored where reports see it."""
    async with storing("facebook", database) as store:
        await store.save(message(facebook()))
        await detach(owner, database, how)
        assert await days(owner) == []
        entry = store.entry(message(facebook()))
        with pytest.raises(asyncpg.PostgresError, match=f"table {LEAF} is not attached") as caught:
            await store.store.save([entry])
        assert classify(caught.value) is ErrorClass.MISSING_PARTITION
        assert await owner.fetchval(f"SELECT count(*) FROM {LEAF}") == 1
        assert (await store.store.save([entry])).stored == 1
    assert await days(owner) == [NOON.date()]
    assert await owner.fetchval("SELECT count(*) FROM facebook_events") == 2
    await balanced(owner)


async def test_a_table_that_cannot_be_attached_is_tried_again_and_named(
    database: Database, owner: Connection, collector: Connection
) -> None:
    """Where a detached table does not fit any more, storing its day waits with an error that names it; the other days
    are made ahead, and once the table is renamed the day is stored."""
    async with storing("facebook", database) as store:
        await store.save(message(facebook()))
        await detach(owner, database, "plain")
        await owner.execute(f"ALTER TABLE {LEAF} ADD another integer")
        entry = store.entry(message(facebook()))
        for _ in range(2):
            with pytest.raises(asyncpg.PostgresError, match=LEAF) as caught:
                await store.store.save([entry])
            await store.store.close()
        assert classify(caught.value) is ErrorClass.RETRY
        assert "Rename or repair it" in str(caught.value.hint)
        (error,) = await create_partitions_ahead(collector, "facebook_events", NOON.date(), 1)
        assert LEAF in str(error)
        assert await days(owner) == [NOON.date() + timedelta(days=offset) for offset in (-1, 1)]
        await owner.execute(f"ALTER TABLE {LEAF} RENAME TO kept_for_later")
        assert (await store.store.save([entry])).stored == 1


async def test_a_day_that_cannot_be_dropped_keeps_no_other(database: Database, owner: Connection) -> None:
    """A view on an old day's partition: that day stays with its reason, the others go. It goes when the view does."""
    moments = [LONG_AGO - timedelta(days=offset) for offset in range(3)]
    async with storing("facebook", database, ANY_TIME) as store:
        await store.save(message(*(facebook(at=moment) for moment in moments)))
    oldest, floor = moments[-1].date(), LONG_AGO.date() + timedelta(days=1)
    await owner.execute(f"CREATE VIEW mine AS SELECT * FROM facebook_events_{oldest:%Y%m%d}")
    rows = await owner.fetch(PARTITIONS["drop_before"], "facebook_events", floor)
    assert {row["day"]: row["error"] is None for row in rows} == {
        moment.date(): moment != moments[-1] for moment in moments
    }
    assert "view mine depends on table" in rows[0]["error"]
    assert await days(owner) == [oldest]
    assert await owner.fetchval("SELECT floor FROM partition_floors WHERE parent = 'facebook_events'") == floor
    await owner.execute("DROP VIEW mine")
    assert await drop_before(owner, floor) == 1
    assert await days(owner) == []


async def test_a_partition_of_another_name_is_left_alone(owner: Connection) -> None:
    """A partition that an operator made, whatever its name, is neither taken for a day nor dropped."""
    await owner.execute(
        "CREATE TABLE facebook_events_archive PARTITION OF facebook_events "
        "FOR VALUES FROM ('2020-01-01') TO ('2020-02-01')"
    )
    await owner.fetchval(PARTITIONS["ensure"], "facebook_events", date(2020, 2, 1))
    assert await days(owner) == [date(2020, 2, 1)]
    assert await drop_before(owner, date(2021, 1, 1)) == 1
    assert await owner.fetchval("SELECT to_regclass('facebook_events_archive') IS NOT NULL")
