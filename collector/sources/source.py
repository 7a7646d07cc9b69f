"""Description of a source for the collector: a declared source of events, or the rejected events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from core.events.contract import Contract
from core.events.subjects import stream_of
from core.sources import SOURCES as DECLARED
from core.sources.declaration import Dimension, Purchase

Reader = Callable[[bytes, int], Any]
"""(line of a message, instant received in microseconds since 2000) -> struct. Raises Invalid."""


@dataclass(frozen=True, slots=True)
class Audience:
    """The rollups of a source: revenue of its purchases, and events by these dimensions."""

    purchase: Purchase
    dimensions: tuple[Dimension, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """One source, as a collector reads and stores it.

    name         name of the source, or `rejected`
    stream       name of its stream
    reader       returns the function that decodes a line of a message
    shapes       structs that a line is decoded into
    columns      column -> JSON path without `$.`; NULL for a shape that does not have the path
    table        partitioned table; None if all rows are in one plain table
    audience     dimensions of its rollups; None if it has no rollups
    """

    name: str
    stream: str
    reader: Callable[[Contract], Reader]
    shapes: tuple[type[Any], ...]
    columns: Mapping[str, str]
    table: str | None = None
    audience: Audience | None = None


def event_source(name: str) -> Source:
    """Return the source of events declared under this name in `core.sources`."""
    declared = DECLARED[name]
    return Source(
        name=name,
        stream=stream_of(name),
        reader=lambda contract: partial(contract.read, source=name),
        shapes=declared.shapes,
        columns=declared.columns,
        table=declared.table,
        audience=Audience(declared.purchase, declared.counted),
    )
