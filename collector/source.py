"""What the collector has to know of a source: its columns, declared once, and its statements by name.

A new source is a file in `collector/sources`, a migration with its table, and its statements in `sql/store.sql`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from collector.copying import Kind
from collector.rollup import Audience
from core.events.contract import Contract

Reader = Callable[[bytes, int], Any]
"""A line of a message and the instant it was received (microseconds since 2000) -> a struct; raises Invalid."""


class Column(NamedTuple):
    """A column of the table: its name, where its value stands in the event, and how it is written.

    path is a JSON path without `$.`; an event whose shape does not have it gives NULL. What its value may be, the
    shape says.
    """

    name: str
    path: str
    kind: Kind


@dataclass(frozen=True, slots=True)
class Source:
    """One source, as the collector's program runs it.

    name         of the source; the statements `staging_<name>` and `merge_<name>` belong to it
    stream       that it reads
    reader       makes what reads a line of a message
    shapes       the structs that a line is read into
    columns      of the table that come from the event
    table        the partitioned parent; None where all rows go into one plain table
    audience     what its rollups count; None where it has none
    """

    name: str
    stream: str
    reader: Callable[[Contract], Reader]
    shapes: tuple[type[Any], ...]
    columns: tuple[Column, ...]
    table: str | None = None
    audience: Audience | None = None
