"""Servers that come late, go and come back: the collector waits, catches up, and can be asked to stop meanwhile.

These tests have a PostgreSQL and a NATS of their own, because they stop them.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import partial

import pytest

from core import jetstream, postgres
from core.events.subjects import consumer_of
from core.jetstream import stream_info
from core.postgres import Connection
from core.settings import Settings
from ops.local import Servers
from tests.support.collecting import balanced, drained, publish, publish_all
from tests.support.collector_process import CollectorProcess, collector_process
from tests.support.events import facebook, message
from tests.support.faulty import rounds
from tests.support.proxy import proxy, tried_to_connect
from tests.support.stack import reachable_folder
from tests.support.waiting import eventually

Start = Callable[..., AbstractAsyncContextManager[CollectorProcess]]


@pytest.fixture(scope="module")
async def own() -> AsyncIterator[Servers]:
    """Servers for this module, with a migrated database."""
    with reachable_folder() as folder:
        async with Servers(folder / "stack", environ={}) as servers:
            await postgres.migrate(servers.owner_dsn)
            yield servers


@pytest.fixture
def start(own: Servers) -> Start:
    """Start a collector of facebook on these servers."""

    def started(**settings: str) -> AbstractAsyncContextManager[CollectorProcess]:
        ours = {"collector_dsn": own.collector_dsn, "nats_url": own.nats_url, "collector_ack_wait_seconds": "2"}
        return collector_process("facebook", **ours | settings)

    return started


async def owner(own: Servers) -> Connection:
    return await postgres.connect(own.owner_dsn, name="tests")


def many(count: int, events: int = 20) -> list[bytes]:
    return [message(*(facebook() for _ in range(events))) for _ in range(count)]


async def test_postgres_stops_and_starts(own: Servers, start: Start) -> None:
    """Stopped, started, and killed while events flow: the stream holds them, and the collector catches up by itself."""
    client = await jetstream.connect(own.nats_url, name="tests")
    async with start() as collector:
        await collector.is_ready()
        connection = await owner(own)
        before = await connection.fetchval("SELECT count(*) FROM facebook_events")
        await connection.close()

        await publish_all(client, "facebook", many(20))
        await own.supervisor.stop("postgres")
        await publish_all(client, "facebook", many(20))

        async def not_ready() -> bool:
            return "postgres" in await collector.missing()

        await eventually(not_ready, what="the collector says that PostgreSQL is missing")
        await own.supervisor.start_again("postgres")
        await drained(client, "facebook", seconds=30)
        await collector.is_ready()

        publishing = asyncio.create_task(publish_all(client, "facebook", many(200)))
        pid = own.supervisor.kill("postgres", signal.SIGKILL)
        await own.supervisor.wait_ready("postgres", after=pid)
        await publishing
        await drained(client, "facebook", seconds=30)
        assert await collector.metric('collector_store_retries_total{reason="wait",source="facebook"}') > 0
        assert await collector.terminate() == 0
    assert collector.errors == ""
    connection = await owner(own)
    assert await connection.fetchval("SELECT count(*) FROM facebook_events") - before == 240 * 20
    await balanced(connection, client)
    await connection.close()
    await client.close()


STORED = 'collector_events_processed_total{source="facebook"}'


@pytest.mark.parametrize("line_is", ["cut", "silent"][: rounds(1, 2)])
async def test_one_of_two_collectors_cannot_reach_postgres(own: Servers, start: Start, line_is: str) -> None:
    """It gives back what it holds: the other one stores everything, and reports are fresh again within 30 s, or after
    some commands' time limits where no one is reported that the line is dead. It works again when its line is back."""
    client = await jetstream.connect(own.nats_url, name="tests")
    connection = await owner(own)
    await connection.execute("TRUNCATE watermarks")
    before = await connection.fetchval("SELECT count(*) FROM facebook_events")
    sent = 0

    async def keep_publishing() -> None:
        nonlocal sent
        while True:
            await publish_all(client, "facebook", many(4))
            sent += 4 * 20
            await asyncio.sleep(0.05)  # a rate, not a wait

    async def fresh() -> bool:
        until = await connection.fetchval("SELECT stored_until FROM watermarks WHERE source = 'facebook'")
        return bool(until is not None and until > held)

    async def work(*collectors: CollectorProcess) -> None:
        before = [await collector.metric(STORED) for collector in collectors]

        async def all_stored_more() -> bool:
            return all([await one.metric(STORED) > had for one, had in zip(collectors, before, strict=True)])

        await eventually(all_stored_more, what="collectors store")

    async with proxy(own.postgres.port) as line:
        through = own.collector_dsn.replace(f":{own.postgres.port}/", f":{line.port}/")
        assert through != own.collector_dsn
        async with start() as well, start(collector_dsn=through) as sick:
            await asyncio.gather(well.is_ready(), sick.is_ready())
            publishing = asyncio.create_task(keep_publishing())
            await work(well, sick)
            if line_is == "silent":
                line.half_open()
            else:
                await line.reject()
                line.reset()
            held = (await stream_info(client, "EVENTS_FACEBOOK")).ts
            await eventually(fresh, what="reports are fresh again", seconds=90 if line_is == "silent" else 30)
            held = (await stream_info(client, "EVENTS_FACEBOOK")).ts
            await eventually(fresh, what="and stay so", seconds=15)
            assert "postgres" in await sick.missing()
            if line_is == "silent":
                line.reset()
                line.release()
            else:
                await line.listen()
            await work(well, sick)
            assert await sick.missing() == {}
            publishing.cancel()
            await asyncio.wait([publishing])
            await drained(client, "facebook")
            assert [await well.terminate(), await sick.terminate()] == [0, 0]
        assert well.errors + sick.errors == ""
    assert await connection.fetchval("SELECT count(*) FROM facebook_events") - before >= sent
    await balanced(connection, client)
    await connection.close()
    await client.close()


