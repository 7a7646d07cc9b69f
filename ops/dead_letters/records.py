"""Dead letters: events that could not be stored or were rejected, and their outcomes.

    kept --replay--> replayed     published again; the new message has its own receipt
       \\--discard--> discarded

A dead letter is of the kind `dead` (accepted, not storable) or `rejected` (by the gateway). Its id is kind and number:
`dead-17`, `rejected-4`. Only kept dead letters can be replayed or discarded.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal, NamedTuple

import asyncpg

from core.errors import SluiceError
from core.postgres import Connection
from sql import statements

DeadLetterKind = Literal["dead", "rejected"]
Outcome = Literal["kept", "replayed", "discarded"]
KINDS: Final[tuple[DeadLetterKind, ...]] = ("dead", "rejected")
OUTCOMES: Final[tuple[Outcome, ...]] = ("kept", "replayed", "discarded")
_ID: Final = re.compile(r"(dead|rejected)-([0-9]{1,18})")
_SQL: Final = statements("dead_letters")


class Busy(SluiceError):
    """Another command replays or discards dead letters."""


class DeadLetterId(NamedTuple):
    """The kind and number of a dead letter."""

    kind: DeadLetterKind
    number: int

    def __str__(self) -> str:
        return f"{self.kind}-{self.number}"


def parse_id(text: str) -> DeadLetterId:
    """Parse an id such as dead-17. Raises ValueError."""
    if (match := _ID.fullmatch(text)) is None:
        raise ValueError(f"{text} is not an id of a dead letter: write dead-17 or rejected-4")
    return DeadLetterId("dead" if match[1] == "dead" else "rejected", int(match[2]))


@dataclass(frozen=True)
class DeadLetterFilter:
    """Selects the dead letters that match every condition. `since` is inclusive, `until` is exclusive."""

    kind: DeadLetterKind | None = None
    source: str | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    outcome: Outcome | None = "kept"
    ids: Sequence[DeadLetterId] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is no condition besides the outcome."""
        return self == DeadLetterFilter(outcome=self.outcome)

    def parameters(self) -> tuple[Any, ...]:
        """Return the parameters of the statements. All ids must be of one kind (see `by_kind`)."""
        numbers = [one.number for one in self.ids] if self.ids else None
        return self.kind, self.source, self.reason, self.since, self.until, self.outcome, numbers

    def by_kind(self) -> list[DeadLetterFilter]:
        """Return a filter for each kind; together they select the same dead letters."""
        kinds = [kind for kind in KINDS if self.kind in (None, kind)]
        if not self.ids:
            return [replace(self, kind=kind) for kind in kinds]
        by_kind = {kind: [one for one in self.ids if one.kind == kind] for kind in kinds}
        return [replace(self, kind=kind, ids=ids) for kind, ids in by_kind.items() if ids]


class DeadLetter(NamedTuple):
    """A dead letter for a replay. position is -1 for a whole message; length is that of the complete event."""

    id: DeadLetterId
    received_at: datetime | None
    source: str
    stream: str
    position: int | None
    length: int
    correlation_id: str | None
    event: bytes


async def groups(connection: Connection, selected: DeadLetterFilter) -> list[asyncpg.Record]:
    """Count dead letters by kind, source, reason and outcome; with oldest, newest and last number."""
    return [row for part in selected.by_kind() for row in await connection.fetch(_SQL["groups"], *part.parameters())]


async def newest(connection: Connection, selected: DeadLetterFilter, limit: int) -> list[asyncpg.Record]:
    """Return the newest dead letters without their events."""
    rows = [
        row for part in selected.by_kind() for row in await connection.fetch(_SQL["newest"], *part.parameters(), limit)
    ]
    return sorted(rows, key=lambda row: row["stored_at"], reverse=True)[:limit]


async def one(connection: Connection, id_: DeadLetterId) -> asyncpg.Record:
    """Return all columns of a dead letter. Raises SluiceError if it does not exist."""
    row: asyncpg.Record | None = await connection.fetchrow(_SQL["by_id"], id_.kind, id_.number)
    if row is None:
        raise SluiceError(f"there is no dead letter {id_}: `sluice dead-letters list` lists them")
    return row


async def already_closed(connection: Connection, ids: Sequence[DeadLetterId], outcome: Outcome) -> list[DeadLetterId]:
    """Return those of these dead letters that have the outcome already.

    Raises SluiceError if one does not exist or has another outcome than `outcome` and kept.
    """
    rows = await newest(connection, DeadLetterFilter(outcome=None, ids=ids), len(ids))
    outcomes = {DeadLetterId(row["kind"], row["id"]): row["outcome"] for row in rows}
    if absent := [str(id_) for id_ in ids if id_ not in outcomes]:
        raise SluiceError(f"there is no dead letter {', '.join(absent)}: `sluice dead-letters list` lists them")
    if closed := [f"{id_} is already {outcomes[id_]}" for id_ in ids if outcomes[id_] not in ("kept", outcome)]:
        raise SluiceError(f"{', '.join(closed)}: only kept dead letters can be replayed or discarded")
    return [id_ for id_ in ids if outcomes[id_] == outcome]


async def lock(connection: Connection) -> None:
    """Lock all dead letters until the connection is closed. Raises Busy."""
    if not await connection.fetchval(_SQL["lock"]):
        raise Busy("another command replays or discards dead letters: wait until it ends")


async def pages(
    connection: Connection, selected: DeadLetterFilter, size: int, limit: int | None = None
) -> AsyncIterator[list[DeadLetter]]:
    """Yield dead letters in pages of `size`, at most `limit` of them, one kind after the other.

    Dead letters that are added during the iteration are not included.
    """
    left = limit
    for part in selected.by_kind():
        rows = await connection.fetch(_SQL["groups"], *part.parameters())
        last = max((row["last"] for row in rows), default=0)
        after = 0
        while left is None or left > 0:
            wanted = size if left is None else min(size, left)
            rows = await connection.fetch(_SQL["page"], *part.parameters(), after, last, wanted)
            if not rows:
                break
            after = rows[-1]["id"]
            left = None if left is None else left - len(rows)
            yield [DeadLetter(DeadLetterId(row["kind"], row["id"]), *tuple(row)[2:]) for row in rows]


async def close(
    connection: Connection, ids: Sequence[DeadLetterId], outcome: Outcome, sequence: int | None = None
) -> int:
    """Set the outcome of kept dead letters of one kind; return how many were kept before.

    sequence is that of the message in which they were replayed.
    """
    if not ids:
        return 0
    status = await connection.execute(_SQL[f"close_{ids[0].kind}"], [id_.number for id_ in ids], outcome, sequence)
    return int(status.rpartition(" ")[2])


async def replay_result(
    connection: Connection, stream: str, sequences: Sequence[int], created: datetime
) -> asyncpg.Record:
    """Return messages, stored, repeated and dead from the receipts of these messages of a stream."""
    row: asyncpg.Record | None = await connection.fetchrow(_SQL["receipt_counts"], stream, sequences, created)
    assert row is not None
    return row
