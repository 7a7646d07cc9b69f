"""What became of a request's events: accepted ones in blocks ready to publish, rejected ones with their reasons.

Invariant: what the answer lists and what is kept of rejected events is bounded, and what is kept is held by admission.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Self

import msgspec

from core.events import rejected
from core.events.contract import Invalid, Reason
from core.events.violations import Violation
from core.sources import SOURCES, SourceName
from core.sources.fields import MAX_ID_BYTES
from gateway.admission import Reservation

MAX_LISTED_ERRORS: Final = 100  # rejected events that the answer lists
MAX_LISTED_VIOLATIONS: Final = 100  # violations that the answer lists beside the first one of each of these events
KEPT_MOST: Final = 10_000  # rejected events of one request that are kept, and their bytes
KEPT_MOST_BYTES: Final = 8 * 1024 * 1024
RECORD_BYTES: Final = 256  # what a kept one takes beside its bytes: objects, and places in queues


class Block(NamedTuple):
    """Events of one request that stand together: one a line, without a line break at the end."""

    events: int
    content: bytes

    @classmethod
    def of(cls, lines: Sequence[bytes]) -> Self:
        """A block of these events, at least one."""
        return cls(len(lines), lines[0] if len(lines) == 1 else b"\n".join(lines))


class EventError(msgspec.Struct, rename="camel"):
    """One rejected event as the answer lists it, with its first violation. path is a JSON path.

    index counts the body's events from 0. violations is how many violations the event has. others are those after the
    first, as far as the answer has room for them.
    """

    index: int
    event_id: str | None
    reason: Reason
    path: str
    detail: str
    allowed: str
    violations: int
    others: list[Violation]


Explain = Callable[[bytes, Invalid], list[Violation]]
"""Finds all violations of a rejected event, the first one first."""


class Batch:
    """What became of a request's events: of each source or reason that there is among them, how many.

    `hold` is the room of the request. no_room says whether there was too little of it to keep all rejected events.
    """

    __slots__ = (
        "_hold",
        "accepted",
        "blocks",
        "events",
        "kept",
        "kept_bytes",
        "kept_events",
        "no_room",
        "reasons",
        "told",
    )

    def __init__(self, hold: Reservation) -> None:
        self._hold = hold
        self.events = 0
        self.accepted: dict[SourceName, int] = {}
        self.blocks: dict[SourceName, list[Block]] = {}
        self.reasons: dict[Reason, int] = defaultdict(int)
        self.told: list[EventError] = []
        self.kept: dict[SourceName | None, list[Block]] = defaultdict(list)
        self.kept_events = 0
        self.kept_bytes = 0
        self.no_room = False

    def accept(self, source: SourceName, block: Block) -> None:
        """These events are valid."""
        self.accepted[source] = self.accepted.get(source, 0) + block.events
        self.blocks.setdefault(source, []).append(block)

    def reject(self, index: int, raw: bytes, why: Invalid, explain: Explain) -> None:
        """This event breaks the contract: count it, list it among the first, keep it while there is room."""
        self.reasons[why.reason] += 1
        keep = not self.no_room and self.kept_events < KEPT_MOST and self.kept_bytes < KEPT_MOST_BYTES
        if not keep and len(self.told) >= MAX_LISTED_ERRORS:
            return
        record = rejected.rejected(raw, why)
        if len(self.told) < MAX_LISTED_ERRORS:
            event_id = record.event_id and record.event_id[:MAX_ID_BYTES]
            first, *others = explain(raw, why)
            left = MAX_LISTED_VIOLATIONS - sum(len(listed.others) for listed in self.told)
            listed = EventError(
                index, event_id, why.reason, why.path, why.detail, first.allowed, 1 + len(others), others[:left]
            )
            self.told.append(listed)
        if keep:
            line = rejected.encode(record)
            if not self._hold.spare(len(line) + RECORD_BYTES):
                self.no_room = True
                return
            self.kept[record.source].append(Block(1, line))
            self.kept_events += 1
            self.kept_bytes += len(line)

    @property
    def sources(self) -> set[SourceName]:
        """The sources of all events that would be published or kept."""
        return {source for source in SOURCES if source in self.blocks or source in self.kept}

    @property
    def accepted_events(self) -> int:
        return sum(self.accepted.values())

    @property
    def rejected_events(self) -> int:
        return sum(self.reasons.values())
