"""What a collector does beside storing: ending stuck sessions, summing old receipts, dropping old dead letters and
days."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date, timedelta

from nats.aio.client import Client
from structlog.testing import capture_logs

from collector import metrics
from collector.maintenance import maintain
from collector.parse import pg_copy
from collector.settings import CollectorSettings
from collector.sources import SOURCES
from core import postgres
from core.health import Readiness
from core.jetstream import stream_info
from core.lifecycle import cancel_and_wait
from core.periodic import periodically
from core.postgres import Connection
from ops.ledger import read_ledger
from sql import statements
from tests.support.collecting import ANY_TIME, balanced, collecting, drained, publish, storing
from tests.support.events import NOON, facebook, message
from tests.support.stack import Database
from tests.support.waiting import eventually, in_time

SQL = statements("maintenance")
A_MOMENT = timedelta(milliseconds=300)


async def end_stuck(connection: Connection, after: timedelta = A_MOMENT) -> list[int]:
    return [row["pid"] for row in await connection.fetch(SQL["terminate_stuck_sessions"], after)]


@asynccontextmanager
async def session(dsn: str, name: str = "sluice-collector-facebook") -> AsyncIterator[Connection]:
    connection = await postgres.connect(dsn, name=name)
    try:
        yield connection
    finally:
        connection.terminate()


async def stall(connection: Connection) -> asyncio.Task[str]:
    """A COPY whose client has stopped sending."""
    await connection.execute("BEGIN")
    started = asyncio.Event()

    async def source() -> AsyncIterator[bytes]:
        yield pg_copy.HEADER
        started.set()
        await asyncio.Event().wait()

    copy = asyncio.create_task(connection.copy_to_table("facebook_events", source=source(), format="binary"))
    await started.wait()
    return copy


async def test_a_stalled_copy_is_ended(database: Database) -> None:
    """A collector's session that waits for its client in a transaction is ended after the time allowed, not before."""
    async with (
        session(database.collector_dsn, "sluice-maintenance") as keeper,
        session(database.collector_dsn) as stuck,
    ):
        copy = await stall(stuck)
        assert await end_stuck(keeper, timedelta(seconds=15)) == []

        async def found() -> list[int]:
            return await end_stuck(keeper)

        assert await eventually(found, what="the stalled session is ended") == [stuck.get_server_pid()]
        copy.cancel()

        async def closed() -> bool:
            return stuck.is_closed()

        await eventually(closed, what="the stalled client is reported")


async def test_a_transaction_left_open_is_ended(database: Database) -> None:
    """A session that is idle in a transaction holds its locks just the same."""
    async with (
        session(database.collector_dsn, "sluice-maintenance") as keeper,
        session(database.collector_dsn) as stuck,
    ):
        await stuck.execute("BEGIN; INSERT INTO known_countries VALUES ('Nowhere')")

        async def found() -> list[int]:
            return await end_stuck(keeper)

        assert await eventually(found, what="the idle session is ended") == [stuck.get_server_pid()]


async def test_sessions_that_are_not_stuck_stay(database: Database) -> None:
    """A long transaction that moves on, one that works, one without a transaction, and others' sessions stay."""
    async with (
        session(database.collector_dsn, "sluice-maintenance") as keeper,
        session(database.collector_dsn) as moving,
        session(database.collector_dsn) as working,
        session(database.collector_dsn) as idle,
        session(database.collector_dsn, "psql") as named_otherwise,
        session(database.owner_dsn) as of_another_role,
    ):
        await idle.fetchval("SELECT 1")
        for other in (moving, named_otherwise, of_another_role):
            await other.execute("BEGIN; SELECT 1")
        at_work = asyncio.create_task(working.execute("BEGIN; SELECT pg_sleep(4)"))
        while not at_work.done():  # each pause of the moving one is far shorter than the whole
            await moving.fetchval("SELECT pg_sleep(0.1)")
            assert await end_stuck(keeper, timedelta(seconds=3)) == []


