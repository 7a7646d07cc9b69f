"""Collectors for tests: the store alone, the whole flow in this process, and the judge of what they left behind.

store = storing("facebook", database)          a Store with its parser: `await store.save(message(...))`
async with collecting(database, nats) as ...   fetch -> parse -> store -> ack against real servers
await balanced(connection, client)             rollups equal the rows, and the ledger closes
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig

from collector.collect import Collector
from collector.fetch import Fetcher
from collector.message import Message
from collector.parse.parsed import Parser
from collector.parse.python import python_parser
from collector.sources import SOURCES
from collector.sources.source import Source
from collector.store.batch import Entry, Outcome, WritePath
from collector.store.store import Store
from collector.store.write import DirectCopyBackoff
from core import jetstream, postgres
from core.events.contract import Contract
from core.events.subjects import EVENTS_HEADER, REJECTED, stream_of
from core.health import Readiness
from core.jetstream import stream_info
from core.postgres import Connection
from core.settings import Settings
from ops.ledger import read_ledger
from tests.support.rollups import rollup_differences
from tests.support.stack import Database, FreshNats
from tests.support.waiting import SAFETY_SECONDS, eventually, in_time

CONTRACT = Contract(max_age_days=7, max_ahead_seconds=3600)
ANY_TIME = Contract(max_age_days=40_000, max_ahead_seconds=4_000_000_000)

_sequences = itertools.count(1)


@dataclass
class Storing:
    """A source's store with its parser; each message gets the next sequence number of the run unless reported."""

    source: Source
    parse: Parser
    store: Store

    def entry(self, body: bytes, sequence: int | None = None, published_at: datetime | None = None) -> Entry:
        """A message as it comes from the stream, parsed."""
        if sequence is None:
            sequence = next(_sequences)
        parsed = self.parse(body, sequence)
        published = published_at or datetime(2026, 1, 1, tzinfo=UTC)
        return Entry(Message(body, sequence, published, parsed.events, True, "reply"), parsed)

    async def save(self, *bodies: bytes) -> Outcome:
        """Store these messages in one batch."""
        return await self.store.save([self.entry(body) for body in bodies])


@pytest.fixture(params=list(WritePath))
def each_path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> WritePath:
    """Each test once with the path that batches usually take, and once with all of them staged."""
    if request.param is WritePath.STAGED:
        monkeypatch.setattr(DirectCopyBackoff, "next_path", lambda _: WritePath.STAGED)
    return WritePath(request.param)


@asynccontextmanager
async def storing(name: str, database: Database, contract: Contract = CONTRACT) -> AsyncIterator[Storing]:
    """A store of this source on this database, closed at the end."""
    source = SOURCES[name]
    parse = python_parser(source, contract)
    store = Store(database.collector_dsn, source, parse)
    try:
        yield Storing(source, parse, store)
    finally:
        await store.close()


@dataclass
class Collecting:
    """One collector that runs in this process."""

    fetcher: Fetcher
    flow: Collector
    readiness: Readiness
    store: Store
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    running: asyncio.Task[None] | None = None

    async def end(self) -> None:
        """Stop as the program does: the batch at hand is finished, the rest given back. Raises what the flow did."""
        self.stop.set()
        try:
            if self.running is not None:
                await in_time(self.running)
        finally:
            await self.fetcher.stop()
            await self.store.close()


@asynccontextmanager
async def collecting(
    database: Database,
    client: Client,
    name: str = "facebook",
    *,
    contract: Contract = CONTRACT,
    ack_wait_seconds: float = 10.0,
    batch_rows: int = 20_000,
    stopped_pause_seconds: float = 0.1,
) -> AsyncIterator[Collecting]:
    """A running collector; `client` has the streams. Ended at the end, and what its flow raised is raised here."""
    source = SOURCES[name]
    parse = python_parser(source, contract)
    store = Store(database.collector_dsn, source, parse)
    fetcher = Fetcher(client, source.stream, name, ack_wait_seconds=ack_wait_seconds, batch_rows=batch_rows)
    readiness = Readiness()
    flow = Collector(
        name, fetcher, parse, store, readiness,
        batch_rows=batch_rows, linger_seconds=0.02, stopped_pause_seconds=stopped_pause_seconds,
    )  # fmt: skip
    collector = Collecting(fetcher, flow, readiness, store)
    await fetcher.start()
    collector.running = asyncio.create_task(flow.run(collector.stop))
    try:
        yield collector
    finally:
        await collector.end()


