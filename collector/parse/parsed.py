"""Result types of parsing a message, the same for both parsers."""

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
    """A line that is not a valid event. position counts the message's events from 0; -1 is the whole message."""

    position: int
    reason: DeadReason
    path: str
    detail: str


class Parsed(NamedTuple):
    """A parsed message.

    events     rows of all days plus invalid events; 1 for a message that cannot be decoded
    days       rows by day since 2000-01-01; only day 0 for a source without partitions
    invalid    events that break the contract
    counts     what the rows add to the rollups
    """

    events: int
    days: dict[int, Rows]
    invalid: list[InvalidEvent]
    counts: Counts | native.Counts


Parser = Callable[[bytes, int], Parsed]
