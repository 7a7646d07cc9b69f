"""The native module, as `core/native` builds it. `core.native` imports it where it is built."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from core.sources.shape import EventSource, Field

Shape = tuple[str, Sequence[Field], Sequence[bytes | int], Any]
"""As `collector.parse.native_schema.Shape`."""

class Counts:
    """What a message's rows add to the rollups."""

    @staticmethod
    def total(
        many: Sequence[Counts],
    ) -> tuple[dict[tuple[int, str, str], tuple[int, int]], dict[tuple[int, str, str | None], int]]:
        """All of these together, as the `Counts` of `collector/parse/rollup.py`. Raises ValueError where they are of
        two parsers."""

class BatchReader:
    """What reads arrays of events at the gateway's reader.

    instant      the key of the instant that the window of time is about
    most_bytes   an event of more is not taken

    Raises ValueError where the shapes do not fit together.
    """

    def __new__(cls, instant: str, most_bytes: int, sources: Sequence[EventSource]) -> BatchReader: ...
    def read(
        self, body: bytes, start: int, enough: int, earliest: int, latest: int
    ) -> tuple[int | None, Mapping[str, tuple[int, bytes]]]:
        """Where to go on, None where the array is at its end; and by source the events read: count, and one a line.

        It starts at `start`, where an element may begin, and stops before an element that is not proved to be a valid
        event of one line, or once it has read `enough` bytes; always before an object that follows a comma, or at
        `start`. earliest and latest bound an event's instant (microseconds since 2000).
        """

class Parser:
    """What reads the events of one source.

    tag          the key that chooses the shape
    instant      the key of the instant that the window of time is about, and that gives a row its day
    most_bytes   an event of more is not taken

    Raises ValueError where the shapes do not fit together.
    """

    def __new__(cls, tag: str, instant: str, most_bytes: int, shapes: Sequence[Shape]) -> Parser: ...
    def rows(
        self,
        message: bytes,
        start: int,
        requests: Sequence[tuple[int, int, int, bytes]],
        otherwise: Callable[[int, int, bytes], tuple[int, bytes] | None],
    ) -> tuple[dict[int, tuple[int, bytes]], Counts]:
        """Count and bytes of each day's rows, the days in the order in which they were first met; and what they add to
        the rollups, but for the lines that were asked about.

        start      where in the message the first event begins
        requests   of each: its events, the first and the last instant that they may have (microseconds since 2000),
                   and the columns that end its rows
        otherwise  is asked about each line that is not proved to be valid: its position in the message, the number of
                   its request and its bytes; it gives the day and the row, or None. What it raises, this raises.

        Raises ValueError where the message has fewer or more lines than its requests count.
        """
