"""The native module, built from `core/native`. `core.native` imports it if it is built."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from core.sources.shape import EventSource, Field

Shape = tuple[str, Sequence[Field], Sequence[bytes | int], Any]
"""The same as `collector.parse.native_schema.Shape`."""

class Counts:
    """The rollup counts of one message's rows."""

    @staticmethod
    def total(
        many: Sequence[Counts],
    ) -> tuple[dict[tuple[int, str, str], tuple[int, int]], dict[tuple[int, str, str | None], int]]:
        """Return the sum, as the `Counts` of `collector/parse/rollup.py`. Raises ValueError for counts of two
        parsers."""

class BatchReader:
    """Reads arrays of events for the gateway.

    instant      the key of the instant that must be in the window of time
    max_bytes    larger events are not accepted

    Raises ValueError if the shapes contradict each other.
    """

    def __new__(cls, instant: str, max_bytes: int, sources: Sequence[EventSource]) -> BatchReader: ...
    def read(
        self, body: bytes, start: int, enough: int, earliest: int, latest: int
    ) -> tuple[int | None, Mapping[str, tuple[int, bytes]]]:
        """Return where to resume, None at the end of the array; and by source the count of events and one event a line.

        Reading starts at `start`, where an element may begin. It stops before an element that is not proved to be a
        valid event of one line, or after `enough` bytes; always before an object after a comma, or at `start`. earliest
        and latest limit an event's instant (microseconds since 2000).
        """

class Parser:
    """Reads the events of one source.

    tag          the key that selects the shape
    instant      the key of the instant that must be in the window of time, and that gives a row its day
    max_bytes    larger events are not accepted

    Raises ValueError if the shapes contradict each other.
    """

    def __new__(cls, tag: str, instant: str, max_bytes: int, shapes: Sequence[Shape]) -> Parser: ...
    def rows(
        self,
        message: bytes,
        start: int,
        requests: Sequence[tuple[int, int, int, bytes]],
        otherwise: Callable[[int, int, bytes], tuple[int, bytes] | None],
    ) -> tuple[dict[int, tuple[int, bytes]], Counts]:
        """Return by day the count and bytes of rows, in order of first occurrence; and the rollup counts.

        start      where in the message the first event begins
        requests   for each: its number of events, the first and last instant allowed (microseconds since 2000), and the
                   columns that end its rows
        otherwise  called for each line that is not proved to be valid, with its position in the message, the number of
                   its request and its bytes. Returns the day and the row, or None. Its exceptions are passed on.

        The rollup counts do not include lines that `otherwise` handled. Raises ValueError if the message has fewer or
        more lines than its requests count.
        """
