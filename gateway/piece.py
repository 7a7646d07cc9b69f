"""Pieces of a body: events that stand one after the other, read natively or by Python.

    Run (gateway.native)  valid events, joined already
    Elements              anything that stands between two commas, or on a line: each is held to the contract alone

Invariant: reading a piece takes no longer than a slice without a pause.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from core.events.contract import Contract, Invalid
from core.events.subjects import SOURCES, Source
from core.events.violations import Violation, violations
from core.events.wire import one_line
from gateway.batch import Batch, Block

SLICE_SECONDS: Final = 0.005
ELEMENT_BYTES: Final = 64  # what an element takes beside its bytes


class Rules:
    """What the events of one body are held to. received_at is when it came, in microseconds since 2000."""

    __slots__ = ("_content", "_folded", "contract", "received_at")

    def __init__(self, contract: Contract, content: bytes, received_at: int) -> None:
        self.contract = contract
        self.received_at = received_at
        self._content = content
        self._folded: bool | None = None

    def folded(self) -> bool:
        """Whether an event may hold a line break. Looked up once, and only if Python reads any of the body."""
        if self._folded is None:
            self._folded = b"\n" in self._content or b"\r" in self._content
        return self._folded

    def explain(self, raw: bytes, why: Invalid) -> list[Violation]:
        """All violations of a refused event, the first one first."""
        return violations(raw, why, self.received_at, self.contract)


class Piece(Protocol):
    """Some events of a body: how many, and what their objects take in memory beside the body."""

    @property
    def events(self) -> int: ...
    @property
    def object_bytes(self) -> int: ...
    def read_into(self, batch: Batch, rules: Rules) -> Iterable[None]:
        """Accept or refuse each of these events; pauses at the end of each slice of work."""


class Elements:
    """Elements as they stand in the body, which may be anything."""

    __slots__ = ("events", "object_bytes", "raw")

    def __init__(self, raw: list[bytes]) -> None:
        self.raw = raw
        self.events = len(raw)
        self.object_bytes = len(raw) * ELEMENT_BYTES

    def read_into(self, batch: Batch, rules: Rules) -> Iterator[None]:
        """Hold each element to the contract. Elements of the same bytes one after the other are judged once."""
        read, received_at, folded = rules.contract.read, rules.received_at, rules.folded()
        lines: dict[Source, list[bytes]] = {source: [] for source in SOURCES}
        until = time.perf_counter() + SLICE_SECONDS
        bad: bytes | None = None
        for index, raw in enumerate(self.raw, batch.events):
            if raw != bad:
                try:
                    event = read(raw, received_at)
                except Invalid as error:
                    error.__traceback__ = error.__context__ = None  # they hold on to this frame, and so to the body
                    bad, why = raw, error
                else:
                    lines[event.source].append(one_line(raw) if folded else raw)
                    continue
            batch.refuse(index, raw, why, rules.explain)
            if time.perf_counter() > until:  # valid events are bounded by their bytes, refused ones are not
                yield
                until = time.perf_counter() + SLICE_SECONDS
        for source, accepted in lines.items():
            if accepted:
                batch.accept(source, Block.of(accepted))
