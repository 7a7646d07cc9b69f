"""The wire format: encode a batch of events as one message, and decode it.

Version 1: the first line is a JSON object, followed by one event a line.

    {"v":1,"parts":[{"correlationId":"…","traceparent":null,"receivedAt":"2026-11-22T07:25:58.541000Z","events":2}]}
    {"eventId":"fb-…", …}
    {"eventId":"fb-…", …}

A part describes the events of one request: the first `events` lines belong to the first part, and so on. The bytes of
an event are unchanged, but an event with line breaks is compacted (`one_line`). Messages of the stream REJECTED have
the same format, with one rejected event (`core.events.rejected`) a line.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

VERSION: Final = 1
SEAL_BYTES: Final = 512 * 1024
"""Maximum bytes of several events in one message. NATS accepts 1 MiB, including the first line."""


class Part(msgspec.Struct, rename="camel", frozen=True):
    """The events of one request in a message. received_at is an RFC 3339 instant of the gateway's clock."""

    correlation_id: str
    traceparent: str | None
    received_at: str
    events: int


class _Header(msgspec.Struct):
    v: int
    parts: list[Part]


class InvalidMessage(ValueError):
    """The message has an unknown version, or its counts are wrong."""


_encode_header = msgspec.json.Encoder().encode
_decode_header = msgspec.json.Decoder(_Header).decode


def encode(parts: Sequence[Part], lines: Sequence[bytes]) -> bytes:
    """Encode one message. `lines` are the events of all parts, in the order of the parts."""
    return b"\n".join((_encode_header(_Header(VERSION, list(parts))), *lines))


def decode(message: bytes) -> tuple[list[Part], list[bytes]]:
    """Decode a message to its parts and lines. Raises InvalidMessage."""
    first, *lines = message.split(b"\n")
    parts = _read_header(first)
    counted = sum(part.events for part in parts)
    if counted != len(lines) or any(part.events < 0 for part in parts):
        raise InvalidMessage(f"the message has {len(lines)} events and its parts count {counted}")
    return parts, lines


def decode_header(message: bytes) -> tuple[list[Part], int]:
    """Return the parts of a message, and where its first event begins. Raises InvalidMessage.

    The caller checks that there are as many lines as the parts count.
    """
    end = message.find(b"\n")
    header = message if end < 0 else message[:end]
    parts = _read_header(header)
    if any(not 0 <= part.events <= len(message) for part in parts):
        raise InvalidMessage("a part counts more events than the message can contain, or fewer than 0")
    return parts, len(header) + 1


def _read_header(line: bytes) -> list[Part]:
    try:
        header = _decode_header(line)
    except (ValueError, RecursionError) as error:
        raise InvalidMessage(f"the first line is not a header: {error}") from error
    if header.v != VERSION:
        raise InvalidMessage(f"version {header.v}; this program reads version {VERSION}")
    if any("\0" in part.correlation_id for part in header.parts):  # the database cannot store it
        raise InvalidMessage("a correlation ID with a NUL character")
    return header.parts


def cut(parts: Sequence[Part], lines: Sequence[bytes], start: int, stop: int) -> bytes:
    """Return a message of the events from `start` up to `stop`, with their parts."""
    kept: list[Part] = []
    first = 0
    for part in parts:
        events = min(stop, first + part.events) - max(start, first)
        if events > 0:
            kept.append(msgspec.structs.replace(part, events=events))
        first += part.events
    return encode(kept, lines[start:stop])


def part_of(parts: Sequence[Part], position: int) -> Part:
    """Return the part of the event at this position. Raises IndexError after the last event."""
    for part in parts:
        if position < part.events:
            return part
        position -= part.events
    raise IndexError("no part contains this event")


def one_line(event: bytes) -> bytes:
    """Return the event without line breaks: unchanged, or compacted if it has any."""
    if b"\n" in event or b"\r" in event:
        return msgspec.json.format(event, indent=-1)
    return event
