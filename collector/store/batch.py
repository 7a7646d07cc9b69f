"""Batches of messages with their rows, the outcome of storing them, and their dead letters."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from collector.message import Message
from collector.parse.parsed import InvalidEvent, Parsed, Parser
from core.events import wire
from core.events.dead_reasons import DeadReason
from core.sources.fields import instant, moment_of


class WritePath(StrEnum):
    """How rows are written into their leaf partition: by COPY, or staged and merged."""

    DIRECT = "direct"
    STAGED = "staged"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An accepted event that could not be stored, with its message and the reason."""

    published_at: datetime
    stream_sequence: int
    received_at: datetime | None
    position: int
    reason: DeadReason
    path: str
    detail: str
    correlation_id: str | None
    event: bytes


class RowPosition(NamedTuple):
    """A row of a COPY: its day (days since 2000-01-01), and its number among that day's rows, from 1."""

    day: int
    row: int


@dataclass(slots=True)
class Entry:
    """One message, or a part of it, with its rows. start is the position of its first event in the message."""

    message: Message
    parsed: Parsed
    start: int = 0


@dataclass(slots=True)
class Outcome:
    """What one transaction did.

    events, stored      of the messages that were new
    skipped_messages    whose receipt existed already
    path                how the rows were written; None if all messages were skipped
    conflicts           direct writes that were rolled back
    """

    events: int = 0
    stored: int = 0
    dead_letters: list[DeadLetter] = field(default_factory=list)
    skipped_messages: int = 0
    path: WritePath | None = None
    conflicts: int = 0

    @property
    def repeated(self) -> int:
        """Events that were stored before."""
        return self.events - self.stored - len(self.dead_letters)


def dead_letter(message: Message, invalid: InvalidEvent) -> DeadLetter:
    """Return the dead letter of one invalid event, or of a message that cannot be decoded."""
    part: wire.Part | None = None
    event = message.body
    if invalid.position >= 0:
        parts, lines = wire.decode(message.body)
        part, event = wire.part_of(parts, invalid.position), lines[invalid.position]
    return DeadLetter(
        published_at=message.published_at,
        stream_sequence=message.sequence,
        received_at=moment_of(instant(part.received_at)) if part else None,
        position=invalid.position,
        reason=invalid.reason,
        path=invalid.path,
        detail=invalid.detail,
        correlation_id=part.correlation_id if part else None,
        event=event,
    )


def parts_of(entries: Iterable[Entry]) -> Iterator[tuple[Message, wire.Part]]:
    """Yield each message with each of its parts. A message that cannot be decoded has none."""
    for entry in entries:
        with contextlib.suppress(wire.InvalidMessage):
            for part in wire.decode_header(entry.message.body)[0]:
                yield entry.message, part


def halve(entries: list[Entry], parse: Parser) -> list[list[Entry]]:
    """Split a batch of more than one event into halves: by messages, or one message by its events."""
    if len(entries) > 1:
        middle = len(entries) // 2
        return [entries[:middle], entries[middle:]]
    (entry,) = entries
    middle = entry.start + entry.parsed.events // 2
    return _split_at(entry, parse, middle)


def cut_around(entry: Entry, position: RowPosition, parse: Parser) -> list[list[Entry]]:
    """Split a message of more than one event before and after the event of the row at `position`. Omits empty parts."""
    day, row = position.day, position.row
    parts, lines = wire.decode(entry.message.body)
    first, stop = entry.start, entry.start + entry.parsed.events  # the event is in this range
    while stop - first > 1:
        middle = (first + stop) // 2
        rows = parse(wire.cut(parts, lines, first, middle), entry.message.sequence).days.get(day)
        before = rows.count if rows else 0
        if row <= before:
            stop = middle
        else:
            first, row = middle, row - before
    return _split_at(entry, parse, first, first + 1)


def _split_at(entry: Entry, parse: Parser, *events: int) -> list[list[Entry]]:
    """Split a message into parts that begin at these events. Omits empty parts."""
    parts, lines = wire.decode(entry.message.body)
    bounds = (entry.start, *events, entry.start + entry.parsed.events)
    return [
        [Entry(entry.message, parse(wire.cut(parts, lines, start, stop), entry.message.sequence), start)]
        for start, stop in pairwise(bounds)
        if start < stop
    ]
