"""The collector as a process: its start, its health, its end, and kill -9 at the worst instants."""

from __future__ import annotations

import asyncio
import re
import signal
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from random import Random

import pytest
from nats.aio.client import Client

from core.events.subjects import stream_of
from core.jetstream import stream_info
from core.native import NOT_BUILT
from core.postgres import Connection
from tests.support.collecting import balanced, blocked, connected, drained, publish, publish_all
from tests.support.collector_process import CollectorProcess, collector_process
from tests.support.events import facebook, message, tiktok
from tests.support.proxy import FROM_CLIENT, proxy
from tests.support.stack import Database, FreshNats
from tests.support.tools import require_native
from tests.support.waiting import eventually

LIKELY_PARSER = "python" if NOT_BUILT else "native"
Start = Callable[..., AbstractAsyncContextManager[CollectorProcess]]


@pytest.fixture
def start(database: Database, fresh_nats: FreshNats) -> Start:
    """Start a collector of facebook on this test's servers; settings may be given by name."""

    def started(
        source: str = "facebook", *arguments: str, **settings: str
    ) -> AbstractAsyncContextManager[CollectorProcess]:
        ours = {"collector_dsn": database.collector_dsn, "nats_url": fresh_nats.url, "log_level": "debug"}
        return collector_process(source, *arguments, **ours | settings)

    return started


async def rows(connection: Connection) -> int:
    count: int = await connection.fetchval("SELECT count(*) FROM facebook_events")
    return count


def many(count: int, first: int = 0, events: int = 20) -> list[bytes]:
    """Messages of so many events each."""
    return [
        message(*(facebook(event_id=f"fb-{number}-{position}") for position in range(events)))
        for number in range(first, first + count)
    ]


async def test_a_collector_lives_and_ends(connection: Connection, client: Client, start: Start) -> None:
    """It gets ready, stores, counts, reports its log in JSON, and ends with 0 on SIGTERM."""
    async with start() as collector:
        await collector.is_ready()
        await publish_all(client, "facebook", [message(facebook(), facebook("bottom"), b"{")] * 2)
        await publish(client, "facebook", message(facebook()))
        await drained(client, "facebook")
        assert await collector.get("/health/live") == (200, b'{"status":"live"}')
        assert (await collector.get("/other"))[0] == 404
        counted = {
            name: await collector.metric(name)
            for name in (
                'collector_events_accepted_total{source="facebook"}',
                'collector_events_processed_total{source="facebook"}',
                'collector_events_repeated_total{source="facebook"}',
                'collector_events_failed_total{reason="malformed",source="facebook"}',
                'collector_messages_total{source="facebook"}',
                'collector_stopped{source="facebook"}',
                f'collector_parser_info{{parser="{LIKELY_PARSER}",source="facebook"}}',
            )
        }
        assert list(counted.values()) == [7, 3, 2, 2, 3, 0, 1], counted
        assert await collector.terminate() == 0
    assert collector.errors == ""
    assert {line["service"] for line in collector.log} == {"collector-facebook"}
    assert collector.log[-1]["event"] == "collector stopped"
    dead_letters = [line for line in collector.log if line["event"] == "dead letters stored"]  # one line a batch
    assert sum(line["events"] for line in dead_letters) == 2
    assert all(line["reasons"].keys() == {"malformed"} for line in dead_letters)
    assert {line["first"]["correlationId"] for line in dead_letters} == {"test-1"}
    assert "Ada Example" not in str(collector.log)
    await balanced(connection, client)


async def test_each_source_has_its_collector(
    database: Database, connection: Connection, client: Client, start: Start
) -> None:
    """The three sources run side by side on one database, each from its own stream."""
    async with start("facebook"), start("tiktok"), start("rejected"):
        await publish(client, "facebook", message(facebook()))
        await publish(client, "tiktok", message(tiktok()))
        await publish(client, "rejected", message(b"not a rejected event"))
        for source in ("facebook", "tiktok", "rejected"):
            await drained(client, source)
    counts = await connection.fetch("SELECT stream, stored, dead FROM receipts ORDER BY stream")
    assert [tuple(row) for row in counts] == [("EVENTS_FACEBOOK", 1, 0), ("EVENTS_TIKTOK", 1, 0), ("REJECTED", 0, 1)]
    await balanced(connection, client)


@pytest.mark.parametrize("parser", ["auto", "native", "python"])
async def test_the_parser_is_selected_at_start(client: Client, start: Start, parser: str) -> None:
    """The log says which one was asked for and which one runs, the metric too; either one stores the events."""
    if parser == "native":
        require_native()
    selected = LIKELY_PARSER if parser == "auto" else parser
    async with start("facebook", f"--parser={parser}") as collector:
        await collector.is_ready()
        await publish(client, "facebook", message(facebook()))
        await drained(client, "facebook")
        said = await collector.logged("parser selected")
        assert (said["parser"], said["requested"]) == (selected, parser)
        assert await collector.metric(f'collector_parser_info{{parser="{selected}",source="facebook"}}') == 1
        assert await collector.metric('collector_events_processed_total{source="facebook"}') == 1


