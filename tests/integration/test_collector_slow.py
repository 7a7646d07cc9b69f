"""PostgreSQL is slower than the time limit of a batch: a collector stores it in smaller transactions and goes on."""

from __future__ import annotations

import socket

import pytest
from nats.aio.client import Client
from structlog.testing import capture_logs

from collector.store import store, write
from collector.store.store import TooSlow
from core.pg_errors import ErrorClass, classify
from core.postgres import Connection
from tests.support.collecting import balanced, blocked, collecting, drained, publish, publish_all, storing
from tests.support.events import NOON, facebook, message
from tests.support.stack import Database
from tests.support.waiting import eventually

LEAF = f"facebook_events_{NOON:%Y%m%d}"
SLEEP = f"""
    CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.001); RETURN NEW; END $$;
    CREATE TRIGGER slow BEFORE INSERT ON {LEAF} FOR EACH ROW WHEN (NEW.age = 99) EXECUTE FUNCTION slow()"""


def slow_messages(count: int, events: int, first: int = 0) -> list[bytes]:
    """Messages of events that each take PostgreSQL a millisecond."""
    slow = facebook()
    slow["data"]["user"]["age"] = 99
    return [
        message(*({**slow, "eventId": f"slow-{number}-{position}"} for position in range(events)))
        for number in range(first, first + count)
    ]


async def test_a_copy_that_passes_its_limit_while_it_writes(
    database: Database, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However full the buffers are, it raises TooSlow, and the server's transaction ends. asyncpg's own time limit
    raised AttributeError here."""
    monkeypatch.setattr(write, "COPY_SECONDS", 1.0 + write.COPY_SECONDS - write.COMMAND_SECONDS)
    monkeypatch.setattr(store, "COMMAND_SECONDS", 1.0)
    async with storing("facebook", database) as storage:
        await storage.save(message(facebook()))
        await connection.execute(SLEEP)
        transport = storage.store._connection._transport  # type: ignore[union-attr]
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        fast = message(*(facebook() for _ in range(60_000)))
        with pytest.raises(TooSlow) as caught:
            await storage.save(*slow_messages(1, 3_000), fast)
        assert classify(caught.value) is ErrorClass.RETRY
        await storage.store.close()
        outcome = await storage.save(message(facebook()))
        assert outcome.stored == 1

        async def ended() -> bool:
            busy = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sluice-collector-facebook'"
            return bool(await connection.fetchval(busy) == 1)

        await eventually(ended, what="the session of the slow batch has ended")
    await balanced(connection)


async def test_a_batch_that_is_too_slow_is_stored_in_parts(
    database: Database, connection: Connection, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trigger that sleeps 1 ms a row: the batch does not fit its time limit, its parts do. The source never stops,
    and transactions grow again afterwards."""
    monkeypatch.setattr(write, "COPY_SECONDS", 1.0)
    monkeypatch.setattr(store, "COMMAND_SECONDS", 1.0)
    async with collecting(database, client) as collector:
        await publish(client, "facebook", message(facebook()))
        await drained(client, "facebook")
        await connection.execute(SLEEP)
        with capture_logs() as lines:
            async with blocked(database) as stands:
                await publish_all(client, "facebook", slow_messages(1, 10))  # the rest waits and becomes one batch
                await stands()
                await publish_all(client, "facebook", slow_messages(16, 200, first=1))
            await drained(client, "facebook", seconds=60)
        assert [line for line in lines if line["event"].startswith("source stopped")] == []
        assert any("TooSlow" in line["error"] for line in lines if line["event"] == "retrying batch")
        assert collector.readiness.ready
        assert collector.flow._max_messages < 20_000
        part = collector.flow._max_messages
        await publish(client, "facebook", message(facebook()))
        await drained(client, "facebook")
        assert collector.flow._max_messages > part
    assert await connection.fetchval("SELECT count(*) FROM facebook_events") == 1 + 10 + 16 * 200 + 1
    await balanced(connection, client)
