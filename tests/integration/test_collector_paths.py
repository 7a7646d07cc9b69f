"""The direct path and its way back: repeats, keys that another holds, deadlocks, and what is counted of it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

import pytest

from collector.store import store as storing_module
from collector.store import write
from collector.store.batch import Outcome, WritePath
from collector.store.write import BatchWriter
from core import postgres
from core.pg_errors import ErrorClass, classify
from core.postgres import Connection
from ops.local import Servers
from tests.support.collecting import Storing, balanced, storing
from tests.support.events import NOON, facebook, message
from tests.support.garbage import errors_left_behind
from tests.support.stack import Database
from tests.support.waiting import eventually

LEAF = f"facebook_events_{NOON:%Y%m%d}"


@pytest.fixture
async def other(servers: Servers, database: Database) -> AsyncIterator[Connection]:
    """Another writer, whom a deadlock never costs anything: it looks for one much later than a collector does."""
    connection = await postgres.connect(servers.dsn("postgres", database.name), name="tests")
    await connection.execute("SET deadlock_timeout = '10min'")
    yield connection
    await connection.close()


def reported(outcome: Outcome) -> tuple[str | None, int, int, int]:
    return outcome.path, outcome.conflicts, outcome.stored, outcome.repeated


async def hold(other: Connection, event_id: str) -> None:
    """Insert an event of this id, copied from the one called model, in the open transaction."""
    await other.execute(
        f"CREATE TEMPORARY TABLE held ON COMMIT DROP AS SELECT * FROM {LEAF} WHERE event_id = 'model'; "
        f"UPDATE held SET event_id = '{event_id}'; INSERT INTO {LEAF} SELECT * FROM held; DROP TABLE held"
    )


async def waits(other: Connection) -> None:
    """Wait until somebody waits for another's transaction."""

    async def stands() -> bool:
        return bool(await other.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    await eventually(stands, what="a writer waits for a key", seconds=30)


async def begun(store: Storing) -> None:
    """Connect, and let there be the day's leaf and a row to copy from."""
    assert reported(await store.save(message(facebook(event_id="model")))) == (WritePath.DIRECT, 0, 1, 0)


async def test_new_rows_go_straight_and_repeats_are_merged(database: Database) -> None:
    """A repeat sends its batch, and the next one, to the merge; then new rows go straight again."""
    async with storing("facebook", database) as store:
        await begun(store)
        repeat = message(facebook(event_id="new"), facebook(event_id="model"))
        assert reported(await store.save(repeat)) == (WritePath.STAGED, 1, 1, 1)
        assert reported(await store.save(message(facebook()))) == (WritePath.STAGED, 0, 1, 0)
        assert reported(await store.save(message(facebook()))) == (WritePath.DIRECT, 0, 1, 0)
        twin = facebook(event_id="twin")
        assert reported(await store.save(message(twin, twin))) == (WritePath.STAGED, 1, 1, 1)
        connection = await postgres.connect(database.owner_dsn, name="tests")
        await balanced(connection)
        assert await connection.fetchval("SELECT sum(stored) FROM receipts") == 5
        await connection.close()


async def test_a_conflict_leaves_nothing_behind(database: Database) -> None:
    """No batch that met a repeat stays in memory until the cyclic collector comes: that is rare here."""
    async with storing("facebook", database) as store:
        await begun(store)
        with errors_left_behind() as left:
            assert reported(await store.save(message(facebook(), facebook(event_id="model")))) == (
                WritePath.STAGED,
                1,
                1,
                1,
            )
    assert left == []


@pytest.mark.parametrize(
    ("end", "expected"), [("COMMIT", (WritePath.STAGED, 1, 1, 1)), ("ROLLBACK", (WritePath.DIRECT, 0, 2, 0))]
)
async def test_a_key_that_another_holds_is_waited_for(
    database: Database, other: Connection, end: str, expected: tuple[WritePath, int, int, int]
) -> None:
    """The direct path waits for the other's end: its commit makes the event a repeat, its rollback leaves it new."""
    async with storing("facebook", database) as store:
        await begun(store)
        await other.execute("BEGIN")
        await hold(other, "held")
        saving = asyncio.create_task(store.save(message(facebook(), facebook(event_id="held"))))
        await waits(other)
        await other.execute(end)
        assert reported(await saving) == expected
    assert await other.fetchval(f"SELECT count(*) FROM {LEAF}") == 3


async def test_a_key_that_is_held_for_ever_is_given_up(
    database: Database, other: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wait for another's key ends with the command's time: nothing is stored, and the batch is tried again."""
    async with storing("facebook", database) as store:
        monkeypatch.setattr(storing_module, "COMMAND_SECONDS", 1.0)
        monkeypatch.setattr(write, "COPY_SECONDS", 1.0)
        await begun(store)
        await other.execute("BEGIN")
        await hold(other, "held")
        entry = store.entry(message(facebook(), facebook(event_id="held")))
        with pytest.raises(TimeoutError) as caught:
            await store.store.save([entry])
        assert classify(caught.value) is ErrorClass.RETRY
        await other.execute("ROLLBACK")
        await store.store.close()
        assert await other.fetchval("SELECT count(*) FROM receipts") == 1
        assert reported(await store.store.save([entry])) == (WritePath.DIRECT, 0, 2, 0)
    await balanced(other)


async def test_a_deadlock_is_left_to_the_merge(database: Database, other: Connection) -> None:
    """Two writers that each hold the other's next key: the collector goes back, lets the other end, and merges."""
    async with storing("facebook", database) as store:
        await begun(store)
        await other.execute("BEGIN")
        await hold(other, "second")
        batch = message(facebook(event_id="first")), message(facebook(event_id="second"))
        saving = asyncio.create_task(store.save(*batch))
        await waits(other)
        await hold(other, "first")  # waits for the collector, until its deadlock is found
        await other.execute("COMMIT")
        assert reported(await saving) == (WritePath.STAGED, 1, 0, 2)
    rows = await other.fetch("SELECT events, stored, repeated, dead FROM receipts ORDER BY stream_sequence")
    assert [tuple(row) for row in rows] == [(1, 1, 0, 0), (1, 0, 1, 0), (1, 0, 1, 0)]


async def test_collectors_that_hold_each_others_keys_lose_nothing(database: Database, other: Connection) -> None:
    """Two collectors copy the same events in opposite orders at once: each event is stored once, and counted once."""
    events = [facebook(event_id=f"fb-{number:04}") for number in range(2_000)]
    async with storing("facebook", database) as one, storing("facebook", database) as two:
        await begun(one)
        await two.save(message(facebook()))
        batches = [(one, events), (two, events[::-1])]
        outcomes = await asyncio.gather(
            *(
                store.save(*(message(*of[start : start + 200]) for start in range(0, len(of), 200)))
                for store, of in batches
            ),
            return_exceptions=True,
        )
        for (store, of), outcome in zip(batches, outcomes, strict=True):
            if isinstance(outcome, BaseException):  # a collector would try again
                assert classify(outcome) is ErrorClass.RETRY
                await store.save(*(message(*of[start : start + 200]) for start in range(0, len(of), 200)))
    assert await other.fetchval(f"SELECT count(*) FROM {LEAF}") == 2_002
    await balanced(other)


async def test_what_was_written_is_let_go_of(database: Database, connection: Connection) -> None:
    """Of a message whose rows went straight in, nothing but its counts is kept until they are added: a day that is
    filled is one transaction of a million events."""
    async with storing("facebook", database) as store:
        await begun(store)
        entry = store.entry(message(*(facebook() for _ in range(50))))
        writing = await store.store._connect()
        async with writing.transaction():
            writer = BatchWriter(writing, store.source, 0, below_floor=set())
            held = sys.getrefcount(entry), sys.getrefcount(entry.message.body), sys.getrefcount(entry.parsed)
            await writer.write_rows([entry], WritePath.DIRECT)
            assert (sys.getrefcount(entry), sys.getrefcount(entry.message.body), sys.getrefcount(entry.parsed)) == held
            await writer.write_rollups()
    await balanced(connection)
