"""What parsing a message gives, whichever parser reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from collector.parse.rollup import Counts
from core import native
from core.events.dead_reasons import DeadReason


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one message and one day: their count, and their bytes without COPY's header and trailer."""

    count: int
    copy: bytes


class InvalidEvent(NamedTuple):
    """A line that cannot become a row. position counts the message's events from 0; -1 is the whole message."""

    position: int
    reason: DeadReason
    path: str
    detail: str


class Parsed(NamedTuple):
    """What a message holds: its events are the rows of all days and the invalid.

    The days count from 2000-01-01; a source that is not partitioned has day 0 alone. A message that cannot be read
    counts as one event, its own invalid. counts are what its rows add to the rollups.
    """

    events: int
    days: dict[int, Rows]
    invalid: list[InvalidEvent]
    counts: Counts | native.Counts


Parser = Callable[[bytes, int], Parsed]