@asynccontextmanager
async def connected(nats: FreshNats) -> AsyncIterator[Client]:
    """A client of this server, with all streams made."""
    client = await jetstream.connect(nats.url, name="tests")
    try:
        await jetstream.ensure_streams_when_up(client, Settings())
        yield client
    finally:
        await client.close()


async def waiting(client: Client, source: str = "facebook") -> int:
    """How many messages a source's stream holds."""
    return (await stream_info(client, stream_of(source))).state.messages


def fetcher_of(client: Client, *, ack_wait_seconds: float = 10.0) -> Fetcher:
    """What fetches facebook's messages, of a flow or alone."""
    return Fetcher(client, "EVENTS_FACEBOOK", "facebook", ack_wait_seconds=ack_wait_seconds, batch_rows=20_000)


async def publish(client: Client, name: str, body: bytes, events: int | None = None) -> int:
    """Publish one message as the gateway does; its sequence number in the stream."""
    subject = f"{REJECTED}.unknown" if name == REJECTED else f"events.{name}"
    count = body.count(b"\n") if events is None else events
    ack = await client.jetstream().publish(subject, body, headers={EVENTS_HEADER: str(count)}, timeout=10)
    return ack.seq


async def publish_all(client: Client, name: str, bodies: Sequence[bytes]) -> None:
    """Publish many messages side by side."""
    await asyncio.gather(*(publish(client, name, body) for body in bodies))


async def drained(client: Client, name: str, seconds: float = 20.0) -> None:
    """Wait until the stream holds no message: all are stored and confirmed."""

    async def empty() -> bool:
        return (await stream_info(client, stream_of(name))).state.messages == 0

    await eventually(empty, what=f"the stream of {name} is empty", seconds=seconds)


async def ack_waits(client: Client, seconds: float, times: int) -> None:
    """Return when an acknowledgement wait of so many seconds has ended so often, as this JetStream measures it.

    A message of a stream of its own is not confirmed, so each time it is delivered again.
    """
    js = client.jetstream()
    await js.add_stream(name="UNCONFIRMED", subjects=["unconfirmed"])
    await js.publish("unconfirmed", b"")
    config = ConsumerConfig(ack_policy=AckPolicy.EXPLICIT, ack_wait=seconds)
    subscription = await js.pull_subscribe("unconfirmed", "unconfirmed", stream="UNCONFIRMED", config=config)
    for delivery in range(1, 2 + times):
        (message,) = await subscription.fetch(1, timeout=SAFETY_SECONDS)
        assert message.metadata.num_delivered == delivery
    await js.delete_stream("UNCONFIRMED")


@asynccontextmanager
async def blocked(database: Database) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """While open, no collector gets past its first statement; call what it gives to wait until one stands there."""
    holder = await postgres.connect(database.owner_dsn, name="tests-blocking")

    async def stands() -> bool:
        await holder.execute("SELECT pg_stat_clear_snapshot()")  # or it stays as it was when the transaction began
        return bool(
            await holder.fetchval(
                "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted"
                " AND datname = current_database() AND application_name LIKE 'sluice-collector-%'"
            )
        )

    try:
        await holder.execute("BEGIN; LOCK TABLE receipts IN EXCLUSIVE MODE")
        yield lambda: eventually(stands, what="a collector stands before the lock")  # type: ignore[arg-type]
    finally:
        await holder.close()


async def balanced(connection: Connection, client: Client | None = None) -> None:
    """Fail unless rollups equal the rows, and (with the streams) everything published has its receipt."""
    assert await rollup_differences(connection) == []
    if client is not None:
        assert (await read_ledger(client, connection)).problems() == []
