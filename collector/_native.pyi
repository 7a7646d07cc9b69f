"""The native parser, as `collector/native` builds it."""

from collections.abc import Callable, Sequence

from collector.plan import Shape

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
    ) -> tuple[
        dict[int, tuple[int, bytes]],
        dict[tuple[int, str, str], tuple[int, int]],
        dict[tuple[int, str, str | None], int],
    ]:
        """Count and bytes of each day's rows, the days in the order in which they were first met; then the `Counts` of
        `collector/rollup.py`, but for the lines that were asked about.

        start      where in the message the first event begins
        requests   of each: its events, the first and the last instant that they may have (microseconds since 2000),
                   and the columns that end its rows
        otherwise  is asked about each line that is not proved to be valid: its position in the message, the number of
                   its request and its bytes; it gives the day and the row, or None. What it raises, this raises.

        Raises ValueError where the message has fewer or more lines than its requests count.
        """
