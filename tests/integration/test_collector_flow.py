"""The flow, in this process against real servers: fetch, parse, store, ack, and what happens when a step fails.

Invariant under test: a message is confirmed only after its rows are committed, and each event is stored once.
"""

from __future__ import annotations

import asyncio

import pytest
from nats.aio.client import Client
from structlog.testing import capture_logs

from collector import fetch, metrics, pull
from collector.store.batch import Entry, Outcome
from core import jetstream
from core.events.subjects import consumer_of
from core.postgres import Connection
from core.settings import Settings
from tests.support.collecting import (
    Collecting,
    ack_waits,
    balanced,
    blocked,
    collecting,
    connected,
    drained,
    fetcher_of,
    publish,
    publish_all,
    storing,
    waiting,
)
from tests.support.events import changed, facebook, message, tiktok
from tests.support.stack import Database, FreshNats
from tests.support.waiting import eventually, in_time


async def rows(connection: Connection, source: str = "facebook") -> int:
    count: int = await connection.fetchval(f"SELECT count(*) FROM {source}_events")
    return count


def many(count: int, first: int = 0) -> list[bytes]:
    """Messages of three events each."""
    return [
        message(*(facebook(event_id=f"fb-{number}-{position}") for position in range(3)))
        for number in range(first, first + count)
    ]


@pytest.mark.parametrize("source", ["facebook", "tiktok"])
async def test_what_is_published_is_stored_and_confirmed(
    database: Database, connection: Connection, client: Client, source: str
) -> None:
    """Messages published before and after the start end up as rows, and the stream is empty."""
    make = {"facebook": facebook, "tiktok": tiktok}[source]
    await publish_all(client, source, [message(make(), make("bottom")) for _ in range(50)])
    async with collecting(database, client, source):
        await drained(client, source)
        await publish_all(client, source, [message(make(), make("bottom")) for _ in range(50)])
        await drained(client, source)
    assert await rows(connection, source) == 200
    await balanced(connection, client)


