"""What goes through the collector: messages with their rows, and what became of them."""

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


class Path(StrEnum):
    """How rows get into their leaf."""

    DIRECT = "direct"
    STAGED = "staged"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A dead letter: an accepted event that could not be stored."""

    published_at: datetime
    stream_sequence: int
    received_at: datetime | None
    position: int
    reason: DeadReason
    path: str
    detail: str
    correlation_id: str | None
    event: bytes


class Place(NamedTuple):
    """A row of a COPY: its day (counted from 2000-01-01), and its number among the day's rows, from 1 on."""

    day: int
    row: int


@dataclass(slots=True)
class Entry:
    """One message with its rows; `start` counts the message's events that stand before its first line."""

    message: Message
    parsed: Parsed
    start: int = 0


@dataclass(slots=True)
class Outcome:
    """What one transaction did. Its counts are events, but for `left_out`: messages whose receipt stood.

    path is how its rows were written, None where there was nothing to write; conflicts is how often that met a repeat.
    """

    events: int = 0
    stored: int = 0
    dead_letters: list[DeadLetter] = field(default_factory=list)
    left_out: int = 0
    path: Path | None = None
    conflicts: int = 0

    @property
    def repeated(self) -> int:
        return self.events - self.stored - len(self.dead_letters)


def dead_letter(message: Message, invalid: InvalidEvent) -> DeadLetter:
    """The dead letter of one invalid event, or of a message that cannot be read at all."""
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
    """The requests whose events these messages hold, each with its message; none of one that cannot be read."""
    for entry in entries:
        with contextlib.suppress(wire.UnknownWire):
            for part in wire.decode_header(entry.message.body)[0]:
                yield entry.message, part


def halve(entries: list[Entry], parse: Parser) -> list[list[Entry]]:
    """Two halves of a batch of more than one event: by messages, or one message by its events."""
    if len(entries) > 1:
        middle = len(entries) // 2
        return [entries[:middle], entries[middle:]]
    (entry,) = entries
    middle = entry.start + entry.parsed.events // 2
    return _cut(entry, parse, middle)


def around(entry: Entry, place: Place, parse: Parser) -> list[list[Entry]]:
    """A message of more than one event, cut before and behind the event that gave the row at this place; what is empty
    is left out."""
    day, row = place.day, place.row
    parts, lines = wire.decode(entry.message.body)
    first, stop = entry.start, entry.start + entry.parsed.events  # the event lies in here
    while stop - first > 1:
        middle = (first + stop) // 2
        rows = parse(wire.cut(parts, lines, first, middle), entry.message.sequence).days.get(day)
        before = rows.count if rows else 0
        if row <= before:
            stop = middle
        else:
            first, row = middle, row - before
    return _cut(entry, parse, first, first + 1)


def _cut(entry: Entry, parse: Parser, *places: int) -> list[list[Entry]]:
    """A message in parts that begin at these events; what is empty is left out."""
    parts, lines = wire.decode(entry.message.body)
    bounds = (entry.start, *places, entry.start + entry.parsed.events)
    return [
        [Entry(entry.message, parse(wire.cut(parts, lines, start, stop), entry.message.sequence), start)]
        for start, stop in pairwise(bounds)
        if start < stop
    ]
