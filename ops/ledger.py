"""The ledger: where each accepted event is, computed from durable data only.

    stream        published messages = receipts + messages that wait in the stream
    store         events of a receipt = stored + repeated + dead (a constraint of the database)
    rollups       stored events by receipts = events that rollups count; rows = rollups of the days that are not dropped
    dead letters  dead events by receipts = dead letters kept + replayed + discarded; likewise for rejected events
    lost          published messages without a receipt that do not wait: deleted from the stream or with it

While events flow, a message between commit and acknowledgement is counted on both sides. At rest both sides are equal.
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
    """One stream: JetStream counts published and waiting messages, receipts count the rest."""

    published: int
    waiting: int
    messages: int
    events: int
    stored: int
    repeated: int
    dead: int
    lost_before: int = 0
    """Lower bound of the messages without a receipt of a deleted stream of this name."""
    accepted_loss: int = 0
    """Lost messages that an operator accepted (`sluice streams accept-loss`)."""

    @property
    def lost(self) -> int:
        """Deleted messages without a receipt that no operator accepted."""
        return self.lost_before + max(0, self.published - self.messages - self.waiting) - self.accepted_loss


@dataclass(frozen=True)
class DeadLetterLedger:
    """Dead letters of one kind and stream: counted by receipts, and by outcome."""

    counted: int
    kept: int
    replayed: int
    discarded: int


@dataclass(frozen=True)
class SourceLedger:
    """Rows of one source: stored by all receipts, counted by the rollups, and present in the partitions."""

    stored: int
    rolled_up: int
    rolled_up_from_floor: int
    rows: int


@dataclass(frozen=True)
class Ledger:
    """The ledger at one moment, by stream and by source. Dead letters are by stream, rejected events are `rejected`."""

    streams: dict[str, StreamLedger]
    sources: dict[str, SourceLedger]
    dead_letters: dict[str, DeadLetterLedger] = field(default_factory=dict)

    def problems(self) -> list[str]:
        """Return each imbalance as a sentence."""
        problems = []
        for name, stream in self.streams.items():
            if stream.lost > 0:
                problems.append(f"{name}: {stream.lost} messages are lost: they were deleted before they were stored")
            if stream.published < stream.messages + stream.waiting:
                problems.append(
                    f"{name}: {stream.published} messages published, but {stream.messages} receipts "
                    f"and {stream.waiting} waiting"
                )
            if stream.events != stream.stored + stream.repeated + stream.dead:
                problems.append(f"{name}: {stream.events} events in receipts, but {stream}")
        for name, source in self.sources.items():
            if source.stored != source.rolled_up:
                problems.append(f"{name}: {source.stored} events stored, but the rollups count {source.rolled_up}")
            if source.rows != source.rolled_up_from_floor:
                problems.append(f"{name}: {source.rows} rows, but the rollups count {source.rolled_up_from_floor}")
        for name, dead_letters in self.dead_letters.items():
            if dead_letters.counted != dead_letters.kept + dead_letters.replayed + dead_letters.discarded:
                problems.append(f"{name}: {dead_letters.counted} dead letters in receipts, but {dead_letters}")
        return problems

    def events(self, count: str) -> int:
        """Return the sum of `events`, `stored`, `repeated` or `dead` over the streams of accepted events."""
        return sum(int(getattr(self.streams[stream_of(source)], count)) for source in SOURCES)


async def read_ledger(client: Client, connection: Connection) -> Ledger:
    """Read the ledger. Raises StreamMissing, or errors of the database."""
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
    """Read the ledger of one stream. `info` must be older, so that flowing messages never count as lost."""
    receipts = await connection.fetchrow(_SQL["receipts"], name, info.created)
    lost = await connection.fetchrow(_SQL["lost"], name, info.created)
    assert receipts is not None
    assert lost is not None
    # The sequence of the last message is the number of messages that the stream ever accepted.
    return StreamLedger(published=info.state.last_seq, waiting=info.state.messages, **dict(receipts), **dict(lost))


async def read_dead_letters(connection: Connection) -> dict[str, DeadLetterLedger]:
    """Read the dead letters of every stream, and the rejected events as `rejected`."""
    ledgers: dict[str, DeadLetterLedger] = {}
    for name in map(stream_of, COLLECTED):
        row = await connection.fetchrow(_SQL["dead_letters"], "dead", name)
        ledgers[name] = DeadLetterLedger(await connection.fetchval(_SQL["dead_total"], name), **dict(row or {}))
    row = await connection.fetchrow(_SQL["dead_letters"], "rejected", stream_of(REJECTED))
    counted = await connection.fetchval(_SQL["stored_total"], stream_of(REJECTED))
    return {**ledgers, REJECTED: DeadLetterLedger(counted, **dict(row or {}))}


async def accept_loss(connection: Connection, name: str, info: StreamInfo) -> int:
    """Accept the lost messages of a stream, so that they are no longer reported; return how many."""
    lost = (await read_stream(connection, name, info)).lost
    if lost > 0:
        await connection.execute(_SQL["accept_loss"], name, info.created, info.state.last_seq, lost)
    return max(0, lost)


async def until_stored(client: Client, seconds: float) -> int:
    """Wait until no stream holds a message, at most `seconds`; return the number of waiting messages.

    Raises StreamMissing.
    """
    deadline = time.monotonic() + seconds
    while True:
        infos = [await stream_info(client, stream_of(collected)) for collected in COLLECTED]
        waiting = sum(info.state.messages for info in infos)
        if not waiting or time.monotonic() > deadline:
            return waiting
        await asyncio.sleep(0.05)
