"""The ledger: accounts for every published message and event, from durable facts only.

    stream        messages published = receipts + messages still in the stream
    store         each receipt's events = stored + repeated + dead (a constraint of the database)
    rollups       events stored, by the receipts = events in the rollups; rows = events in the rollups above the floor
    dead letters  dead events, by the receipts = dead letters kept + replayed + discarded; the same for rejected events
    lost          messages published that have no receipt and are not in the stream: they, or the stream, were deleted

While events flow, a message between commit and acknowledgement is counted on both sides. At rest, all lines balance.
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
    """The ledger of one stream. published and waiting are messages, from JetStream; all others come from receipts."""

    published: int
    waiting: int
    messages: int
    events: int
    stored: int
    repeated: int
    dead: int
    lost_before: int = 0
    """Messages without a receipt in earlier lives of the stream, up to the last one that a collector recorded."""
    accepted_loss: int = 0
    """Lost messages that an operator has accepted (`sluice streams accept-loss`)."""

    @property
    def lost(self) -> int:
        """Messages deleted without a receipt, minus those that an operator has accepted."""
        return self.lost_before + max(0, self.published - self.messages - self.waiting) - self.accepted_loss


@dataclass(frozen=True)
class DeadLetterLedger:
    """Dead letters of one kind and stream: their count according to receipts, and their outcomes."""

    counted: int
    kept: int
    replayed: int
    discarded: int


@dataclass(frozen=True)
class SourceLedger:
    """Events of one source: stored according to receipts, in the rollups, and as rows of the partitions."""

    stored: int
    rolled_up: int
    rolled_up_from_floor: int
    rows: int


@dataclass(frozen=True)
class Ledger:
    """The ledger at one instant, by stream and by source. dead_letters are by stream; "rejected" are the gateway's."""

    streams: dict[str, StreamLedger]
    sources: dict[str, SourceLedger]
    dead_letters: dict[str, DeadLetterLedger] = field(default_factory=dict)

    def imbalances(self) -> list[str]:
        """Return one sentence for each line that does not balance."""
        found = []
        for name, stream in self.streams.items():
            if stream.lost > 0:
                found.append(f"{name}: {stream.lost} messages lost: deleted before they were stored")
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
        """Return the sum of `events`, `stored`, `repeated` or `dead` over the streams of accepted events."""
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
            stored=await connection.fetchval(_SQL["stored_total"], stream_of(source)),
            rolled_up=await connection.fetchval(_SQL["rolled_up"], source),
            rolled_up_from_floor=await connection.fetchval(_SQL["rolled_up_from"], source),
            rows=await connection.fetchval(_SQL["rows"].format(table=SOURCES[source].table)),
        )
    return Ledger(streams, sources, await read_dead_letters(connection))


async def read_stream(connection: Connection, name: str, info: StreamInfo) -> StreamLedger:
    """Return one stream's ledger. Read `info` before calling this: then a loss is certain, even while events flow."""
    receipts = await connection.fetchrow(_SQL["receipts"], name, info.created)
    lost = await connection.fetchrow(_SQL["lost"], name, info.created)
    assert receipts is not None
    assert lost is not None
    # The sequence of a stream's last message is the count of all its messages.
    return StreamLedger(published=info.state.last_seq, waiting=info.state.messages, **dict(receipts), **dict(lost))


async def read_dead_letters(connection: Connection) -> dict[str, DeadLetterLedger]:
    """Return the ledger of dead letters of every stream; the gateway's rejected events are under "rejected"."""
    ledgers: dict[str, DeadLetterLedger] = {}
    for name in map(stream_of, COLLECTED):
        row = await connection.fetchrow(_SQL["dead_letters"], "dead", name)
        ledgers[name] = DeadLetterLedger(await connection.fetchval(_SQL["dead_total"], name), **dict(row or {}))
    row = await connection.fetchrow(_SQL["dead_letters"], "rejected", stream_of(REJECTED))
    counted = await connection.fetchval(_SQL["stored_total"], stream_of(REJECTED))
    return {**ledgers, REJECTED: DeadLetterLedger(counted, **dict(row or {}))}


async def accept_loss(connection: Connection, name: str, info: StreamInfo) -> int:
    """Record a stream's lost messages as accepted, so that they are no longer reported. Return their count."""
    lost = (await read_stream(connection, name, info)).lost
    if lost > 0:
        await connection.execute(_SQL["accept_loss"], name, info.created, info.state.last_seq, lost)
    return max(0, lost)


async def until_stored(client: Client, seconds: float) -> int:
    """Wait at most `seconds` until all streams are empty. Return the messages still waiting. Raises StreamMissing."""
    deadline = time.monotonic() + seconds
    while True:
        infos = [await stream_info(client, stream_of(collected)) for collected in COLLECTED]
        waiting = sum(info.state.messages for info in infos)
        if not waiting or time.monotonic() > deadline:
            return waiting
        await asyncio.sleep(0.05)
