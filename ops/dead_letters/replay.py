"""Publish dead letters again, a page at a time: validate -> publish -> PubAck -> set the outcome.

    kept --breaks the contract--> kept, and counted by reason
       \\--PubAck--> replayed --collector--> stored, or repeated, or dead again as a new dead letter

Invariant: a dead letter becomes `replayed` only after the PubAck of the message that holds it. If the process dies
before, the dead letter is still kept, and the next run publishes it again: the merge stores each event once.
`core.events.contract` validates events, as in the gateway. A replay does not use the port of the gateway, which would
keep each rejected event as a new dead letter and may require a signature.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, NamedTuple

import msgspec
import nats.errors
import nats.js.errors
from nats.aio.client import Client

from core.errors import SluiceError, StreamFull
from core.events import rejected, wire
from core.events.contract import Contract, Invalid, Reason
from core.events.subjects import (
    EVENTS_HEADER,
    MESSAGE_ID_HEADER,
    REJECTED,
    REPLAYED_HEADER,
    events_subject,
    rejected_subject,
    stream_of,
)  # fmt: skip
from core.events.wire import SEAL_BYTES
from core.jetstream import NO_ROOM
from core.postgres import Connection
from core.sources import SOURCES
from core.sources.fields import instant
from ops.dead_letters.records import DeadLetter, DeadLetterFilter, DeadLetterId, close, pages

PAGE_DEAD_LETTERS: Final = 200  # of at most 256 KiB each
ATTEMPTS: Final = 3
ATTEMPT_TIMEOUT_SECONDS: Final = 5.0


class NotReplayable(Exception):
    """A dead letter that cannot be replayed, with a reason for counting."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Replayable(NamedTuple):
    """A dead letter that can be replayed: the source of its stream (or `rejected`), and its parts of a message."""

    id: DeadLetterId
    collected: str
    parts: list[wire.Part]
    lines: list[bytes]


class Pace:
    """Limits a rate per second."""

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._free_at = clock()

    def wait_seconds(self, count: int) -> float:
        """Return how long to wait before `count` more."""
        now = self._clock()
        wait = max(0.0, self._free_at - now)
        self._free_at = max(now, self._free_at) + count / self._per_second
        return wait


@dataclass
class Replay:
    """The result of a run. kept counts those that stay kept by reason; sent has the sequences of messages by source."""

    seen: int = 0
    replayed: int = 0
    kept: Counter[str] = field(default_factory=Counter)
    sent: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))


async def replay(
    client: Client | None,
    connection: Connection,
    selected: DeadLetterFilter,
    contract: Contract,
    *,
    pace: Pace,
    page_dead_letters: int,
    limit: int | None,
    stop: asyncio.Event,
    report: Callable[[Replay], None],
) -> Replay:
    """Replay the selected dead letters until all were read or `stop` is set. Without a client it is a dry run.

    Raises StreamFull, or SluiceError if JetStream does not confirm. A second run is safe.
    """
    run = Replay()
    async for page in pages(connection, selected, page_dead_letters, limit):
        replayable: list[Replayable] = []
        for dead_letter in page:
            try:
                replayable.append(validate(dead_letter, contract))
            except NotReplayable as why:
                run.kept[why.reason] += 1
        if client is not None and replayable:
            await asyncio.sleep(pace.wait_seconds(len(replayable)))
            for group in grouped(replayable):
                sequence = await _publish(client, group)
                await close(connection, [one.id for one in group], "replayed", sequence)
                run.sent[group[0].collected].append(sequence)
                run.replayed += len(group)
        elif replayable:
            run.replayed += len(replayable)
        run.seen += len(page)
        report(run)
        if stop.is_set():
            break
    return run


