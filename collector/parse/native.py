"""The native parser: parses the lines that it proves to be valid, and calls the Python parser for all others.

    message --native--> rows
       \\--a line that is not proved to be valid--> python --> its row, or its invalid event

Invariant: both parsers return the same for every message. Only the Python reference decodes headers and reports why a
line is invalid, so both agree by construction.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from collector.parse import native_schema
from collector.parse.parsed import InvalidEvent, Parsed, Parser, Rows
from collector.parse.python import invalid_event, python_parser, row_reader
from collector.parse.rollup import Seen, total
from collector.parse.row import row_suffix
from collector.sources.source import Source
from core import native
from core.events import wire
from core.events.contract import Contract, Invalid
from core.native import NOT_BUILT
from core.sources.fields import MAX_EVENT_BYTES, instant


class Request(NamedTuple):
    """One request (a part of a message), with its fields in the native parser's order.

    events              count of its events
    earliest, latest    bounds of their timestamps, in microseconds since 2000
    end                 last columns of their rows
    """

    events: int
    earliest: int
    latest: int
    end: bytes


def native_parser(source: Source, contract: Contract) -> Parser:
    """Return a parser with the same results as `python_parser`.

    Raises NativeParserUnsupported if the native module is not built or does not support the source.
    """
    if NOT_BUILT:
        raise native_schema.NativeParserUnsupported(NOT_BUILT)
    tag, shapes = native_schema.describe(source)
    try:
        parser = native.Parser(tag, "timestamp", MAX_EVENT_BYTES, shapes)
    except ValueError as error:
        raise native_schema.NativeParserUnsupported(str(error)) from error
    python = python_parser(source, contract)
    row, count_rows = row_reader(source, contract)

    def request_of(part: wire.Part, sequence: int) -> Request:
        earliest, latest = contract.window(instant(part.received_at))
        return Request(part.events, earliest, latest, row_suffix(part, sequence))

    def parse(message: bytes, sequence: int) -> Parsed:
        invalid: list[InvalidEvent] = []
        fallback_values: Seen = defaultdict(list)

        def read_in_python(position: int, request: int, line: bytes) -> tuple[int, bytes] | None:
            try:
                return row(line, instant(parts[request].received_at), requests[request].end, fallback_values)
            except Invalid as error:
                invalid.append(invalid_event(position, error))
            return None

        try:
            parts, start = wire.decode_header(message)
            requests = [request_of(part, sequence) for part in parts]
            days, counts = parser.rows(message, start, requests, read_in_python)
        except ValueError:  # the message as a whole is invalid: the reference reports why
            return python(message, sequence)
        events = sum(part.events for part in parts)
        return Parsed(
            events,
            {day: Rows(count, copy) for day, (count, copy) in days.items()},
            invalid,
            total([counts, count_rows(fallback_values)]) if fallback_values else counts,
        )

    return parse
