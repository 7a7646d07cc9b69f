"""The result of decoding one request: accepted events in blocks, rejected events with their reasons.

Invariant: the number of errors in the response and of rejected events kept is bounded. Kept events are charged to
admission.
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

MAX_LISTED_ERRORS: Final = 100  # rejected events listed in the response
MAX_LISTED_VIOLATIONS: Final = 100  # violations listed in the response beside the first one of each event
MAX_KEPT_EVENTS: Final = 10_000  # rejected events of one request that are kept, and their bytes
MAX_KEPT_BYTES: Final = 8 * 1024 * 1024
RECORD_BYTES: Final = 256  # overhead of a kept event: objects and queue entries


class Block(NamedTuple):
    """Consecutive events of one request: one event a line, without a line break at the end."""

    events: int
    content: bytes

    @classmethod
    def of(cls, lines: Sequence[bytes]) -> Self:
        """Return a block of these events, at least one."""
        return cls(len(lines), lines[0] if len(lines) == 1 else b"\n".join(lines))


class EventError(msgspec.Struct, rename="camel"):
    """One rejected event in the response, with its first violation.

    index       position in the body, from 0
    path        JSON path of the first violation
    violations  how many violations the event has
    others      the violations after the first one, up to MAX_LISTED_VIOLATIONS in a response
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
"""Find all violations of a rejected event, the first one first."""


class Batch:
    """Accepted and rejected events of one request, counted by source and by reason.

    no_room is true if the worker's admission limit kept some rejected events from being copied.
    """

    __slots__ = (
        "_reservation",
        "accepted",
        "blocks",
        "errors",
        "events",
        "kept",
        "kept_bytes",
        "kept_events",
        "no_room",
        "reasons",
    )

    def __init__(self, reservation: Reservation) -> None:
        self._reservation = reservation
        self.events = 0
        self.accepted: dict[SourceName, int] = {}
        self.blocks: dict[SourceName, list[Block]] = {}
        self.reasons: dict[Reason, int] = defaultdict(int)
        self.errors: list[EventError] = []
        self.kept: dict[SourceName | None, list[Block]] = defaultdict(list)
        self.kept_events = 0
        self.kept_bytes = 0
        self.no_room = False

    def accept(self, source: SourceName, block: Block) -> None:
        """Add valid events of one source."""
        self.accepted[source] = self.accepted.get(source, 0) + block.events
        self.blocks.setdefault(source, []).append(block)

    def reject(self, index: int, raw: bytes, invalid: Invalid, explain: Explain) -> None:
        """Add an invalid event: count it, list it in the response and keep a copy, within the limits."""
        self.reasons[invalid.reason] += 1
        keep = not self.no_room and self.kept_events < MAX_KEPT_EVENTS and self.kept_bytes < MAX_KEPT_BYTES
        if not keep and len(self.errors) >= MAX_LISTED_ERRORS:
            return
        record = rejected.rejected_event(raw, invalid)
        if len(self.errors) < MAX_LISTED_ERRORS:
            event_id = record.event_id and record.event_id[:MAX_ID_BYTES]
            first, *others = explain(raw, invalid)
            left = MAX_LISTED_VIOLATIONS - sum(len(listed.others) for listed in self.errors)
            listed = EventError(
                index,
                event_id,
                invalid.reason,
                invalid.path,
                invalid.detail,
                first.allowed,
                1 + len(others),
                others[:left],
            )
            self.errors.append(listed)
        if keep:
            line = rejected.encode(record)
            if not self._reservation.try_reserve(len(line) + RECORD_BYTES):
                self.no_room = True
                return
            self.kept[record.source].append(Block(1, line))
            self.kept_events += 1
            self.kept_bytes += len(line)

    @property
    def sources(self) -> set[SourceName]:
        """The sources of all events that are published or kept."""
        return {source for source in SOURCES if source in self.blocks or source in self.kept}

    @property
    def accepted_events(self) -> int:
        return sum(self.accepted.values())

    @property
    def rejected_events(self) -> int:
        return sum(self.reasons.values())