def validate(dead_letter: DeadLetter, contract: Contract) -> Replayable:
    """Return a dead letter in the form in which it is published. Raises NotReplayable.

    The age of an event is first checked at the time of its receipt. If it is invalid then, it is checked as received
    now, because the clock may have been wrong at that time.
    """
    if dead_letter.length > len(dead_letter.event):
        raise NotReplayable("kept_in_part")
    now = _rfc3339(datetime.now(UTC))
    try:
        parts, lines = wire.decode(dead_letter.event) if dead_letter.position == -1 else _single(dead_letter, now)
        return Replayable(
            dead_letter.id, _collected(dead_letter, contract, parts, lines), parts, list(map(wire.one_line, lines))
        )
    except ValueError:
        raise NotReplayable(Reason.MALFORMED.value) from None
    except Invalid as why:
        parts = [msgspec.structs.replace(part, received_at=now) for part in parts]
        try:
            return Replayable(
                dead_letter.id,
                _collected(dead_letter, contract, parts, lines),
                parts,
                list(map(wire.one_line, lines)),
            )
        except Invalid:
            raise NotReplayable(why.reason.value) from None


def _single(dead_letter: DeadLetter, now: str) -> tuple[list[wire.Part], list[bytes]]:
    received = _rfc3339(dead_letter.received_at) if dead_letter.received_at else now
    return [wire.Part(dead_letter.correlation_id or str(dead_letter.id), None, received, 1)], [dead_letter.event]


def _collected(dead_letter: DeadLetter, contract: Contract, parts: list[wire.Part], lines: list[bytes]) -> str:
    """Validate every line; return the source of the stream for them. Raises Invalid, or ValueError."""
    # The dead letter is the record of a rejected event, not an event.
    if dead_letter.id.kind == "dead" and dead_letter.source == REJECTED:
        for line in lines:
            rejected.decode(line)
        return REJECTED
    source = next((source for source in SOURCES if source == dead_letter.source), None)
    for position, line in enumerate(lines):
        received_at = instant(wire.part_of(parts, position).received_at)
        source = contract.read(line, received_at, source).source
    if source is None:
        raise ValueError("a message without an event")
    return source


def grouped(dead_letters: Iterable[Replayable]) -> Iterator[list[Replayable]]:
    """Group dead letters of one stream and kind into messages that are not too large."""
    open_: dict[tuple[str, str], list[Replayable]] = {}
    size: Counter[tuple[str, str]] = Counter()
    for one in dead_letters:
        key = one.collected, one.id.kind
        length = sum(map(len, one.lines))
        if key in open_ and size[key] + length > SEAL_BYTES:
            yield open_.pop(key)
            del size[key]
        open_.setdefault(key, []).append(one)
        size[key] += length
    yield from open_.values()


async def _publish(client: Client, group: list[Replayable]) -> int:
    """Publish dead letters as one message; return its sequence. Raises StreamFull or SluiceError."""
    collected = group[0].collected
    source = next((source for source in SOURCES if source == collected), None)
    subject = events_subject(source) if source else rejected_subject(None)
    parts = [part for one in group for part in one.parts]
    lines = [line for one in group for line in one.lines]
    # Collectors stop if too many events of a new message are not storable; the header exempts a replayed message.
    headers = {EVENTS_HEADER: str(len(lines)), REPLAYED_HEADER: "true", MESSAGE_ID_HEADER: secrets.token_hex(16)}
    for _ in range(ATTEMPTS):  # the same id and bytes: JetStream drops a second copy
        try:
            ack = await client.jetstream().publish(
                subject, wire.encode(parts, lines), timeout=ATTEMPT_TIMEOUT_SECONDS, headers=headers
            )
        except nats.js.errors.APIError as error:
            if error.err_code in NO_ROOM:
                raise StreamFull(
                    f"{stream_of(collected)} is full: wait for the collectors, then run the command again"
                ) from error
            raise
        except (TimeoutError, nats.errors.TimeoutError, nats.js.errors.NoStreamResponseError):
            continue
        return int(ack.seq)
    raise SluiceError(
        f"JetStream did not confirm a message of {stream_of(collected)}: run the command again, it is safe"
    )


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"
