"""The native parser: it reads the lines that it can prove to be valid, and asks the Python one about the others.

    message --native--> rows
       \\--a line that is not proved to be valid--> python --> its row, or its invalid event

Invariant: both parsers give the same for every message. The native one never says what is wrong with a line, nor reads
a header: the reference does, so that both agree by construction.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from collector.parse import native_schema
from collector.parse.parsed import InvalidEvent, Parsed, Parser, Rows
from collector.parse.python import invalid_event, python_parser, row_reader
from collector.parse.rollup import Seen, total
from collector.parse.row import closing
from collector.sources.source import Source
from core import native
from core.events import wire
from core.events.contract import Contract, Invalid
from core.native import NOT_BUILT
from core.sources.fields import MAX_EVENT_BYTES, instant


class Request(NamedTuple):
    """What the native parser needs of a request, in its order: the count of its events, the first and the last instant
    that they may have, and the end of their rows."""

    events: int
    earliest: int
    latest: int
    end: bytes


def native_parser(source: Source, contract: Contract) -> Parser:
    """As `python_parser`, and the same for every input. Raises LeftToPython where it is not built or cannot serve."""
    if NOT_BUILT:
        raise native_schema.LeftToPython(NOT_BUILT)
    tag, shapes = native_schema.describe(source)
    try:
        parser = native.Parser(tag, "timestamp", MAX_EVENT_BYTES, shapes)
    except ValueError as error:
        raise native_schema.LeftToPython(str(error)) from error
    python = python_parser(source, contract)
    row, counted = row_reader(source, contract)

    def request_of(part: wire.Part, sequence: int) -> Request:
        earliest, latest = contract.window(instant(part.received_at))
        return Request(part.events, earliest, latest, closing(part, sequence))

    def parse(message: bytes, sequence: int) -> Parsed:
        invalid: list[InvalidEvent] = []
        asked: Seen = defaultdict(list)

        def ask(position: int, request: int, line: bytes) -> tuple[int, bytes] | None:
            try:
                return row(line, instant(parts[request].received_at), requests[request].end, asked)
            except Invalid as why:
                invalid.append(invalid_event(position, why))
            return None

        try:
            parts, start = wire.decode_header(message)
            requests = [request_of(part, sequence) for part in parts]
            found, counts = parser.rows(message, start, requests, ask)
        except ValueError:  # what is wrong with the message as a whole
            return python(message, sequence)
        events = sum(part.events for part in parts)
        return Parsed(
            events,
            {day: Rows(count, copy) for day, (count, copy) in found.items()},
            invalid,
            total([counts, counted(asked)]) if asked else counts,
        )

    return parse
