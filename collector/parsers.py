"""Choose the parser: the native one where it is built and knows the source, else Python's.

    message --native--> rows
       \\--a line that is not proved to be valid--> python --> its row, or its reject

Invariant: both parsers give the same for every message. The native one never says what is wrong with a line, nor reads
a header: the reference does, so that both agree by construction.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Final, Literal

import structlog

from collector import plan
from collector.parse import Parsed, Parser, Reject, Rows, closing, python_parser, rejected, row_reader
from collector.rollup import Seen, total
from collector.source import Source
from core import native
from core.errors import Misconfigured
from core.events import wire
from core.events.contract import Contract, Invalid
from core.native import NOT_BUILT
from core.sources.fields import MAX_EVENT_BYTES, instant

Choice = Literal["auto", "native", "python"]
Named = Literal["native", "python"]
CHOICES: Final[tuple[Choice, ...]] = ("auto", "native", "python")
log = structlog.get_logger()


def choose(choice: Choice, source: Source, contract: Contract) -> tuple[Named, Parser]:
    """The parser that was asked for, and which one it is.

    Raises Misconfigured where it has to be the native one and cannot be.
    """
    if choice == "python":
        return "python", python_parser(source, contract)
    try:
        return "native", native_parser(source, contract)
    except plan.LeftToPython as why:
        if choice == "native":
            raise Misconfigured(f"--parser=native cannot serve {source.name}: {why}") from why
        log.info("the Python parser serves", source=source.name, reason=str(why))
        return "python", python_parser(source, contract)


def native_parser(source: Source, contract: Contract) -> Parser:
    """As `python_parser`, and the same for every input. Raises LeftToPython where it is not built or cannot serve."""
    if NOT_BUILT:
        raise plan.LeftToPython(NOT_BUILT)
    tag, shapes = plan.describe(source)
    try:
        parser = native.Parser(tag, "timestamp", MAX_EVENT_BYTES, shapes)
    except ValueError as error:
        raise plan.LeftToPython(str(error)) from error
    python = python_parser(source, contract)
    row, counted = row_reader(source, contract)

    def parse(message: bytes, sequence: int) -> Parsed:
        rejects: list[Reject] = []
        asked: Seen = defaultdict(list)

        def ask(position: int, request: int, line: bytes) -> tuple[int, bytes] | None:
            try:
                return row(line, received[request], ends[request], asked)
            except Invalid as why:
                rejects.append(rejected(position, why))
            return None

        try:
            parts, start = wire.decode_header(message)
            received = [instant(part.received_at) for part in parts]
            ends = [closing(part, sequence) for part in parts]
            windows = map(contract.window, received)
            requests = [(part.events, *window, end) for part, window, end in zip(parts, windows, ends, strict=True)]
            found, counts = parser.rows(message, start, requests, ask)
        except ValueError:  # what is wrong with the message as a whole
            return python(message, sequence)
        events = sum(part.events for part in parts)
        return Parsed(
            events,
            {day: Rows(count, copy) for day, (count, copy) in found.items()},
            rejects,
            total([counts, counted(asked)]) if asked else counts,
        )

    return parse
