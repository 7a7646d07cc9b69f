"""Pieces of a body: consecutive events, read natively or by Python.

    Run (gateway.native)  valid events, joined already
    Elements              anything between two commas, or on a line: each is validated by itself

Invariant: reading a piece pauses at the end of each slice.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from core.events.contract import Contract, Invalid
from core.events.violations import Violation, violations
from core.events.wire import one_line
from core.sources import SOURCES, SourceName
from gateway.batch import Batch, Block

SLICE_SECONDS: Final = 0.005
ELEMENT_BYTES: Final = 64  # what an element takes beside its bytes


class Rules:
    """The rules for the events of one body, which arrived at received_at (microseconds since 2000)."""

    __slots__ = ("_content", "_folded", "contract", "received_at")

    def __init__(self, contract: Contract, content: bytes, received_at: int) -> None:
        self.contract = contract
        self.received_at = received_at
        self._content = content
        self._folded: bool | None = None

    def folded(self) -> bool:
        """Return whether an event may contain a line break. Computed once, and only if Python reads any of the body."""
        if self._folded is None:
            self._folded = b"\n" in self._content or b"\r" in self._content
        return self._folded

    def explain(self, raw: bytes, why: Invalid) -> list[Violation]:
        """Return all violations of a rejected event, the first one first."""
        return violations(raw, why, self.received_at, self.contract)


class Piece(Protocol):
    """Consecutive events of a body: how many, and the bytes that their objects need beside the body."""

    @property
    def events(self) -> int: ...
    @property
    def object_bytes(self) -> int: ...
    def read_into(self, batch: Batch, rules: Rules) -> Iterable[None]:
        """Accept or reject each of these events, with a pause at the end of each slice of work."""


class Elements:
    """Elements as they are in the body. An element may be anything."""

    __slots__ = ("events", "object_bytes", "raw")

    def __init__(self, raw: list[bytes]) -> None:
        self.raw = raw
        self.events = len(raw)
        self.object_bytes = len(raw) * ELEMENT_BYTES

    def read_into(self, batch: Batch, rules: Rules) -> Iterator[None]:
        """Validate each element by itself. Equal elements in a row are validated once."""
        read, received_at, folded = rules.contract.read, rules.received_at, rules.folded()
        lines: dict[SourceName, list[bytes]] = {source: [] for source in SOURCES}
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
            batch.reject(index, raw, why, rules.explain)
            if time.perf_counter() > until:  # valid events are bounded by their bytes, rejected ones are not
                yield
                until = time.perf_counter() + SLICE_SECONDS
        for source, accepted in lines.items():
            if accepted:
                batch.accept(source, Block.of(accepted))
