"""Find the rows that PostgreSQL does not take, so that one bad event costs one event.

    batch --stored--> done
       \\--conflict--> staged --stored--> done
       \\--poison--> halves, by messages --stored--> done
                       \\--poison--> one message, cut around the row that PostgreSQL names --> its dead letter

Each try is a savepoint of the storing transaction. Parts go the direct path, whichever the batch went: many small
tries are cheap there. Where more than 1 % of a batch (and more than 10 events) turn out dead, be it that PostgreSQL
does not take them or that they break the contract, the fault is ours, not theirs: OurFault is raised and nothing is
confirmed. Letters that were replayed and die again are not counted: they are what they were, however many there are.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

import asyncpg

from collector.parse.parsed import Parser, Reject
from collector.store.batch import Entry, Letter, Path, around, halve, letter
from collector.store.write import CONFLICTS, Write, refused_row
from core.errors import OurFault
from core.events.dead_reasons import StoreReason
from core.pg_errors import ErrorClass, classify
from core.postgres import Connection

MOST_DEAD: Final = 10
MOST_DEAD_SHARE: Final = 0.01


class Isolation:
    """One batch, taken apart where need be.

    letters     the dead letters found
    conflicts   how often the direct path met a repeat
    staged      whether any part was staged
    """

    def __init__(self, connection: Connection, parse: Parser, write: Write) -> None:
        self._connection = connection
        self._parse = parse
        self._write = write
        self._most = self._dead = 0
        self.letters: list[Letter] = []
        self.conflicts = 0
        self.staged = False

    async def store(self, entries: list[Entry], path: Path) -> Counter[int]:
        """Store all of these but the poison; the rows inserted by stream sequence.

        Raises OurFault, or the error of a try that was not poison.
        """
        fresh = sum(entry.parsed.events for entry in entries if not entry.message.replayed)
        self._most = max(MOST_DEAD, int(fresh * MOST_DEAD_SHARE))
        for entry in entries:
            for reject in entry.parsed.rejects:
                self._count_dead(entry, f"{reject.reason} at {reject.path}")
        return await self._try(entries, path)

    async def _try(self, entries: list[Entry], path: Path) -> Counter[int]:
        stored: Counter[int] = Counter()
        try:
            async with self._connection.transaction():
                stored = await self._write.rows(entries, path)
        except asyncpg.PostgresError as error:
            if path is Path.DIRECT and isinstance(error, CONFLICTS):
                self.conflicts += 1
                return await self._try(entries, Path.STAGED)
            if classify(error) is not ErrorClass.POISON:
                raise
            if len(entries) == 1 and entries[0].parsed.events == 1:
                self._bury(entries[0], error)
                return Counter()
            parts = self._parts(entries, error)
        else:
            self.staged |= path is Path.STAGED
            return stored
        path = Path.DIRECT if self._write.can_go_direct else Path.STAGED
        for part in parts:
            stored += await self._try(part, path)
        return stored

    def _parts(self, entries: list[Entry], error: asyncpg.PostgresError) -> list[list[Entry]]:
        """What to try next. The row that PostgreSQL names is a hint: each part proves itself."""
        if len(entries) == 1 and (place := refused_row(error)) is not None:
            return around(entries[0], *place, self._parse)
        return halve(entries, self._parse)

    def _bury(self, entry: Entry, error: asyncpg.PostgresError) -> None:
        # The message of a check names the constraint, never the row: details would repeat personal data.
        reject = Reject(entry.start, StoreReason.UNSTORABLE, "$", f"{error.sqlstate}: {error.args[0]}")
        self.letters.append(letter(entry.message, reject))
        self._count_dead(entry, reject.detail)

    def _count_dead(self, entry: Entry, why: str) -> None:
        self._dead += not entry.message.replayed
        if self._dead > self._most:
            raise OurFault(f"more than {self._most} events of one batch cannot be stored: {why}")
