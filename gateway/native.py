"""Read arrays of valid events with the native module, if it is built.

    body, from an element on --native--> valid events, by source and one a line
                                  \\--first element not proved to be valid--> `gateway.split` and the contract

Invariant: it accepts only what Python would accept, with the same bytes. It never decides what is wrong with an event.
Its rules are derived from the declarations in `core/sources`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from core import native, sources
from core.events.contract import Contract
from core.sources import SourceName, declaration
from core.sources.declaration import stage_of
from core.sources.fields import MAX_EVENT_BYTES
from core.sources.shape import EventShape, EventSource, describe
from gateway.batch import Batch, Block
from gateway.piece import Rules

PIECE_BYTES: Final = 128 * 1024  # read in one call: 0.25 ms


class Run(NamedTuple):
    """Consecutive valid events, and where to resume: None at the end of the array.

    filled is true if reading stopped because PIECE_BYTES were read. blocks has only sources that have events.
    """

    resume_at: int | None
    filled: bool
    blocks: Mapping[SourceName, Block]
    events: int
    object_bytes: int = 0

    def read_into(self, batch: Batch, _: Rules) -> Iterable[None]:
        """Accept these events."""
        for source, block in self.blocks.items():
            batch.accept(source, block)
        return ()


Reader = Callable[[bytes, int, int], Run]
"""Read a body: the bytes, where the next element begins, and when the body arrived (microseconds since 2000)."""


def reader(contract: Contract) -> Reader | None:
    """Return a reader of events that satisfy the contract, or None if the native module is not built."""
    if native.NOT_BUILT:
        return None
    reader = native.BatchReader(
        "timestamp", MAX_EVENT_BYTES, [_described(source) for source in sources.SOURCES.values()]
    )

    def read(content: bytes, at: int, received: int) -> Run:
        resume_at, blocks = reader.read(content, at, PIECE_BYTES, *contract.window(received))
        by_source = {source: Block(events, lines) for source, (events, lines) in blocks.items()}
        filled = resume_at is not None and resume_at >= at + PIECE_BYTES
        return Run(resume_at, filled, by_source, sum([block.events for block in by_source.values()]))

    return read


def _described(source: declaration.Source) -> EventSource:
    shapes = [EventShape(stage_of(shape), describe(shape)) for shape in source.shapes]
    return EventSource(source.name, "funnelStage", shapes)
