"""The ledger: what came in, and where each event of it is. It rests on durable facts alone.

    stream   messages published = receipts + messages still in the stream
    store    each receipt's events = stored + repeated + dead (the database holds it as a constraint)
    rollups  events stored, by the receipts = events counted by the rollups; rows = rollups of the days not dropped
    dead letters  dead events, by the receipts = dead letters kept + replayed + discarded; so for what was rejected at
    the door lost     what is published and neither has a receipt nor waits: deleted by somebody, with its stream or
    out of it

Read while events flow, a message between commit and confirmation stands on both sides; at rest all must be equal.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final

from nats.aio.client import Client

from core.events.subjects import COLLECTED, REJECTED, stream_of
from core.jetstream import StreamInfo, stream_info
from core.postgres import Connection
from core.sources import SOURCES
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
    lost_before: int = 0
    """Messages of earlier lives of the stream that have no receipt, as far as collectors saw them: perhaps more."""
    accepted_loss: int = 0
    """Lost messages that an operator knows of (`ops streams accept-loss`)."""

    @property
    def lost(self) -> int:
        """Messages that are gone without a receipt, and that nobody has accepted."""
        return self.lost_before + max(0, self.published - self.messages - self.waiting) - self.accepted_loss


@dataclass(frozen=True)
class DeadLetterLedger:
    """Letters of one kind and stream: how many the receipts say there are, and what became of them."""

    counted: int
    kept: int
    replayed: int
    discarded: int


@dataclass(frozen=True)
class SourceLedger:
    """One source's rows: stored by all receipts, counted by the rollups, and standing in the partitions."""

    stored: int
    rolled_up: int
    rolled_up_from_floor: int
    rows: int


@dataclass(frozen=True)
class Ledger:
    """The ledger at one moment, by stream and by source. Letters are those of a stream, and "rejected" at the door."""

    streams: dict[str, StreamLedger]
    sources: dict[str, SourceLedger]
    dead_letters: dict[str, DeadLetterLedger] = field(default_factory=dict)

    def wrong(self) -> list[str]:
        """What does not balance, a sentence each; empty where all is well."""
        found = []
        for name, stream in self.streams.items():
            if stream.lost > 0:
                found.append(f"{name}: {stream.lost} messages are lost: published, and deleted before they were stored")
            if stream.published < stream.messages + stream.waiting:
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
        for name, dead_letters in self.dead_letters.items():
            if dead_letters.counted != dead_letters.kept + dead_letters.replayed + dead_letters.discarded:
                found.append(f"{name}: {dead_letters.counted} dead letters in receipts, but {dead_letters}")
        return found

    def events(self, what: str) -> int:
        """The sum of `events`, `stored`, `repeated` or `dead` over the streams of accepted events."""
        return sum(int(getattr(self.streams[stream_of(source)], what)) for source in SOURCES)


async def read_ledger(client: Client, connection: Connection) -> Ledger:
    """Read the ledger. Raises StreamMissing, or what the database raises."""
    streams = {}
    for collected in COLLECTED:
        name = stream_of(collected)
        info = await stream_info(client, name)
        streams[name] = await read_stream(connection, name, info)
    sources: dict[str, SourceLedger] = {}
    for source in SOURCES:
        sources[source] = SourceLedger(
            stored=await connection.fetchval(_SQL["stored_in_all"], stream_of(source)),
            rolled_up=await connection.fetchval(_SQL["rolled_up"], source),
            rolled_up_from_floor=await connection.fetchval(_SQL["rolled_up_from"], source),
            rows=await connection.fetchval(_SQL["rows"].format(table=SOURCES[source].table)),
        )
    return Ledger(streams, sources, await read_dead_letters(connection))


async def read_stream(connection: Connection, name: str, info: StreamInfo) -> StreamLedger:
    """One stream's ledger. What JetStream said was asked before: what is lost then is so whatever flows meanwhile."""
    receipts = await connection.fetchrow(_SQL["receipts"], name, info.created)
    lost = await connection.fetchrow(_SQL["lost"], name, info.created)
    assert receipts is not None
    assert lost is not None
    # The number of a stream's last message is how many it ever took.
    return StreamLedger(published=info.state.last_seq, waiting=info.state.messages, **dict(receipts), **dict(lost))


async def read_dead_letters(connection: Connection) -> dict[str, DeadLetterLedger]:
    """The dead letters of every stream, and those of the door as "rejected"."""
    found: dict[str, DeadLetterLedger] = {}
    for name in map(stream_of, COLLECTED):
        row = await connection.fetchrow(_SQL["dead_letters"], "dead", name)
        found[name] = DeadLetterLedger(await connection.fetchval(_SQL["dead_in_all"], name), **dict(row or {}))
    row = await connection.fetchrow(_SQL["dead_letters"], "rejected", stream_of(REJECTED))
    counted = await connection.fetchval(_SQL["stored_in_all"], stream_of(REJECTED))
    return {**found, REJECTED: DeadLetterLedger(counted, **dict(row or {}))}


async def accept_loss(connection: Connection, name: str, info: StreamInfo) -> int:
    """Take what a stream has lost as known, so that it is told no more; the messages."""
    lost = (await read_stream(connection, name, info)).lost
    if lost > 0:
        await connection.execute(_SQL["accept_loss"], name, info.created, info.state.last_seq, lost)
    return max(0, lost)


async def until_stored(client: Client, seconds: float) -> int:
    """Wait at most so long until no stream holds a message; the messages that then still wait.

    Raises StreamMissing.
    """
    deadline = time.monotonic() + seconds
    while True:
        infos = [await stream_info(client, stream_of(collected)) for collected in COLLECTED]
        waiting = sum(info.state.messages for info in infos)
        if not waiting or time.monotonic() > deadline:
            return waiting
        await asyncio.sleep(0.05)