async def test_a_fresh_event_does_not_wait(database: Database, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """With little to do a message is stored and confirmed as it comes: neither for a batch that is full nor for the
    end of its pull does it wait, nor for a look at the pulls."""
    monkeypatch.setattr(pull, "PULL_SECONDS", 3600.0)
    monkeypatch.setattr(fetch, "CHECK_SECONDS", 3600.0)
    async with collecting(database, client):
        for _ in range(3):
            await publish(client, "facebook", message(facebook()))
            await drained(client, "facebook")


async def test_batches_are_bounded(database: Database, connection: Connection, client: Client) -> None:
    """A batch holds at most so many events; a message that alone holds more is a batch of its own."""
    await publish_all(client, "facebook", many(20))
    await publish(client, "facebook", message(*(facebook() for _ in range(50))))
    fetcher = fetcher_of(client)
    await fetcher.start()
    sizes: list[int] = []
    while sum(sizes) < 110:
        taken = await in_time(fetcher.fetch(10, 0.2))
        sizes.append(sum(message.events for message in taken))
    assert sum(sizes) == 110
    assert sorted(sizes)[-1] == 50
    assert all(size <= 10 for size in sizes if size != 50)
    await fetcher.stop()


async def test_nothing_is_confirmed_before_the_commit(
    database: Database, connection: Connection, client: Client
) -> None:
    """While the transaction waits, the message stays in the stream; after the commit it goes."""
    await publish(client, "facebook", message(facebook()))
    async with collecting(database, client):
        async with blocked(database) as until_it_stands:
            await until_it_stands()
            assert await waiting(client) == 1
        await drained(client, "facebook")
    await balanced(connection, client)


async def test_a_slow_store_causes_no_redelivery(database: Database, connection: Connection, client: Client) -> None:
    """A batch that takes longer than the acknowledgement wait, and what waits behind it, is not delivered again."""
    async with collecting(database, client, ack_wait_seconds=1.0, batch_rows=3):
        async with blocked(database) as until_it_stands:
            await publish_all(client, "facebook", many(5))
            await until_it_stands()
            await ack_waits(client, 1.0, times=2)
        await drained(client, "facebook")
        info = await client.jetstream().consumer_info("EVENTS_FACEBOOK", consumer_of("facebook"))
    assert info.delivered.consumer_seq == 5
    await balanced(connection, client)


async def test_a_collector_that_dies_between_commit_and_ack(
    database: Database, connection: Connection, fresh_nats: FreshNats, client: Client
) -> None:
    """Rows committed and never confirmed are delivered again, known by their receipt, and stored once."""
    await publish_all(client, "facebook", many(10))
    dying = await jetstream.connect(fresh_nats.url, name="dying")
    fetcher = fetcher_of(dying, ack_wait_seconds=1.0)
    async with storing("facebook", database) as store:
        await fetcher.start()
        taken = await fetcher.fetch(20_000, 0.3)
        await store.store.save([Entry(held, store.parse(held.body, held.sequence)) for held in taken])
    await dying.close()  # without a word about the messages
    for task in fetcher._tasks:
        task.cancel()
    assert await rows(connection) == 30
    assert await waiting(client) == 10
    async with collecting(database, client, ack_wait_seconds=1.0):
        await drained(client, "facebook")
    assert await rows(connection) == 30
    assert await connection.fetchval("SELECT count(*) FROM receipts WHERE repeated > 0") == 0
    await balanced(connection, client)


async def test_collectors_share_a_stream(
    database: Database, connection: Connection, fresh_nats: FreshNats, client: Client
) -> None:
    """Several collectors of a source split its messages, sent twice under other numbers; each event is stored once."""
    async with (
        connected(fresh_nats) as second,
        connected(fresh_nats) as third,
        collecting(database, client, batch_rows=60),
        collecting(database, second, batch_rows=60),
        collecting(database, third, batch_rows=60),
    ):
        await asyncio.gather(publish_all(client, "facebook", many(200)), publish_all(second, "facebook", many(200)))
        await drained(client, "facebook")
    assert await rows(connection) == 600
    assert await connection.fetchval("SELECT count(DISTINCT shard) FROM event_counts") > 1
    await balanced(connection, client)


async def test_what_is_taken_on_after_a_stop_is_given_back_at_once(
    database: Database, connection: Connection, fresh_nats: FreshNats, client: Client
) -> None:
    """A collector that stops while it stores finishes that batch; another gets the rest without waiting for it."""
    long = 3600.0
    async with connected(fresh_nats) as another:
        async with (
            collecting(database, client, batch_rows=3, ack_wait_seconds=long) as stopping,
            blocked(database) as until_it_stands,
        ):
            await publish_all(client, "facebook", many(300))
            await until_it_stands()
            stopping.stop.set()
        stored = await rows(connection)
        assert 0 < stored < 900
        async with collecting(database, another, ack_wait_seconds=long):
            await drained(client, "facebook")
    assert await rows(connection) == 900
    await balanced(connection, client)


async def stopped_by(collector: Collecting, cause: str) -> None:
    """Wait until the source has stopped, and readiness says why."""

    async def named() -> bool:
        assert collector.running is not None
        assert not collector.running.done()
        return cause in collector.readiness.answer()[1].decode()

    await eventually(named, what=f"the source stops: {cause}", seconds=5)
    assert metrics.stopped.labels("facebook")._value.get() == 1


async def goes_on(collector: Collecting, client: Client) -> None:
    """Wait until the source has stored all that waits, by itself."""
    await drained(client, "facebook")
    assert collector.readiness.ready
    assert metrics.stopped.labels("facebook")._value.get() == 0


async def test_our_fault_stops_the_source_until_it_is_gone(
    database: Database, connection: Connection, client: Client
) -> None:
    """A single message that cannot be stored for a reason of ours stops the source, also when no other message comes.
    When the cause is gone, the source goes on without a restart."""
    await connection.execute("REVOKE INSERT ON event_counts FROM sluice_collector")
    await publish(client, "facebook", message(facebook()))
    async with collecting(database, client) as collector:
        await stopped_by(collector, "permission denied")
        assert await waiting(client) == 1
        assert await rows(connection) == 0
        await connection.execute("GRANT INSERT ON event_counts TO sluice_collector")
        await goes_on(collector, client)
    await balanced(connection, client)


async def test_too_much_poison_stops_the_source_until_it_is_none(
    database: Database, connection: Connection, client: Client
) -> None:
    """More than ten events of a batch that cannot be stored are no poison: nothing is confirmed, nothing kept. When the
    rule that rejected them is gone, they are stored without a restart."""
    await connection.execute("ALTER TABLE facebook_events ADD CONSTRAINT no_poison CHECK (city <> 'POISON')")
    bad = [changed(facebook(), "data.user.location.city", "POISON") for _ in range(11)]
    await publish(client, "facebook", message(*bad, facebook()))
    async with collecting(database, client) as collector:
        await stopped_by(collector, "more than 10 events")
        assert await waiting(client) == 1
        assert await connection.fetchval("SELECT count(*) FROM receipts") == 0
        await connection.execute("ALTER TABLE facebook_events DROP CONSTRAINT no_poison")
        await goes_on(collector, client)
    assert await rows(connection) == 12
    await balanced(connection, client)


async def test_a_source_that_is_stopped_can_be_ended(
    database: Database, connection: Connection, client: Client
) -> None:
    """SIGTERM in the minute between two tries of a stopped source ends it at once; what it held is not lost."""
    await connection.execute("REVOKE INSERT ON event_counts FROM sluice_collector")
    await publish(client, "facebook", message(facebook()))
    async with collecting(database, client, stopped_pause_seconds=3600) as collector:
        await stopped_by(collector, "permission denied")
    assert await waiting(client) == 1


@pytest.mark.parametrize("error", [AttributeError("'NoneType' object has no attribute 'done'"), KeyError("x")])
async def test_an_unknown_exception_is_tried_again(
    database: Database, connection: Connection, client: Client, error: Exception
) -> None:
    """A defect of a driver whose connection was lost: the batch is stored over a new connection, and the log has the
    traceback."""
    async with collecting(database, client) as collector:
        save, failures = collector.store.save, [error]

        async def fails_once(entries: list[Entry]) -> Outcome:
            if failures:
                raise failures.pop()
            return await save(entries)

        collector.store.save = fails_once  # type: ignore[method-assign]
        with capture_logs() as lines:
            await publish(client, "facebook", message(facebook()))
            await goes_on(collector, client)
    again = next(line for line in lines if line["event"] == "retrying batch")
    assert again["error"] == repr(error)
    assert "fails_once" in again["traceback"]
    await balanced(connection, client)


async def test_a_stop_twice_is_one_stop(database: Database, client: Client) -> None:
    """The fetcher and the store may be stopped again: an end that was begun is always finished."""
    async with collecting(database, client) as collector:
        pass
    await collector.fetcher.stop()
    await collector.store.close()


async def test_the_consumer_is_made_again(database: Database, connection: Connection, client: Client) -> None:
    """A consumer that somebody deletes is made again, and what was delivered before comes again, known."""
    async with collecting(database, client):
        await publish_all(client, "facebook", many(10))
        await drained(client, "facebook")
        await client.jetstream().delete_consumer("EVENTS_FACEBOOK", consumer_of("facebook"))
        await publish_all(client, "facebook", many(10, first=10))
        await drained(client, "facebook")
    assert await rows(connection) == 60
    await balanced(connection, client)


async def test_a_stream_that_is_made_again_is_read(database: Database, connection: Connection, client: Client) -> None:
    """A stream that was deleted and declared anew is collected from its first message on."""
    async with collecting(database, client):
        await publish_all(client, "facebook", many(10))
        await drained(client, "facebook")
        await client.jetstream().delete_stream("EVENTS_FACEBOOK")
        await jetstream.ensure_streams(client, Settings())
        await publish_all(client, "facebook", many(10, first=10))
        await drained(client, "facebook")
    assert await rows(connection) == 60
    assert await connection.fetchval("SELECT count(*) FROM receipts") == 20


async def test_nats_restarts_while_we_collect(
    database: Database, connection: Connection, fresh_nats: FreshNats, client: Client
) -> None:
    """kill -9 of NATS in the middle: the flow goes on by itself when it is back; what was published is stored once."""
    async with collecting(database, client, ack_wait_seconds=2.0, batch_rows=30) as collector:
        for number in range(3):
            await publish_all(client, "facebook", many(100, first=100 * number))
            pid = fresh_nats.supervisor.kill("nats")
            await fresh_nats.supervisor.wait_ready("nats", after=pid)

            async def back() -> bool:
                return client.is_connected

            await eventually(back, what="the client is connected again")
        await drained(client, "facebook", seconds=30)
        assert collector.running is not None
        assert not collector.running.done()
    assert await rows(connection) == 900
    await balanced(connection, client)


async def test_nats_is_away_when_a_batch_is_confirmed(
    database: Database, connection: Connection, fresh_nats: FreshNats, client: Client
) -> None:
    """A confirmation that no one hears is no error: the message comes again and its receipt is known."""
    async with collecting(database, client, ack_wait_seconds=2.0) as collector:
        async with blocked(database) as until_it_stands:
            await publish_all(client, "facebook", many(5))
            await until_it_stands()
            await fresh_nats.supervisor.stop("nats")

        async def committed() -> bool:
            return await rows(connection) == 15

        await eventually(committed, what="the batch is stored while NATS is away")
        await fresh_nats.supervisor.start_again("nats")
        await drained(client, "facebook", seconds=30)
        await publish(client, "facebook", message(facebook()))
        await drained(client, "facebook")
        assert collector.running is not None
        assert not collector.running.done()
    assert await rows(connection) == 16
    await balanced(connection, client)


@pytest.mark.parametrize("header", [None, "", "many", "-5", "0", "1.5", "999999999999999999999"])
async def test_a_count_that_is_wrong_does_no_harm(
    database: Database, connection: Connection, client: Client, header: str | None
) -> None:
    """The header is a hint for the size of a batch: a message that lies is stored as what it holds."""
    headers = {} if header is None else {"Sluice-Events": header}
    for number in range(3):
        await client.jetstream().publish(
            "events.facebook", message(facebook(), facebook(event_id=f"fb-{number}")), headers=headers
        )
    async with collecting(database, client):
        await drained(client, "facebook")
    assert await rows(connection) == 6
    await balanced(connection, client)


async def test_an_error_in_pulling_ends_the_flow(
    database: Database, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What no one expected while messages are asked for is raised by the flow: a collector never stands idle unseen."""

    async def fail(pull: object) -> None:
        raise RuntimeError("not foreseen")

    monkeypatch.setattr("collector.pull.Pull.request", fail)
    with pytest.raises(RuntimeError, match="not foreseen"):
        async with collecting(database, client) as collector:
            assert collector.running is not None
            await in_time(asyncio.wait([collector.running]))


async def test_a_read_only_server_is_waited_for(database: Database, connection: Connection, client: Client) -> None:
    """After a failover to a standby the collector is not ready, and connects again until it finds one that writes."""

    async def missed() -> bool:
        return b'"postgres"' in collector.readiness.answer()[1]

    async with collecting(database, client) as collector:
        await publish(client, "facebook", message(facebook()))
        await drained(client, "facebook")
        await connection.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
        await collector.store.close()  # as the failover does
        await publish(client, "facebook", message(facebook()))
        await eventually(missed, what="it says that it cannot store", seconds=30)
        await connection.execute(f"ALTER DATABASE {database.name} RESET default_transaction_read_only")
        await drained(client, "facebook", seconds=60)
    assert await connection.fetchval("SELECT count(*) FROM facebook_events") == 2
