"""Send dead letters out again: page -> contract -> message -> PubAck -> closed, a page at a time.

    kept --breaks the contract--> kept, and told why
       \\--PubAck--> replayed --collector--> stored, or repeated, or dead again as a new dead letter

Invariant: a dead letter is closed only after the PubAck of the message that holds it. Killed in between, it is still
kept and goes out again with the next run: the merge stores each event once. Validation is the gateway's own
(`core.events.contract`). It does not go through the gateway's port, which would keep what it rejects as a new dead
letter each time and may ask for a signature.
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
ATTEMPT_SECONDS: Final = 5.0


class Unfit(Exception):
    """This dead letter cannot go out. The reason is a word for counting."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Replayable(NamedTuple):
    """A dead letter that may go out: whose stream takes it (a source's, or `rejected`), and its part of a message."""

    name: DeadLetterId
    collected: str
    parts: list[wire.Part]
    lines: list[bytes]


class Pace:
    """At most so many a second: tells how long to wait before the next may go."""

    def __init__(self, per_second: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._clock = clock
        self._free_at = clock()

    def wait_seconds(self, count: int) -> float:
        """How long to wait before `count` more may go."""
        now = self._clock()
        wait = max(0.0, self._free_at - now)
        self._free_at = max(now, self._free_at) + count / self._per_second
        return wait


@dataclass
class Replay:
    """What a run did. unfit counts those that stay kept, by reason; sent holds messages' numbers by whose stream."""

    seen: int = 0
    replayed: int = 0
    unfit: Counter[str] = field(default_factory=Counter)
    sent: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))


async def replay(
    client: Client | None,
    connection: Connection,
    which: DeadLetterFilter,
    contract: Contract,
    *,
    pace: Pace,
    page_dead_letters: int,
    most: int | None,
    stop: asyncio.Event,
    told: Callable[[Replay], None],
) -> Replay:
    """Send these dead letters out again until all were looked at or a stop. Without a client only look: a dry run.

    Raises StreamFull, or SluiceError where JetStream does not confirm: run it again, nothing is lost by it.
    """
    run = Replay()
    async for page in pages(connection, which, page_dead_letters, most):
        fits: list[Replayable] = []
        for dead_letter in page:
            try:
                fits.append(fit(dead_letter, contract))
            except Unfit as why:
                run.unfit[why.reason] += 1
        if client is not None and fits:
            await asyncio.sleep(pace.wait_seconds(len(fits)))
            for group in sealed(fits):
                sequence = await _publish(client, group)
                await close(connection, [one.name for one in group], "replayed", sequence)
                run.sent[group[0].collected].append(sequence)
                run.replayed += len(group)
        elif fits:
            run.replayed += len(fits)
        run.seen += len(page)
        told(run)
        if stop.is_set():
            break
    return run


def fit(dead_letter: DeadLetter, contract: Contract) -> Replayable:
    """A dead letter as it may go out. Raises Unfit.

    An event counts as old as it was when it was received first; failing that, as received now: where it was rejected
    for its time, it may have been the clock that was wrong.
    """
    if dead_letter.length > len(dead_letter.event):
        raise Unfit("kept_in_part")
    now = _rfc3339(datetime.now(UTC))
    try:
        parts, lines = wire.decode(dead_letter.event) if dead_letter.position == -1 else _single(dead_letter, now)
        return Replayable(
            dead_letter.name, _collected(dead_letter, contract, parts, lines), parts, list(map(wire.one_line, lines))
        )
    except ValueError:
        raise Unfit(Reason.MALFORMED.value) from None
    except Invalid as why:
        parts = [msgspec.structs.replace(part, received_at=now) for part in parts]
        try:
            return Replayable(
                dead_letter.name,
                _collected(dead_letter, contract, parts, lines),
                parts,
                list(map(wire.one_line, lines)),
            )
        except Invalid:
            raise Unfit(why.reason.value) from None


def _single(dead_letter: DeadLetter, now: str) -> tuple[list[wire.Part], list[bytes]]:
    received = _rfc3339(dead_letter.received_at) if dead_letter.received_at else now
    return [wire.Part(dead_letter.correlation_id or str(dead_letter.name), None, received, 1)], [dead_letter.event]


def _collected(dead_letter: DeadLetter, contract: Contract, parts: list[wire.Part], lines: list[bytes]) -> str:
    """Hold every line to the contract; whose stream takes them. Raises Invalid, or ValueError."""
    if (
        dead_letter.name.kind == "dead" and dead_letter.source == REJECTED
    ):  # the record of a rejected event, not an event
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


def sealed(fits: Iterable[Replayable]) -> Iterator[list[Replayable]]:
    """Letters that share a message: of one stream and kind, and as many as one message holds."""
    open_: dict[tuple[str, str], list[Replayable]] = {}
    size: Counter[tuple[str, str]] = Counter()
    for one in fits:
        key = one.collected, one.name.kind
        length = sum(map(len, one.lines))
        if key in open_ and size[key] + length > SEAL_BYTES:
            yield open_.pop(key)
            del size[key]
        open_.setdefault(key, []).append(one)
        size[key] += length
    yield from open_.values()


async def _publish(client: Client, group: list[Replayable]) -> int:
    """Publish dead letters as one message; its number in the stream. Raises StreamFull or SluiceError."""
    collected = group[0].collected
    source = next((source for source in SOURCES if source == collected), None)
    subject = events_subject(source) if source else rejected_subject(None)
    parts = [part for one in group for part in one.parts]
    lines = [line for one in group for line in one.lines]
    # A message may hold more dead letters than may be dead of a batch of fresh events: collectors are told what they
    # are.
    headers = {EVENTS_HEADER: str(len(lines)), REPLAYED_HEADER: "true", MESSAGE_ID_HEADER: secrets.token_hex(16)}
    for _ in range(ATTEMPTS):  # the same id and bytes: a second copy is dropped by JetStream
        try:
            ack = await client.jetstream().publish(
                subject, wire.encode(parts, lines), timeout=ATTEMPT_SECONDS, headers=headers
            )
        except nats.js.errors.APIError as error:
            if error.err_code in NO_ROOM:
                raise StreamFull(
                    f"{stream_of(collected)} has no room: wait for the collectors, then run it again"
                ) from error
            raise
        except (TimeoutError, nats.errors.TimeoutError, nats.js.errors.NoStreamResponseError):
            continue
        return int(ack.seq)
    raise SluiceError(f"{stream_of(collected)} did not confirm: run it again, what is closed stays closed")


def _rfc3339(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds")[:-6] + "Z"