async def test_a_parser_that_cannot_serve_ends_the_start(start: Start) -> None:
    """A source that is Python's alone does not start with the native parser, and says why."""
    require_native()
    async with start("rejected", "--parser=native") as collector:
        assert await collector.end() == 2
    assert collector.errors.startswith("sluice: --parser=native cannot serve rejected: ")


async def test_it_makes_what_is_missing(database: Database, fresh_nats: FreshNats, start: Start) -> None:
    """On a NATS server without streams the collector declares them itself."""
    async with start() as collector:
        await collector.is_ready()
        async with connected(fresh_nats) as client:
            assert (await stream_info(client, "REJECTED")).state.messages == 0
        assert {line["stream"] for line in collector.log if line["event"] == "stream created"} == {
            "EVENTS_FACEBOOK",
            "EVENTS_TIKTOK",
            "REJECTED",
        }


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"retention_days": "10"}, "RETENTION_DAYS: has to be at least 11, 4 more than MAX_EVENT_AGE_DAYS"),
        ({"collector_batch_rows": "many"}, "COLLECTOR_BATCH_ROWS: must be a whole number from 1 to 200000"),
        ({"collector_dsn_file": "/nowhere"}, "COLLECTOR_DSN and COLLECTOR_DSN_FILE are both set"),
        ({"nats_url_file": "/nowhere", "nats_url": ""}, "NATS_URL_FILE: cannot read /nowhere: No such file"),
    ],
)
async def test_a_wrong_setting_ends_the_start(start: Start, settings: dict[str, str], said: str) -> None:
    """A setting that cannot be is reported on stderr in one line, and the exit code is 2."""
    async with start(**settings) as collector:
        assert await collector.end() == 2
    assert collector.errors.startswith(f"sluice: {said}")
    assert collector.errors.count("\n") == 1


async def test_an_unknown_source_ends_the_start(start: Start) -> None:
    """The command line names the sources that there are."""
    async with start("myspace") as collector:
        assert await collector.end() == 2
    assert "'facebook', 'rejected', 'tiktok'" in collector.errors


async def test_a_changed_migration_ends_the_start(database: Database, connection: Connection, start: Start) -> None:
    """A schema that is not this program's is reported with exit code 2."""
    await connection.execute("UPDATE schema_migrations SET sha256 = 'other'")
    async with start(sluice_migrate_dsn=database.owner_dsn) as collector:
        assert await collector.end() == 2
    assert "migration 1 was changed after it was applied" in collector.errors


async def test_sigterm_while_storing(database: Database, connection: Connection, client: Client, start: Start) -> None:
    """The batch at hand is stored, the rest is given back at once, the exit code is 0, and nothing is doubled.

    What is not given back would come again after an hour.
    """
    async with start(collector_batch_rows="100", collector_ack_wait_seconds="3600") as collector:
        await collector.is_ready()
        async with blocked(database) as until_it_stands:
            await publish_all(client, "facebook", many(100))
            await until_it_stands()
            collector.report(signal.SIGTERM)
        assert await collector.end() == 0
    stored = await rows(connection)
    assert 0 < stored < 2_000
    await balanced(connection)
    async with start(collector_ack_wait_seconds="3600"):
        await drained(client, "facebook", seconds=60)
    assert await rows(connection) == 2_000
    await balanced(connection, client)


async def test_sigterm_while_storing_takes_too_long(
    database: Database, connection: Connection, client: Client, start: Start
) -> None:
    """A batch that is not stored in the time for it is left: the exit code is 0, and another collector stores it."""
    await publish_all(client, "facebook", many(10))
    async with blocked(database) as until_it_stands, start(collector_drain_seconds="0.5") as collector:
        await until_it_stands()
        assert await collector.terminate(seconds=10) == 0
    assert await rows(connection) == 0
    async with start():
        await drained(client, "facebook")
    assert await rows(connection) == 200
    await balanced(connection, client)


async def test_kill_in_the_middle_of_a_transaction(
    database: Database, connection: Connection, client: Client, start: Start
) -> None:
    """kill -9 before the commit leaves nothing; the messages come again and are stored."""
    await publish_all(client, "facebook", many(10))
    async with blocked(database) as until_it_stands, start(collector_ack_wait_seconds="1") as collector:
        await until_it_stands()
        await collector.kill()
    assert await rows(connection) == 0
    async with start(collector_ack_wait_seconds="1"):
        await drained(client, "facebook")
    assert await rows(connection) == 200
    await balanced(connection, client)


