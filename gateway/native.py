"""Read arrays of valid events natively, where the native module is built.

    body, from an element on --native--> valid events, by source and one a line
                                  \\--the first element that is not proved to be valid--> `gateway.split`, the contract

Invariant: what it takes is what Python would take, with the same bytes; it never says what is wrong with an event.
Everything it knows of events is derived from the structs in `core/events`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, get_args

from core import native
from core.events import facebook, tiktok
from core.events.contract import Contract
from core.events.fields import MAX_EVENT_BYTES
from core.events.shape import Field, describe
from core.events.subjects import SOURCES, Source

PIECE_BYTES: Final = 128 * 1024  # read in one go: a quarter of a millisecond

_EVENTS: Final[dict[Source, Any]] = {"facebook": facebook.Event, "tiktok": tiktok.Event}


class Run(NamedTuple):
    """Valid events that stand one after the other, and where to go on: None where the array is at its end.

    filled says whether reading stopped because it had enough. blocks are of each source in SOURCES: how many events,
    and their bytes, one a line.
    """

    go_on: int | None
    filled: bool
    blocks: list[tuple[int, bytes]]

    @property
    def events(self) -> int:
        return sum(events for events, _ in self.blocks)


Reader = Callable[[bytes, int, int], Run]
"""Reads a body from an element on: the body, where the element begins, when the body came (microseconds since 2000)."""


def reader(contract: Contract) -> Reader | None:
    """What reads events that hold to the contract; None where the native module is not built."""
    if native.NOT_BUILT:
        return None
    door = native.Door("timestamp", MAX_EVENT_BYTES, [_described(source) for source in SOURCES])

    def read(content: bytes, at: int, received: int) -> Run:
        go_on, blocks = door.read(content, at, PIECE_BYTES, *contract.window(received))
        return Run(go_on, go_on is not None and go_on >= at + PIECE_BYTES, blocks)

    return read


def _described(source: Source) -> tuple[str, str, list[tuple[str, Sequence[Field]]]]:
    """A source's name, the key that chooses the shape of its events, and of each shape its label and its fields."""
    shapes = get_args(_EVENTS[source])
    (tag,) = {shape.__struct_config__.tag_field for shape in shapes}
    return source, tag, [(shape.__struct_config__.tag, describe(shape)) for shape in shapes]
