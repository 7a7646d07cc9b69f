"""Find the rows that PostgreSQL does not take, so that one bad event costs one event.

    batch --poison--> halves, by messages --stored--> done
                        \\--poison--> one message, cut around the row that PostgreSQL names --> its dead letter

Each try is a savepoint of the storing transaction. Parts go the direct path, whichever the batch went: many small
tries are cheap there.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

from collector.parse.parsed import InvalidEvent, Parser
from collector.store.batch import DeadLetter, Entry, Path, around, dead_letter, halve
from collector.store.write import BatchWriter, Poison
from core.errors import FatalError
from core.events.dead_reasons import StoreReason

MOST_DEAD: Final = 10
MOST_DEAD_SHARE: Final = 0.01


class DeadLimit:
    """How many events of a batch may become dead letters: 1 % of them, or 10 if that is more.

    If a batch has more, the fault is ours, not theirs: nothing of it is stored. Replayed dead letters that die again
    are not counted, however many there are.

    Raises FatalError if the events that break the contract are too many.
    """

    def __init__(self, entries: list[Entry]) -> None:
        fresh = sum(entry.parsed.events for entry in entries if not entry.message.replayed)
        self._most = max(MOST_DEAD, int(fresh * MOST_DEAD_SHARE))
        self._dead = 0
        for entry in entries:
            for event in entry.parsed.invalid:
                self.count(entry, f"{event.reason} at {event.path}")

    def count(self, entry: Entry, why: str) -> None:
        """Count one more event of this entry. Raises FatalError if it is one too many."""
        self._dead += not entry.message.replayed
        if self._dead > self._most:
            raise FatalError(f"more than {self._most} events of one batch cannot be stored: {why}")


class PoisonIsolator:
    """A batch that holds poison, taken apart. dead letters are the dead letters found."""

    def __init__(self, parse: Parser, write: BatchWriter, limit: DeadLimit) -> None:
        self._parse = parse
        self._write = write
        self._limit = limit
        self._path = Path.DIRECT if write.can_go_direct else Path.STAGED
        self.dead_letters: list[DeadLetter] = []

    async def store(self, entries: list[Entry], poison: Poison) -> Counter[int]:
        """Store the events of these entries, except those that PostgreSQL rejects; `poison` is why all together
        failed. Return the rows inserted by stream sequence.

        Raises FatalError, or the error of a try that was not poison.
        """
        if len(entries) == 1 and entries[0].parsed.events == 1:
            self._bury(entries[0], poison)
            return Counter()
        stored: Counter[int] = Counter()
        for part in self._parts(entries, poison):
            try:
                stored += await self._write.rows(part, self._path)
            except Poison as again:
                stored += await self.store(part, again)
        return stored

    def _parts(self, entries: list[Entry], poison: Poison) -> list[list[Entry]]:
        """What to try next. The row that PostgreSQL names is a hint: each part proves itself."""
        if len(entries) == 1 and poison.place is not None:
            return around(entries[0], poison.place, self._parse)
        return halve(entries, self._parse)

    def _bury(self, entry: Entry, poison: Poison) -> None:
        event = InvalidEvent(entry.start, StoreReason.UNSTORABLE, "$", poison.detail)
        self.dead_letters.append(dead_letter(entry.message, event))
        self._limit.count(entry, event.detail)