async def test_no_collector_can_reach_postgres(own: Servers, start: Start) -> None:
    """All give back what they hold, no one asks, so nothing goes back and forth; when PostgreSQL is back, all is stored
    at once. SIGTERM ends one meanwhile, and what it gave back is not lost."""
    client = await jetstream.connect(own.nats_url, name="tests")
    consumer = "EVENTS_FACEBOOK", consumer_of("facebook")
    patient = partial(start, collector_ack_wait_seconds="60")
    async with patient() as one, patient() as other, patient() as third:
        await asyncio.gather(*(collector.is_ready() for collector in (one, other, third)))
        await own.supervisor.stop("postgres")
        for _ in range(50):  # one after the other: each collector gets some
            await publish_all(client, "facebook", many(2))

        async def no_one_asks() -> bool:
            return not (await client.jetstream().consumer_info(*consumer)).num_waiting

        await eventually(no_one_asks, what="no one asks for messages")
        assert await third.terminate() == 0
        before = (await client.jetstream().consumer_info(*consumer)).delivered
        await eventually(failed_again(one, other), what="both have failed again")
        after = await client.jetstream().consumer_info(*consumer)
        assert (after.delivered, after.num_waiting) == (before, 0)
        await own.supervisor.start_again("postgres")
        await drained(client, "facebook")  # sooner than an acknowledgement wait ends
        await asyncio.gather(one.is_ready(), other.is_ready())
    connection = await owner(own)
    await balanced(connection, client)
    await connection.close()
    await client.close()


def failed_again(*collectors: CollectorProcess) -> Callable[[], Awaitable[bool]]:
    """Asks whether each of these has failed to store since now."""

    def failures(collector: CollectorProcess) -> int:
        return sum(line["event"] == "retrying batch" for line in collector.log)

    before = [failures(collector) for collector in collectors]

    async def ask() -> bool:
        return all(failures(one) > had for one, had in zip(collectors, before, strict=True))

    return ask


async def test_nats_is_away_for_a_while(own: Servers, start: Start) -> None:
    """While NATS is away the collector is not ready, says so without flooding its log, and goes on when it is back."""
    async with start() as collector:
        await collector.is_ready()
        said = len(collector.log)
        await own.supervisor.stop("nats")

        async def not_ready() -> bool:
            return "nats" in await collector.missing()

        await eventually(not_ready, what="the collector says that NATS is missing")
        await tried_to_connect(own.nats.port, times=15)
        lines = [json.dumps(entry) for entry in collector.log[said:]]
        assert any("NATS connection lost" in entry for entry in lines)
        assert len(lines) < 10, lines
        await own.supervisor.start_again("nats")
        await collector.is_ready()
        client = await jetstream.connect(own.nats_url, name="tests")
        await publish_all(client, "facebook", many(10))
        await drained(client, "facebook", seconds=30)
        assert await collector.terminate() == 0
    assert collector.errors == ""
    await client.close()


