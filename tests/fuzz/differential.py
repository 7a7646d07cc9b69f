"""Hold the native parser to the Python reference on messages that are changed at random.

    python -m tests.fuzz.differential --seconds 600 [--seed 1]

It ends at the first message that both do not read alike, cut down to what shows it, or when the time is over.
"""

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from collector.parse.native import native_parser
from collector.parse.parsed import Parsed, Parser
from collector.parse.python import python_parser
from collector.sources import SOURCES
from core.events import wire
from core.events.contract import Contract
from core.sources import SOURCES as EVENT_SOURCES
from tests.fuzz.mutations import Mutator
from tests.support.parsed import comparable

CONTRACT = Contract(max_age_days=7, max_ahead_seconds=3600)
SEQUENCE = 2**40


@dataclass
class Pair:
    """Both parsers of one source."""

    source: str
    python: Parser = field(init=False)
    native: Parser = field(init=False)

    def __post_init__(self) -> None:
        self.python = python_parser(SOURCES[self.source], CONTRACT)
        self.native = native_parser(SOURCES[self.source], CONTRACT)

    def read(self, message: bytes) -> Parsed:
        """What both make of it. Raises Differ."""
        reference, parsed = self.python(message, SEQUENCE), comparable(self.native(message, SEQUENCE))
        if parsed != reference or list(parsed.days) != list(reference.days):
            raise Differ(self.source, message, reference, parsed)
        return parsed


class Differ(Exception):
    """The parsers differ on a message."""

    def __init__(self, source: str, message: bytes, reference: Parsed, native: Parsed) -> None:
        super().__init__(f"{source}: {message!r}\n  python: {reference}\n  native: {native}")
        self.message = message


def pairs() -> list[Pair]:
    """Both parsers of each source that has events."""
    return [Pair(source) for source in EVENT_SOURCES]


def fuzz(seed: int, more: Callable[[], bool]) -> tuple[int, int, int]:
    """Messages, rows and invalid events that were read, until `more` says that it is enough. Raises Differ."""
    mutator, both = Mutator(seed), pairs()
    messages = rows = invalid = 0
    while more():
        pair = both[messages % len(both)]
        try:
            parsed = pair.read(mutator.message(pair.source))
        except Differ as found:
            raise smallest(pair, found) from None
        messages += 1
        rows += sum(day.count for day in parsed.days.values())
        invalid += len(parsed.invalid)
    return messages, rows, invalid


def smallest(pair: Pair, found: Differ) -> Differ:
    """The difference in one line of the message alone, if it shows there."""
    try:
        parts, lines = wire.decode(found.message)
    except wire.InvalidMessage:
        return found
    for position in range(len(lines)):
        try:
            pair.read(wire.cut(parts, lines, position, position + 1))
        except Differ as smaller:
            return smaller
    return found


def main() -> int:
    """Fuzz for the time that the command line gives; 1 where the parsers differ."""
    arguments = argparse.ArgumentParser(prog="python -m tests.fuzz.differential", description=__doc__)
    arguments.add_argument("--seconds", type=float, default=60)
    arguments.add_argument("--seed", type=int, default=time.time_ns())
    given = arguments.parse_args()
    print(f"fuzzing both parsers for {given.seconds:g} s, seed {given.seed}", flush=True)
    end = time.monotonic() + given.seconds
    every = count(1)

    def more() -> bool:
        if (number := next(every)) % 20_000 == 0:
            print(f"{number:,} messages, {max(0, end - time.monotonic()):.0f} s left", flush=True)
        left: bool = time.monotonic() < end
        return left

    try:
        messages, rows, invalid = fuzz(given.seed, more)
    except Differ as found:
        print(f"the parsers differ (seed {given.seed}):\n{found}")
        return 1
    print(f"{messages:,} messages, {rows:,} rows, {invalid:,} invalid: both parsers gave the same")
    return 0


if __name__ == "__main__":
    sys.exit(main())
