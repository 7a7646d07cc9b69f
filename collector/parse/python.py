"""The Python parser: from a message's bytes to rows in PostgreSQL's binary COPY format.

    message --wire--> lines --contract--> events --columns--> rows of each day, and their counts
                                \\--breaks the contract--> invalid events

This is the readable reference for every source. The native parser (`collector.parse.native`) returns the same bytes.
Measured on the 1,000 events of the contract's sample: 7 µs per event, 2.2 µs of it in the contract.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from operator import attrgetter
from typing import Any

from collector.parse.parsed import InvalidEvent, Parsed, Parser, Rows
from collector.parse.rollup import QUARTER_MICROSECONDS, QUARTERS_IN_DAY, Counts, Rollup, Seen, no_counts
from collector.parse.row import attributes_of, row_encoder, row_suffix
from collector.sources.source import Source
from core.events import wire
from core.events.contract import Contract, Invalid, Reason
from core.sources.fields import instant

RowReader = Callable[[bytes, int, bytes, Seen], tuple[int, bytes]]


def python_parser(source: Source, contract: Contract) -> Parser:
    """Return the parser of one source: parse(message, stream_sequence) -> Parsed. It never raises, for any input."""
    row, count_rows = row_reader(source, contract)

    def parse(message: bytes, sequence: int) -> Parsed:
        try:
            parts, lines = wire.decode(message)
            received = [instant(part.received_at) for part in parts]
        except ValueError as error:
            return Parsed(1, {}, [InvalidEvent(-1, Reason.MALFORMED, "$", str(error))], no_counts())
        seen: Seen = defaultdict(list)
        days: defaultdict[int, list[bytes]] = defaultdict(list)
        invalid: list[InvalidEvent] = []
        first = 0
        for part, received_at in zip(parts, received, strict=True):
            end = row_suffix(part, sequence)
            for position, line in enumerate(lines[first : first + part.events], first):
                try:
                    day, copy = row(line, received_at, end, seen)
                except Invalid as error:
                    invalid.append(invalid_event(position, error))
                else:
                    days[day].append(copy)
            first += part.events
        rows = {day: Rows(len(copies), b"".join(copies)) for day, copies in days.items()}
        return Parsed(len(lines), rows, invalid, count_rows(seen))

    return parse


def row_reader(source: Source, contract: Contract) -> tuple[RowReader, Callable[[Seen], Counts]]:
    """Return a function that parses a line, and one that counts the rows parsed.

    The first returns the line's day and its row, with `end` as the row's last columns. It raises Invalid.
    """
    read = source.reader(contract)
    rollup = Rollup(source.audience, source.shapes) if source.audience else None
    encoders: dict[type[Any], tuple[Any, ...]] = {}
    for shape in source.shapes:
        attributes = attributes_of(shape, source.columns.values())
        pick = rollup.picker(shape, attributes) if rollup else None
        encoders[shape] = attrgetter(*attributes), row_encoder(shape, source), pick

    def plain_row(line: bytes, received_at: int, end: bytes, _seen: Seen) -> tuple[int, bytes]:
        event = read(line, received_at)
        values, encode, _ = encoders[type(event)]
        return 0, encode(values(event), end)

    def row(line: bytes, received_at: int, end: bytes, seen: Seen) -> tuple[int, bytes]:
        event = read(line, received_at)
        shape = type(event)
        values, encode, pick = encoders[shape]
        fields = values(event)
        quarter = instant(event.timestamp) // QUARTER_MICROSECONDS
        copy = encode(fields, end)
        seen[quarter, shape].append(pick(fields))
        return quarter // QUARTERS_IN_DAY, copy

    return (row, rollup.counts) if rollup else (plain_row, lambda _seen: no_counts())


def invalid_event(position: int, error: Invalid) -> InvalidEvent:
    """Return the invalid event of the line at this position."""
    return InvalidEvent(position, error.reason, error.path, error.detail)
