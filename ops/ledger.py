"""The ledger: what came in, and where each event of it is. It rests on durable facts alone.

    stream   messages published = receipts + messages still in the stream
    store    each receipt's events = stored + repeated + dead (the database holds it as a constraint)
    rollups  events stored, by the receipts = events counted by the rollups; rows = rollups of the days not dropped

Read while events flow, a message between commit and confirmation stands on both sides; at rest all must be equal.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any, Final

import asyncpg
from nats.aio.client import Client

from core.events.subjects import REFUSED, SOURCES, stream_of
from core.jetstream import stream_info
from sql import statements

_SQL: Final = statements("ledger")


@dataclass(frozen=True)
class StreamLedger:
    """One stream: messages published and waiting are JetStream's word, the rest stands in its receipts."""

    published: int
    waiting: int
    messages: int
    events: int
    stored: int
    repeated: int
    dead: int


@dataclass(frozen=True)
class SourceLedger:
    """One source's rows: stored by all receipts, counted by the rollups, and standing in the partitions."""

    stored: int
    rolled_up: int
    rolled_up_from_floor: int
    rows: int


@dataclass(frozen=True)
class Ledger:
    """The ledger at one moment, by stream and by source."""

    streams: dict[str, StreamLedger]
    sources: dict[str, SourceLedger]

    def wrong(self) -> list[str]:
        """What does not balance, a sentence each; empty where all is well."""
        found = []
        for name, stream in self.streams.items():
            if stream.published != stream.messages + stream.waiting:
                found.append(
                    f"{name}: {stream.published} messages published, but {stream.messages} receipts "
                    f"and {stream.waiting} waiting"
                )
            if stream.events != stream.stored + stream.repeated + stream.dead:
                found.append(f"{name}: {stream.events} events in receipts, but {stream}")
        for name, source in self.sources.items():
            if source.stored != source.rolled_up:
                found.append(f"{name}: {source.stored} events stored, but the rollups count {source.rolled_up}")
            if source.rows != source.rolled_up_from_floor:
                found.append(f"{name}: {source.rows} rows, but the rollups count {source.rolled_up_from_floor}")
        return found

    def events(self, what: str) -> int:
        """The sum of `events`, `stored`, `repeated` or `dead` over the streams of accepted events."""
        return sum(int(getattr(self.streams[stream_of(source)], what)) for source in SOURCES)


async def read_ledger(client: Client, connection: asyncpg.Connection[Any]) -> Ledger:
    """Read the ledger. Raises StreamMissing, or what the database raises."""
    streams = {}
    for collected in (*SOURCES, REFUSED):
        name = stream_of(collected)
        info = await stream_info(client, name)
        row = await connection.fetchrow(_SQL["receipts"], name, info.created)
        assert row is not None
        # The number of a stream's last message is how many it ever took.
        streams[name] = StreamLedger(published=info.state.last_seq, waiting=info.state.messages, **dict(row))
    sources: dict[str, SourceLedger] = {}
    for source in SOURCES:
        sources[source] = SourceLedger(
            stored=await connection.fetchval(_SQL["stored_in_all"], stream_of(source)),
            rolled_up=await connection.fetchval(_SQL["rolled_up"], source),
            rolled_up_from_floor=await connection.fetchval(_SQL["rolled_up_from"], source),
            rows=await connection.fetchval(_SQL[f"rows_{source}"]),
        )
    return Ledger(streams, sources)


async def until_stored(client: Client, seconds: float) -> int:
    """Wait at most so long until no stream holds a message; the messages that then still wait.

    Raises StreamMissing.
    """
    deadline = time.monotonic() + seconds
    while True:
        infos = [await stream_info(client, stream_of(collected)) for collected in (*SOURCES, REFUSED)]
        waiting = sum(info.state.messages for info in infos)
        if not waiting or time.monotonic() > deadline:
            return waiting
        await asyncio.sleep(0.05)
