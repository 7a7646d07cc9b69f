"""Letters: events that did not become rows, and what became of them.

    kept --replayed--> replayed     went out again; its new message has a receipt of its own
       \\--discarded--> discarded

A dead letter is dead (accepted at the door, not storable) or rejected (at the door). Its name is its kind and number:
`dead-17`, `rejected-4`. A closed dead letter is never opened again.
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

Kind = Literal["dead", "rejected"]
Outcome = Literal["kept", "replayed", "discarded"]
KINDS: Final[tuple[Kind, ...]] = ("dead", "rejected")
OUTCOMES: Final[tuple[Outcome, ...]] = ("kept", "replayed", "discarded")
_NAME: Final = re.compile(r"(dead|rejected)-([0-9]{1,18})")
_SQL: Final = statements("dead_letters")


class Busy(SluiceError):
    """Somebody else replays or discards."""


class DeadLetterId(NamedTuple):
    """A dead letter's kind and number."""

    kind: Kind
    id: int

    def __str__(self) -> str:
        return f"{self.kind}-{self.id}"


def id_of(text: str) -> DeadLetterId:
    """A name as a person writes it. Raises ValueError."""
    if (found := _NAME.fullmatch(text)) is None:
        raise ValueError(f"{text} is no dead letter: names are like dead-17 or rejected-4")
    return DeadLetterId("dead" if found[1] == "dead" else "rejected", int(found[2]))


@dataclass(frozen=True)
class DeadLetterFilter:
    """Which dead letters are meant: all that each given condition holds for. `since` is inclusive, `until` is not."""

    kind: Kind | None = None
    source: str | None = None
    reason: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    outcome: Outcome | None = "kept"
    names: Sequence[DeadLetterId] = ()

    @property
    def everything(self) -> bool:
        """Whether nothing is narrowed down."""
        return self == DeadLetterFilter(outcome=self.outcome)

    def parameters(self) -> tuple[Any, ...]:
        """As the statements take them. With names, of one kind (see `by_kind`)."""
        ids = [name.id for name in self.names] if self.names else None
        return self.kind, self.source, self.reason, self.since, self.until, self.outcome, ids

    def by_kind(self) -> list[DeadLetterFilter]:
        """The same dead letters, one kind after the other."""
        kinds = [kind for kind in KINDS if self.kind in (None, kind)]
        if not self.names:
            return [replace(self, kind=kind) for kind in kinds]
        named = {kind: [name for name in self.names if name.kind == kind] for kind in kinds}
        return [replace(self, kind=kind, names=names) for kind, names in named.items() if names]


class DeadLetter(NamedTuple):
    """One dead letter, as it is replayed. position is -1 for a whole message; length is the whole event's."""

    name: DeadLetterId
    received_at: datetime | None
    source: str
    stream: str
    position: int | None
    length: int
    correlation_id: str | None
    event: bytes


async def groups(connection: Connection, which: DeadLetterFilter) -> list[asyncpg.Record]:
    """How many dead letters there are of each kind, source, reason and outcome; oldest, newest and last id."""
    return [row for part in which.by_kind() for row in await connection.fetch(_SQL["groups"], *part.parameters())]


async def newest(connection: Connection, which: DeadLetterFilter, most: int) -> list[asyncpg.Record]:
    """The newest dead letters, without their events."""
    rows = [row for part in which.by_kind() for row in await connection.fetch(_SQL["newest"], *part.parameters(), most)]
    return sorted(rows, key=lambda row: row["stored_at"], reverse=True)[:most]


async def one(connection: Connection, name: DeadLetterId) -> asyncpg.Record:
    """A dead letter with all that is known of it. Raises SluiceError where there is none."""
    row: asyncpg.Record | None = await connection.fetchrow(_SQL["one"], name.kind, name.id)
    if row is None:
        raise SluiceError(f"there is no dead letter {name}: see `python -m ops dead-letters list`")
    return row


async def closed_already(connection: Connection, names: Sequence[DeadLetterId], wanted: Outcome) -> list[DeadLetterId]:
    """Those of these dead letters that are what they shall become. Raises SluiceError for what can never become it.

    That is a dead letter that there is not, or that was closed in the other way.
    """
    rows = await newest(connection, DeadLetterFilter(outcome=None, names=names), len(names))
    found = {DeadLetterId(row["kind"], row["id"]): row["outcome"] for row in rows}
    if absent := [str(name) for name in names if name not in found]:
        raise SluiceError(f"there is no dead letter {', '.join(absent)}: see `python -m ops dead-letters list`")
    if closed := [f"{name} is {found[name]}" for name in names if found[name] not in ("kept", wanted)]:
        raise SluiceError(f"{', '.join(closed)}: a closed dead letter is never opened again")
    return [name for name in names if found[name] == wanted]


async def take(connection: Connection) -> None:
    """Be the only one who closes dead letters, as long as the connection lives. Raises Busy."""
    if not await connection.fetchval(_SQL["lock"]):
        raise Busy("another replay or discard is at work: wait until it ends")


async def pages(
    connection: Connection, which: DeadLetterFilter, size: int, most: int | None = None
) -> AsyncIterator[list[DeadLetter]]:
    """The dead letters of a kind after the other, `size` at a time and `most` in all. Those that come meanwhile are
    not."""
    left = most
    for part in which.by_kind():
        rows = await connection.fetch(_SQL["groups"], *part.parameters())
        last = max((row["last"] for row in rows), default=0)
        after = 0
        while left is None or left > 0:
            wanted = size if left is None else min(size, left)
            found = await connection.fetch(_SQL["page"], *part.parameters(), after, last, wanted)
            if not found:
                break
            after = found[-1]["id"]
            left = None if left is None else left - len(found)
            yield [DeadLetter(DeadLetterId(row["kind"], row["id"]), *tuple(row)[2:]) for row in found]


async def close(
    connection: Connection, names: Sequence[DeadLetterId], outcome: Outcome, sequence: int | None = None
) -> int:
    """Close these dead letters, of one kind; how many were still open. sequence is of the message that they went out
    in."""
    if not names:
        return 0
    status = await connection.execute(_SQL[f"close_{names[0].kind}"], [name.id for name in names], outcome, sequence)
    return int(status.rpartition(" ")[2])


async def became(connection: Connection, stream: str, sequences: Sequence[int], created: datetime) -> asyncpg.Record:
    """messages, stored, repeated and dead, by the receipts of these messages of a stream."""
    row: asyncpg.Record | None = await connection.fetchrow(_SQL["became"], stream, sequences, created)
    assert row is not None
    return row
