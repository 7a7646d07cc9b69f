"""Sample the access log: log every request, or one of several if there are too many.

Failed requests are always logged; they are not passed to the sampler.
"""

from __future__ import annotations

import time
from typing import Final

LINES_A_SECOND: Final = 100  # of one process; a line costs 15 µs of CPU


class Sampler:
    """Sample requests so that about LINES_A_SECOND are logged, based on the rate of the second before."""

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
        if self._seen > self._lines * self._each:  # more than in the second before
            self._each *= 2
        return 0 if (self._seen - 1) % self._each else self._each
