"""Read arrays of valid events natively, where the native module is built.

    body, from an element on --native--> valid events, by source and one a line
                                  \\--the first element that is not proved to be valid--> `gateway.split`, the contract

Invariant: what it takes is what Python would take, with the same bytes; it never says what is wrong with an event.
Everything it knows of events is derived from the declarations in `core/sources`.
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

PIECE_BYTES: Final = 128 * 1024  # read in one go: a quarter of a millisecond


class Run(NamedTuple):
    """Valid events that stand one after the other, and where to go on: None where the array is at its end.

    filled says whether reading stopped because it had enough. blocks has the sources that have events.
    """

    go_on: int | None
    filled: bool
    blocks: Mapping[SourceName, Block]
    events: int
    object_bytes: int = 0

    def read_into(self, batch: Batch, _: Rules) -> Iterable[None]:
        """Accept these events, all at once."""
        for source, block in self.blocks.items():
            batch.accept(source, block)
        return ()


Reader = Callable[[bytes, int, int], Run]
"""Reads a body from an element on: the body, where the element begins, when the body came (microseconds since 2000)."""


def reader(contract: Contract) -> Reader | None:
    """What reads events that hold to the contract; None where the native module is not built."""
    if native.NOT_BUILT:
        return None
    door = native.BatchReader("timestamp", MAX_EVENT_BYTES, [_described(source) for source in sources.SOURCES.values()])

    def read(content: bytes, at: int, received: int) -> Run:
        go_on, blocks = door.read(content, at, PIECE_BYTES, *contract.window(received))
        by_source = {source: Block(events, lines) for source, (events, lines) in blocks.items()}
        filled = go_on is not None and go_on >= at + PIECE_BYTES
        return Run(go_on, filled, by_source, sum([block.events for block in by_source.values()]))

    return read


def _described(source: declaration.Source) -> EventSource:
    shapes = [EventShape(stage_of(shape), describe(shape)) for shape in source.shapes]
    return EventSource(source.name, "funnelStage", shapes)
