"""Find the rows that PostgreSQL does not take, so that one bad event costs one event.

    batch --stored--> done
       \\--poison--> halves --stored--> done
                       \\--poison--> ... a single event --> its dead letter

Each try is a savepoint of the storing transaction. Where more than 1 % of a batch (and more than 10 events) turn out
poison, the fault is ours, not theirs: OurFault is raised and nothing is confirmed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final

import asyncpg

from collector.batch import Entry, Letter, halve, letter
from collector.parse import Parser, Reject
from collector.verdict import Verdict, verdict
from core.errors import OurFault

MOST_POISON: Final = 10
MOST_POISON_SHARE: Final = 0.01

Write = Callable[[list[Entry]], Awaitable[Counter[int]]]
"""Write the rows of these entries; the rows really inserted, by stream sequence."""


class Isolation:
    """One batch, taken apart. `letters` holds the dead letters found."""

    def __init__(self, connection: asyncpg.Connection[Any], parse: Parser, write: Write, events: int) -> None:
        self._connection = connection
        self._parse = parse
        self._write = write
        self._most = max(MOST_POISON, int(events * MOST_POISON_SHARE))
        self.letters: list[Letter] = []

    async def store(self, entries: list[Entry]) -> Counter[int]:
        """Store all of these but the poison. Raises OurFault, or the error of a try that was not poison."""
        try:
            async with self._connection.transaction():
                return await self._write(entries)
        except asyncpg.PostgresError as error:
            if verdict(error) is not Verdict.POISON:
                raise
            if len(entries) == 1 and entries[0].parsed.events == 1:
                self._bury(entries[0], error)
                return Counter()
        first, second = halve(entries, self._parse)
        return await self.store(first) + await self.store(second)

    def _bury(self, entry: Entry, error: asyncpg.PostgresError) -> None:
        # The message of a check names the constraint, never the row: details would repeat personal data.
        reject = Reject(entry.start, "unstorable", "$", f"{error.sqlstate}: {error.args[0]}")
        self.letters.append(letter(entry.message, reject))
        if len(self.letters) > self._most:
            raise OurFault(f"more than {self._most} events of one batch cannot be stored: {reject.detail}") from error
