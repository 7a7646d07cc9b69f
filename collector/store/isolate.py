"""Isolate the rows that PostgreSQL rejects, so that one bad event does not fail its batch.

    batch --poison--> halves, by messages --stored--> done
                        \\--poison--> one message, split around the row that PostgreSQL names --> its dead letter

Each attempt is a savepoint of the storing transaction. Parts use the direct path, whichever path the batch used: many
small attempts cost little there.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from collector.parse.parsed import InvalidEvent, Parser
from collector.store.batch import DeadLetter, Entry, WritePath, cut_around, dead_letter, halve
from collector.store.write import BatchWriter, Poison
from core.errors import FatalError
from core.events.dead_reasons import StoreReason

MAX_DEAD_LETTERS: Final = 10
MAX_DEAD_LETTER_SHARE: Final = 0.01


class DeadLimit:
    """Limits the dead letters of a batch: 1 % of its events, or 10 if that is more.

    More than that is a fault of the collector or the schema, not of the events: nothing of the batch is stored.
    Replayed dead letters that fail again do not count.

    Raises FatalError if too many events break the contract.
    """

    def __init__(self, entries: list[Entry]) -> None:
        fresh = sum(entry.parsed.events for entry in entries if not entry.message.replayed)
        self._max_dead = max(MAX_DEAD_LETTERS, int(fresh * MAX_DEAD_LETTER_SHARE))
        self._dead = 0
        for entry in entries:
            for event in entry.parsed.invalid:
                self.count(entry, f"{event.reason} at {event.path}")

    def count(self, entry: Entry, reason: str) -> None:
        """Count one more dead letter of this entry. Raises FatalError if it exceeds the limit."""
        self._dead += not entry.message.replayed
        if self._dead > self._max_dead:
            raise FatalError(f"more than {self._max_dead} events of one batch cannot be stored: {reason}")


class PoisonIsolator:
    """Stores a batch that holds poison, part by part. dead_letters are the events that PostgreSQL rejected."""

    def __init__(self, parse: Parser, writer: BatchWriter, limit: DeadLimit) -> None:
        self._parse = parse
        self._writer = writer
        self._limit = limit
        self._path = WritePath.DIRECT if writer.supports_direct else WritePath.STAGED
        self.dead_letters: list[DeadLetter] = []

    async def store(self, entries: list[Entry], poison: Poison) -> Counter[int]:
        """Store the events of these entries, except those that PostgreSQL rejects.

        `poison` is the error of storing all of them. Return the rows inserted, by stream sequence.
        Raises FatalError, or the error of an attempt if it is not poison.
        """
        if len(entries) == 1 and entries[0].parsed.events == 1:
            self._record_dead_letter(entries[0], poison)
            return Counter()
        stored: Counter[int] = Counter()
        for part in self._parts(entries, poison):
            try:
                stored += await self._writer.write_rows(part, self._path)
            except Poison as again:
                stored += await self.store(part, again)
        return stored

    def _parts(self, entries: list[Entry], poison: Poison) -> list[list[Entry]]:
        """Return the parts to store next. The row that PostgreSQL names is only a hint: every part is attempted."""
        if len(entries) == 1 and poison.position is not None:
            return cut_around(entries[0], poison.position, self._parse)
        return halve(entries, self._parse)

    def _record_dead_letter(self, entry: Entry, poison: Poison) -> None:
        event = InvalidEvent(entry.start, StoreReason.UNSTORABLE, "$", poison.detail)
        self.dead_letters.append(dead_letter(entry.message, event))
        self._limit.count(entry, event.detail)
