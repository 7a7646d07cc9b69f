"""The conservation oracle: it knows what was sent and what was answered, and judges what is stored.

    events of a request --202--> accepted          stored once, unchanged
                        --named in `errors`-->     rejected: its bytes kept once for each time, and never a row
                        --5xx, no answer-->        indeterminate: stored once or not at all
                        --any other answer-->      nothing of it is stored

Invariant: it takes nothing from the code that it judges. It reads answers and tables alone, and says by itself what
a row of an event holds and what the rollups of rows are. Two events are the same when source, id and timestamp are;
of several sendings, the row may be any one.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
import msgspec
import orjson

from core.postgres import Connection
from tests.support.expected import COLUMNS, SOURCES, Key, Rollups, columns_of, is_event, key_of

_SHOWN = 3
_KEPT = "SELECT sha256, count(*) AS kept FROM rejected_events WHERE path <> '' GROUP BY sha256"  # no whole bodies


@dataclass(slots=True)
class _Sent:
    """One event: the bytes it was sent as, whether an answer accepted it, and where it was found."""

    versions: list[bytes]
    accepted: bool = False
    rows: int = 0
    dead: int = 0


@dataclass
class Judgement:
    """What the oracle found. All lists are empty, and `wrong` too, where everything is conserved.

    dead holds what stands in dead_letters: not lost, but valid events never get there.
    """

    sent: int
    stored: int
    lost: list[Key] = field(default_factory=list)
    doubled: list[Key] = field(default_factory=list)
    unknown: list[Key] = field(default_factory=list)
    altered: list[str] = field(default_factory=list)
    dead: list[str] = field(default_factory=list)
    rejected: list[str] = field(default_factory=list)
    rollups: list[str] = field(default_factory=list)

    def wrong(self) -> list[str]:
        """What is not conserved, a sentence each."""
        found = []
        for name in ("lost", "doubled", "unknown", "altered", "dead", "rejected", "rollups"):
            if cases := getattr(self, name):
                found.append(f"{name}: {len(cases)}, such as {'; '.join(map(str, cases[:_SHOWN]))}")
        return found


class Oracle:
    """Remembers every request that was sent to one system, and judges that system's tables."""

    def __init__(self) -> None:
        self._answers: list[tuple[Sequence[bytes] | bytes, int | None, bytes]] = []  # not looked into yet
        self._known: dict[Key, _Sent] = {}
        self._rejected: Counter[bytes] = Counter()  # by SHA-256: so often an answer named it as rejected
        self._perhaps: Counter[bytes] = Counter()  # ... or it was in a request without an answer
        self._unstorable: set[Key] = set()

    def answered(self, events: Sequence[bytes] | bytes, status: int | None, payload: bytes = b"") -> None:
        """One request came back: its events, or its body where that is a JSON array, and its answer.

        The status is None where no answer came. This costs nothing: it may be called under load.
        """
        self._answers.append((events, status, payload))

    def will_be_dead(self, events: Sequence[bytes]) -> None:
        """These events are accepted and yet cannot be stored: they belong in dead_letters."""
        self._unstorable.update(key_of(orjson.loads(event)) for event in events)

    def __len__(self) -> int:
        """How many different events were sent."""
        self._learn()
        return len(self._known)

    def accepted(self) -> int:
        """How many different events answers have accepted."""
        self._learn()
        return sum(sent.accepted for sent in self._known.values())

    def _learn(self) -> None:
        """Look into the answers. Raises ValueError for one that does not name every event that it rejected."""
        for body, status, payload in self._answers:
            events = _elements(body) if isinstance(body, bytes) else body
            if status in (202, 422):
                self._learn_of_each(events, orjson.loads(payload))
            elif status is None or status >= 500:
                for event in events:
                    self._perhaps[_sha256(event)] += 1
                    if is_event(event):
                        self._remember(event)
        self._answers.clear()

    def _learn_of_each(self, events: Sequence[bytes], answer: dict[str, Any]) -> None:
        rejected = {error["index"] for error in answer["errors"]}
        if len(rejected) != answer["rejected"] or answer["accepted"] + answer["rejected"] != len(events):
            raise ValueError(f"{len(events)} events were sent, and the answer was {answer}")
        for index, event in enumerate(events):
            if index in rejected:
                self._rejected[_sha256(event)] += 1
            else:
                self._remember(event).accepted = True

    def _remember(self, event: bytes) -> _Sent:
        key = key_of(orjson.loads(event))
        if (sent := self._known.get(key)) is None:
            sent = self._known[key] = _Sent([event])
        elif event not in sent.versions:
            sent.versions.append(event)
        return sent

    async def judge(self, connection: Connection) -> Judgement:
        """Compare everything that was sent with tables, rollups and dead letters, in one moment of the database."""
        self._learn()
        for sent in self._known.values():
            sent.rows = sent.dead = 0
        judgement = Judgement(sent=len(self._known), stored=0)
        rollups = Rollups()
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            for source in SOURCES:
                async for row in _rows(connection, source):
                    judgement.stored += 1
                    rollups.count(source, row)
                    self._judge_row(judgement, source, row)
            for dead_letter in await connection.fetch("SELECT event, reason, path FROM dead_letters"):
                key = key_of(orjson.loads(dead_letter["event"])) if is_event(dead_letter["event"]) else None
                if key not in self._unstorable:
                    judgement.dead.append(
                        f"{dead_letter['reason']} at {dead_letter['path']}: {dead_letter['event'][:200]!r}"
                    )
                if key in self._known:
                    self._known[key].dead += 1
            await self._judge_rejected(judgement, connection)
            judgement.rollups = await rollups.differences(connection)
        for key, sent in self._known.items():
            if sent.rows + sent.dead > 1:
                judgement.doubled.append(key)
            elif sent.accepted and not sent.rows + sent.dead:
                judgement.lost.append(key)
        return judgement

    def _judge_row(self, judgement: Judgement, source: str, row: asyncpg.Record) -> None:
        key = Key(source, row["event_id"], row["event_time"])
        if (sent := self._known.get(key)) is None:
            judgement.unknown.append(key)
            return
        sent.rows += 1
        found = tuple(row)
        versions = [columns_of(orjson.loads(version)) for version in sent.versions]
        if found not in versions:
            pairs = zip(COLUMNS[source], found, versions[0], strict=True)
            differing = {column: (stored, was) for column, stored, was in pairs if stored != was}
            judgement.altered.append(f"{key}: stored and sent are {differing}")

    async def _judge_rejected(self, judgement: Judgement, connection: Connection) -> None:
        """Every rejected event is kept once for each time that it was rejected."""
        kept = Counter({row["sha256"]: row["kept"] for row in await connection.fetch(_KEPT)})
        for sha256 in kept.keys() | self._rejected.keys():
            least = self._rejected[sha256]
            most = least + self._perhaps[sha256]
            if not least <= kept[sha256] <= most:
                judgement.rejected.append(f"{sha256.hex()} is kept {kept[sha256]} times, rejected {least} to {most}")


async def _rows(connection: Connection, source: str) -> AsyncIterator[asyncpg.Record]:
    async for row in connection.cursor(f"SELECT {', '.join(COLUMNS[source])} FROM {source}_events", prefetch=5000):
        yield row


def _elements(body: bytes) -> list[bytes]:
    return [bytes(element) for element in msgspec.json.decode(body, type=list[msgspec.Raw])]


def _sha256(event: bytes) -> bytes:
    return hashlib.sha256(event).digest()
