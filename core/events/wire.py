"""A batch of events as one message, and back.

Version 1: the first line is a JSON object, then comes one event a line.

    {"v":1,"parts":[{"correlationId":"…","traceparent":null,"receivedAt":"2026-11-22T07:25:58.541000Z","events":2}]}
    {"eventId":"fb-…", …}
    {"eventId":"fb-…", …}

A part is what one request gave: the first `events` lines belong to the first part, and so on. An event's bytes
stand as they were received; only one that holds a line break is compacted first (`one_line`).
Messages of the stream REJECTED have the same form, with one rejected event (`core.events.rejected`) a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

VERSION: Final = 1
SEAL_BYTES: Final = 512 * 1024
"""Most bytes of events in a message, if they are several: the server takes 1 MiB, with the first line."""


class Part(msgspec.Struct, rename="camel", frozen=True):
    """What one request gave to a message. received_at is an RFC 3339 instant of our own clock."""

    correlation_id: str
    traceparent: str | None
    received_at: str
    events: int


class _Header(msgspec.Struct):
    v: int
    parts: list[Part]


class UnknownWire(ValueError):
    """The message is not of a version that this program reads, or its counts do not add up."""


_encode_header = msgspec.json.Encoder().encode
_decode_header = msgspec.json.Decoder(_Header).decode


def encode(parts: Sequence[Part], lines: Sequence[bytes]) -> bytes:
    """One message of these parts. `lines` are the events of all parts, in the order of the parts."""
    return b"\n".join((_encode_header(_Header(VERSION, list(parts))), *lines))


def decode(message: bytes) -> tuple[list[Part], list[bytes]]:
    """Parts and lines of a message. Raises UnknownWire."""
    first, *lines = message.split(b"\n")
    parts = _read_header(first)
    counted = sum(part.events for part in parts)
    if counted != len(lines) or any(part.events < 0 for part in parts):
        raise UnknownWire(f"{len(lines)} events where the parts count {counted}")
    return parts, lines


def decode_header(message: bytes) -> tuple[list[Part], int]:
    """Parts of a message, and where its first event begins. Raises UnknownWire.

    Whether there are as many lines as the parts count is left to whoever reads them.
    """
    end = message.find(b"\n")
    header = message if end < 0 else message[:end]
    parts = _read_header(header)
    if any(not 0 <= part.events <= len(message) for part in parts):
        raise UnknownWire("a part counts more events than the message can hold, or fewer than none")
    return parts, len(header) + 1


def _read_header(line: bytes) -> list[Part]:
    try:
        header = _decode_header(line)
    except (ValueError, RecursionError) as error:
        raise UnknownWire(f"no header in the first line: {error}") from error
    if header.v != VERSION:
        raise UnknownWire(f"version {header.v}; this program reads version {VERSION}")
    if any("\0" in part.correlation_id for part in header.parts):  # no row could hold it
        raise UnknownWire("a correlation ID with a NUL character")
    return header.parts


def cut(parts: Sequence[Part], lines: Sequence[bytes], start: int, stop: int) -> bytes:
    """A message of the events from `start` up to `stop` alone, each still under its own part."""
    kept: list[Part] = []
    first = 0
    for part in parts:
        events = min(stop, first + part.events) - max(start, first)
        if events > 0:
            kept.append(msgspec.structs.replace(part, events=events))
        first += part.events
    return encode(kept, lines[start:stop])


def part_of(parts: Sequence[Part], position: int) -> Part:
    """The part that the event at this position belongs to. Raises IndexError past the last event."""
    for part in parts:
        if position < part.events:
            return part
        position -= part.events
    raise IndexError("no part holds this event")


def one_line(event: bytes) -> bytes:
    """The event without line breaks: as it is, or compacted where it holds any."""
    if b"\n" in event or b"\r" in event:
        return msgspec.json.format(event, indent=-1)
    return event