async def test_a_stuck_collector_holds_up_no_one_for_long(database: Database, connection: Connection) -> None:
    """A collector that waits for a row of a stalled one goes on as soon as that one's session is ended."""
    async with storing("facebook", database) as store, session(database.collector_dsn) as stuck:
        entry = store.entry(message(facebook()))
        await store.save(message(facebook()))
        await stuck.execute(
            "BEGIN; INSERT INTO receipts (stream, stream_sequence, published_at, events, stored) "
            f"VALUES ('EVENTS_FACEBOOK', {entry.message.sequence}, '{entry.message.published_at.isoformat()}', 1, 1)"
        )
        saving = asyncio.create_task(store.store.save([entry]))
        async with session(database.collector_dsn, "sluice-maintenance") as keeper:

            async def ended() -> list[int]:
                return await end_stuck(keeper)

            await eventually(ended, what="the stalled session is ended")
        assert (await in_time(saving)).stored == 1
    await balanced(connection)


async def test_old_receipts_become_a_sum(database: Database, connection: Connection, client: Client) -> None:
    """Receipts past their retention are summed, once, anyone who does it; the ledger balances before and after."""
    for _ in range(20):
        await publish(client, "facebook", message(facebook(), facebook(), b"{"))
    async with collecting(database, client, batch_rows=3):  # all in one batch would be too much poison
        await drained(client, "facebook")
    await connection.execute("UPDATE receipts SET stored_at = now() - interval '4 days' WHERE stream_sequence <= 15")
    stream = await stream_info(client, "EVENTS_FACEBOOK")
    async with session(database.collector_dsn) as one, session(database.collector_dsn) as two:
        for _ in range(2):
            await asyncio.gather(
                *(
                    keeper.execute(
                        SQL["sum_old_receipts"],
                        "EVENTS_FACEBOOK",
                        timedelta(days=3),
                        stream.created,
                        stream.state.first_seq,
                    )
                    for keeper in (one, two)
                )
            )
    assert await connection.fetchval("SELECT count(*) FROM receipts") == 5
    row = await connection.fetchrow(
        "SELECT sum(messages), sum(events), sum(stored), sum(repeated), sum(dead) FROM receipt_totals"
    )
    assert row is not None
    assert tuple(row) == (15, 45, 30, 0, 15)
    ledger = (await read_ledger(client, connection)).streams["EVENTS_FACEBOOK"]
    assert (ledger.published, ledger.messages, ledger.events, ledger.dead) == (20, 20, 60, 20)
    await balanced(connection, client)


async def test_a_message_that_waits_keeps_its_receipt(
    database: Database, connection: Connection, client: Client
) -> None:
    """A stored message whose confirmation was lost is known when it comes again, however old its receipt is."""
    await publish(client, "rejected", message(b"{}"))
    waiting = await client.jetstream().get_msg("REJECTED", 1)
    await connection.execute(
        "INSERT INTO receipts (stream, stream_sequence, published_at, events, stored, stored_at) "
        "VALUES ('REJECTED', 1, $1, 1, 1, now() - interval '4 days')",
        waiting.time,
    )
    settings = CollectorSettings(collector_dsn=database.collector_dsn)
    for source in SOURCES.values():
        await maintain.Maintenance(client, source, settings, Readiness()).round()
    assert await connection.fetchval("SELECT count(*) FROM receipts") == 1


