"""What the collector has to know of what it collects: the events of a source, or the rejected events."""

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
"""A line of a message and the instant it was received (microseconds since 2000) -> a struct; raises Invalid."""


@dataclass(frozen=True, slots=True)
class Audience:
    """What the rollups of a source count: the revenue of its purchases, and these dimensions."""

    purchase: Purchase
    dimensions: tuple[Dimension, ...]


@dataclass(frozen=True, slots=True)
class Source:
    """What one collector stores.

    name         of the source, or `rejected`
    stream       that it reads
    reader       makes what reads a line of a message
    shapes       the structs that a line is read into
    columns      of the table: column -> JSON path without `$.`; a shape that does not have the path gives NULL
    table        the partitioned table; None where all rows go into one plain table
    audience     what its rollups count; None where it has none
    """

    name: str
    stream: str
    reader: Callable[[Contract], Reader]
    shapes: tuple[type[Any], ...]
    columns: Mapping[str, str]
    table: str | None = None
    audience: Audience | None = None


def of_events(name: str) -> Source:
    """Return what a collector of this source's events stores, as the source is declared."""
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
