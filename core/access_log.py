"""Which requests get a line of the log: all, or one of so many where there are more than the log should hold.

Errors are not asked about here: each gets its line.
"""

from __future__ import annotations

import time
from typing import Final

LINES_A_SECOND: Final = 100  # of one process: 15 µs of CPU each


class Sampler:
    """Chooses requests so that about LINES_A_SECOND are logged, by how many came in the second before."""

    def __init__(self, lines_a_second: int = LINES_A_SECOND) -> None:
        self._lines = lines_a_second
        self._second = 0
        self._seen = 0
        self._each = 1

    def sample(self) -> int:
        """Return how many requests a line of this one represents; 0 if it is not logged."""
        if (second := int(time.monotonic())) != self._second:
            before = self._seen if second == self._second + 1 else 0
            self._each = max(1, -(-before // self._lines))
            self._second, self._seen = second, 0
        self._seen += 1
        if self._seen > self._lines * self._each:  # more than the second before
            self._each *= 2
        return 0 if (self._seen - 1) % self._each else self._each
