"""The fence: collectors use no database whose timeline is older than the newest one that any of them has used."""

from __future__ import annotations

from contextlib import suppress

import nats.js.errors
import pytest
from nats.aio.client import Client
from nats.js.api import KeyValueConfig

from collector.store.store import Store
from core import postgres
from core.fence import BUCKET, DatabaseBehind, Fence, key_of, read_timeline
from core.pg_errors import ErrorClass, classify
from core.postgres import Connection
from tests.support.collecting import connected, storing
from tests.support.events import facebook, message
from tests.support.stack import Database, FreshNats

CLUSTER = "SELECT system_identifier::text FROM pg_control_system()"


async def note(client: Client, cluster: str, timeline: int) -> None:
    """As a collector that has used a database of this timeline."""
    js = client.jetstream()
    with suppress(nats.js.errors.BadRequestError):
        await js.create_key_value(KeyValueConfig(bucket=BUCKET, history=1))
    await (await js.key_value(BUCKET)).put(key_of(cluster), b"%d" % timeline)


async def connect(database: Database, fence: Fence) -> Connection:
    """A connection of a collector's role."""
    return await postgres.connect(database.collector_dsn, name="tests", patience_seconds=0, accept=fence.accept)


async def test_the_first_timeline_is_noted_and_used(database: Database, connection: Connection, client: Client) -> None:
    """By the role of collectors, in a bucket that is made where it is missing."""
    for _ in range(2):  # the second one finds it noted
        await (await connect(database, Fence(client, 1))).close()
    bucket = await client.jetstream().key_value(BUCKET)
    assert await read_timeline(bucket, await connection.fetchval(CLUSTER)) == (1, 1)


async def test_an_older_timeline_is_not_used(database: Database, connection: Connection, client: Client) -> None:
    """The error names the server, says what to do, and passes by itself once another host takes its place."""
    await note(client, await connection.fetchval(CLUSTER), 2)
    with pytest.raises(DatabaseBehind, match="timeline is 1, and timeline 2 exists") as raised:
        await connect(database, Fence(client, 1))
    assert classify(raised.value) is ErrorClass.RETRY


async def test_a_connection_ends_when_a_newer_timeline_is_found(
    database: Database, connection: Connection, client: Client
) -> None:
    """Found over any other connection of the process. A store then writes nothing more there."""
    fence = Fence(client, 1)
    async with storing("facebook", database) as store:
        fenced = Store(database.collector_dsn, store.source, store.parse, fence)
        await fenced.save([store.entry(message(facebook()))])
        await note(client, await connection.fetchval(CLUSTER), 2)
        with pytest.raises(DatabaseBehind):
            await connect(database, fence)
        with pytest.raises(DatabaseBehind):
            await fenced.save([store.entry(message(facebook()))])
        await fenced.close()
    assert await connection.fetchval("SELECT count(*) FROM receipts") == 1


async def test_without_jetstream_no_database_is_used(database: Database, fresh_nats: FreshNats) -> None:
    """It is not known then whether it is the newest primary, and there is nothing to store."""
    async with connected(fresh_nats) as client:
        await client.close()
        with pytest.raises(DatabaseBehind, match="is not known"):
            await connect(database, Fence(client, 1))
