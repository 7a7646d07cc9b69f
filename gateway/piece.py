"""Pieces of a body: consecutive events, read natively or by Python.

    Run (gateway.native)  valid events, already joined
    Elements              the text between two commas, or one line: each is validated by itself

Invariant: reading a piece pauses at the end of each slice of work.
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
ELEMENT_BYTES: Final = 64  # overhead of an element


class Rules:
    """The rules for the events of one body, which arrived at received_at (microseconds since 2000)."""

    __slots__ = ("_content", "_has_line_breaks", "contract", "received_at")

    def __init__(self, contract: Contract, content: bytes, received_at: int) -> None:
        self.contract = contract
        self.received_at = received_at
        self._content = content
        self._has_line_breaks: bool | None = None

    def has_line_breaks(self) -> bool:
        """Return whether events may contain a line break. Computed once, and only if Python reads any of the body."""
        if self._has_line_breaks is None:
            self._has_line_breaks = b"\n" in self._content or b"\r" in self._content
        return self._has_line_breaks

    def explain(self, raw: bytes, invalid: Invalid) -> list[Violation]:
        """Return all violations of a rejected event, the first one first."""
        return violations(raw, invalid, self.received_at, self.contract)


class Piece(Protocol):
    """Consecutive events of a body: how many, and the bytes of their objects beside the body."""

    @property
    def events(self) -> int: ...
    @property
    def object_bytes(self) -> int: ...
    def read_into(self, batch: Batch, rules: Rules) -> Iterable[None]:
        """Accept or reject each of these events; yield at the end of each slice of work."""


class Elements:
    """Elements as they are in the body. An element may be any bytes."""

    __slots__ = ("events", "object_bytes", "raw")

    def __init__(self, raw: list[bytes]) -> None:
        self.raw = raw
        self.events = len(raw)
        self.object_bytes = len(raw) * ELEMENT_BYTES

    def read_into(self, batch: Batch, rules: Rules) -> Iterator[None]:
        """Validate each element. Equal invalid elements in a row are validated once."""
        read, received_at, has_line_breaks = rules.contract.read, rules.received_at, rules.has_line_breaks()
        lines: dict[SourceName, list[bytes]] = {source: [] for source in SOURCES}
        until = time.perf_counter() + SLICE_SECONDS
        invalid_raw: bytes | None = None
        for index, raw in enumerate(self.raw, batch.events):
            if raw != invalid_raw:
                try:
                    event = read(raw, received_at)
                except Invalid as error:
                    error.__traceback__ = error.__context__ = None  # they reference this frame, and through it the body
                    invalid_raw, invalid = raw, error
                else:
                    lines[event.source].append(one_line(raw) if has_line_breaks else raw)
                    continue
            batch.reject(index, raw, invalid, rules.explain)
            if time.perf_counter() > until:  # the bytes limit valid events; rejected ones need this check
                yield
                until = time.perf_counter() + SLICE_SECONDS
        for source, accepted in lines.items():
            if accepted:
                batch.accept(source, Block.of(accepted))