async def test_a_collector_that_starts_before_its_servers(own: Servers, start: Start) -> None:
    """It serves its health at once, says what is missing, does not flood its log, and collects when they are there."""
    await own.supervisor.stop("nats")
    await own.supervisor.stop("postgres")
    async with start() as collector:

        async def waits_for_postgres() -> bool:
            return set(await collector.missing()) == {"postgres", "nats", "collecting"}

        await eventually(waits_for_postgres, what="the collector waits for PostgreSQL")
        assert (await collector.get("/health/live"))[0] == 200
        await own.supervisor.start_again("postgres")

        async def waits_for_nats() -> bool:
            return set(await collector.missing()) == {"nats", "collecting"}

        await eventually(waits_for_nats, what="the collector waits for NATS")
        said = len(collector.log)
        await tried_to_connect(own.nats.port, times=15)
        assert len(collector.log) - said < 10, collector.log[said:]
        await own.supervisor.start_again("nats")
        await collector.is_ready()
        client = await jetstream.connect(own.nats_url, name="tests")
        await publish(client, "facebook", message(facebook()))
        await drained(client, "facebook")
        await client.close()
        assert await collector.terminate() == 0


@pytest.mark.parametrize("away", ["postgres", "nats"])
async def test_a_collector_that_waits_can_be_stopped(own: Servers, start: Start, away: str) -> None:
    """SIGTERM ends a collector that is still waiting for a server, at once and with 0."""
    await own.supervisor.stop(away)
    try:
        async with start(log_level="debug") as collector:

            async def waits() -> bool:
                return away in await collector.missing()

            await eventually(waits, what=f"the collector waits for {away}")
            if away == "nats":
                await collector.logged("NATS error")
            else:
                await collector.logged("waiting for PostgreSQL")
            assert await collector.terminate(seconds=5) == 0
        assert collector.errors == ""
    finally:
        await own.supervisor.start_again(away)


async def test_a_collector_migrates_a_new_database(own: Servers, start: Start) -> None:
    """With the owner's DSN a collector that waited for PostgreSQL migrates first; without it, it waits for who does."""
    connection = await postgres.connect(own.dsn("postgres", "postgres"), name="tests")
    await connection.execute("CREATE DATABASE later OWNER sluice_owner")
    await connection.close()
    dsns = {"collector_dsn": own.dsn("sluice_collector", "later")}
    async with start(**dsns) as waiting:
        await waiting.logged("waiting for the schema")
        async with start(**dsns, sluice_migrate_dsn=own.dsn("sluice_owner", "later")) as migrating:
            await migrating.is_ready()
            assert [line["version"] for line in migrating.log if line["event"] == "migration applied"] == [
                migration.version for migration in postgres.migrations()
            ]
        await waiting.is_ready()


async def test_a_wrong_password_is_reported(own: Servers, start: Start) -> None:
    """What waiting does not fix ends the start with one line on stderr, without the password."""
    wrong = own.collector_dsn.replace("sluice_collector:", "sluice_collector:wrong")
    async with start(collector_dsn=wrong) as collector:
        assert await collector.end() == 2
    assert collector.errors.startswith("sluice: ")
    assert "password authentication failed" in collector.errors
    assert "wrong" not in collector.errors
    assert collector.errors.count("\n") == 1


async def test_streams_that_differ_are_reported(own: Servers, start: Start) -> None:
    """A stream with other settings than declared is used as it is, and the difference stands in the log."""
    client = await jetstream.connect(own.nats_url, name="tests")
    await jetstream.ensure_streams_when_up(client, Settings())
    async with start(stream_max_bytes="2000000") as collector:
        await collector.is_ready()
        drift = await collector.logged("stream settings drift")
        assert drift["drift"] == ["max_bytes is 11811160064, declared 2000000"]
    await client.close()