async def test_a_round_keeps_days_and_dead_letters(database: Database, connection: Connection, client: Client) -> None:
    """The task makes days ahead, drops those past the retention, and dead letters past theirs, and says how far
    ahead."""
    today = await connection.fetchval(SQL["today"])
    old = NOON - timedelta(days=5)  # past the retention, and taken at any hour
    async with storing("facebook", database) as store:
        await store.save(message(facebook(at=old), b"{", b"{"))
    await connection.execute("UPDATE dead_letters SET stored_at = now() - interval '8 days' WHERE position = 1")
    settings = CollectorSettings(
        collector_dsn=database.collector_dsn,
        max_event_age_days=1, retention_days=5, partitions_ahead_days=2, dead_letter_retention_days=7,
    )  # fmt: skip
    keeping = asyncio.create_task(maintain.maintain(client, SOURCES["facebook"], settings, Readiness()))
    try:

        async def done() -> bool:
            kept = await connection.fetchval("SELECT count(*) FROM dead_letters")
            days = {row["day"] for row in await connection.fetch(statements("partitions")["days"], "facebook_events")}
            return (
                kept == 1
                and old.date() not in days
                and {today + timedelta(days=offset) for offset in range(-1, 3)} <= days
            )

        await eventually(done, what="a round of maintenance is done")
        floor = await connection.fetchval("SELECT floor FROM partition_floors WHERE parent = 'facebook_events'")
        assert floor == today - timedelta(days=5)
    finally:
        await cancel_and_wait([keeping])


async def test_a_step_that_fails_keeps_no_other(database: Database, connection: Connection, client: Client) -> None:
    """A view on an old day and a stream that is gone: days are made ahead, dead letters and the other old days dropped
    all the same; the steps that failed alone have no new success, and are done once their cause is gone."""
    today = await connection.fetchval(SQL["today"])
    olds = [NOON - timedelta(days=days) for days in (5, 6)]
    async with storing("facebook", database, ANY_TIME) as store:
        await store.save(message(*(facebook(at=old) for old in olds), b"{"))
    await connection.execute("UPDATE dead_letters SET stored_at = now() - interval '8 days'")
    await connection.execute(f"CREATE VIEW mine AS SELECT * FROM facebook_events_{olds[1]:%Y%m%d}")
    await client.jetstream().delete_stream("EVENTS_FACEBOOK")
    settings = CollectorSettings(
        collector_dsn=database.collector_dsn,
        max_event_age_days=1, retention_days=5, partitions_ahead_days=2, dead_letter_retention_days=7,
    )  # fmt: skip
    maintenance = maintain.Maintenance(client, SOURCES["facebook"], settings, Readiness())
    began = {
        step: success(step) for step in ("pause", "retention", "receipts", "partitions", "dead_letters", "sessions")
    }
    await maintenance.round()
    assert {step for step, at in began.items() if success(step) == at} == {"pause", "retention", "receipts"}
    ahead = [today + timedelta(days=offset) for offset in range(-1, 3)]
    assert await days_of(connection) == sorted({olds[1].date(), *ahead})
    assert await connection.fetchval("SELECT count(*) FROM dead_letters") == 0
    await connection.execute("DROP VIEW mine")
    await maintenance.round()
    assert success("retention") > began["retention"]
    assert await days_of(connection) == ahead


def success(step: str) -> float:
    """When a step of facebook's last succeeded."""
    return float(metrics.step_success.labels("facebook", step)._value.get())


async def days_of(connection: Connection) -> list[date]:
    return [row["day"] for row in await connection.fetch(statements("partitions")["days"], "facebook_events")]


async def test_no_error_ends_a_task_beside_the_flow() -> None:
    """A step that raises whatever it may is logged once with its traceback, tried again, and says when it succeeds."""
    attempts = 0
    done = asyncio.Event()

    async def work() -> None:
        nonlocal attempts
        attempts += 1
        if attempts < 3:
            raise KeyError("unheard of")
        done.set()

    with capture_logs() as lines:
        task = asyncio.create_task(periodically(metrics.step("facebook", "tests", Readiness()), work, 0.001))
        await in_time(done.wait())
        await cancel_and_wait([task])
    assert [line["event"] for line in lines] == ["step failed", "step recovered"]
    assert isinstance(lines[0]["exc_info"], KeyError)