async def test_kill_between_commit_and_ack(
    database: Database, connection: Connection, fresh_nats: FreshNats, client: Client, start: Start
) -> None:
    """kill -9 after the commit and before the confirmation arrives: the messages come again and change nothing."""
    await publish_all(client, "facebook", many(10))
    async with proxy(fresh_nats.server.port) as wire:
        url = fresh_nats.url.replace(f":{fresh_nats.server.port}", f":{wire.port}")
        ours = {"nats_url": url, "collector_ack_wait_seconds": "1"}
        async with start(**ours) as collector:
            async with blocked(database) as until_it_stands:
                await until_it_stands()
                wire.hold(FROM_CLIENT)

            async def committed() -> bool:
                return await rows(connection) == 200

            await eventually(committed, what="the batch is committed")
            await collector.kill()
    assert (await stream_info(client, stream_of("facebook"))).state.messages == 10
    async with start(collector_ack_wait_seconds="1") as collector:
        await drained(client, "facebook")
        assert await collector.metric('collector_messages_redelivered_total{source="facebook"}') == 10
    assert await rows(connection) == 200
    assert await connection.fetchval("SELECT sum(repeated) FROM receipts") == 0
    await balanced(connection, client)


async def test_kill_at_any_instant(connection: Connection, client: Client, start: Start) -> None:
    """Two collectors under load of which one or the other is killed again and again: nothing is lost or doubled."""
    rng = Random(5)
    publishing = asyncio.create_task(_publish_slowly(client, batches=30))

    async def killed_again_and_again(times: int) -> None:
        for _ in range(times):
            async with start(collector_ack_wait_seconds="1", collector_batch_rows="200") as collector:
                await collector.logged("collector started")
                at = asyncio.get_running_loop().time() + rng.random()

                async def due(at: float = at) -> bool:
                    return asyncio.get_running_loop().time() > at

                await eventually(due, what="its time has come", every=0.005)
                await collector.kill()

    await asyncio.gather(killed_again_and_again(4), killed_again_and_again(4))
    await publishing
    async with start(collector_ack_wait_seconds="1"):
        await drained(client, "facebook")
    assert await rows(connection) == 30 * 10 * 20
    await balanced(connection, client)


async def _publish_slowly(client: Client, batches: int) -> None:
    for number in range(batches):
        await publish_all(client, "facebook", many(10, first=10 * number))
        await asyncio.sleep(0.2)  # a rate, not a wait


async def test_our_fault_is_reported(connection: Connection, client: Client, start: Start) -> None:
    """While only an operator can remove the cause, the collector stays, is not ready and says why; it ends with 0."""
    await connection.execute("REVOKE INSERT ON event_counts FROM sluice_collector")
    await publish(client, "facebook", message(facebook()))
    async with start() as collector:

        async def stopped() -> bool:
            return "permission denied" in (await collector.missing()).get("collecting", "")

        await eventually(stopped, what="/health/ready says why")
        assert await collector.metric('collector_stopped{source="facebook"}') == 1
        assert (await collector.get("/health/live"))[0] == 200
        assert (await stream_info(client, stream_of("facebook"))).state.messages == 1
        assert await collector.terminate() == 0
    assert collector.errors == ""
    assert await rows(connection) == 0
    await connection.execute("GRANT INSERT ON event_counts TO sluice_collector")
    async with start():
        await drained(client, "facebook")
    await balanced(connection, client)


@pytest.mark.parametrize(("task", "table"), [("watermark", "watermarks"), ("ledger", "receipt_totals")])
async def test_each_task_counts_for_readiness(connection: Connection, start: Start, task: str, table: str) -> None:
    """A task beside the flow fails and is named; when the cause is gone it runs again, and the collector is ready."""
    await connection.execute(f"REVOKE ALL ON {table} FROM sluice_collector")
    async with start() as collector:

        async def named() -> bool:
            return "permission denied" in (await collector.missing()).get(task, "")

        await eventually(named, what=f"readiness names {task}")
        await connection.execute(f"GRANT ALL ON {table} TO sluice_collector")
        await collector.is_ready()
        # Counting breakdowns reads watermarks, too: it fails for the same cause, before or after the task.
        assert task in {line["step"] for line in collector.log if line["event"] == "step failed"}
        assert await collector.terminate() == 0


async def test_too_much_poison_is_reported(connection: Connection, client: Client, start: Start) -> None:
    """/health/ready reports the database's complaint without the row's content, and nothing is confirmed."""
    await connection.execute("ALTER TABLE facebook_events ADD CONSTRAINT no_bergen CHECK (city <> 'Bergen')")
    await publish_all(client, "facebook", [message(*(facebook() for _ in range(11)))])
    async with start() as collector:

        async def reported() -> str:
            said = (await collector.missing()).get("collecting", "")
            return said if "cannot be stored" in said else ""

        said = await eventually(reported, what="/health/ready says why")
        assert re.search(r"more than 10 events of one batch cannot be stored: 23514: .*no_bergen", said)
        assert "Ada Example" not in said + str(collector.log)
        assert (await stream_info(client, stream_of("facebook"))).state.messages == 1
        assert await connection.fetchval("SELECT count(*) FROM dead_letters") == 0


async def test_a_taken_port_is_reported(start: Start) -> None:
    """A second collector on one port does not start half: it says which port and ends."""
    async with start() as first:
        port = (await first.logged("serving health and metrics"))["port"]
        async with start(collector_port=str(port)) as second:
            assert await second.end() == 2
    assert second.errors == f"sluice: cannot serve health and metrics on 127.0.0.1:{port}: Address already in use\n"
