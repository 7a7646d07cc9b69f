"""The instants of an operation and its steps, from which spans are made."""

from __future__ import annotations

from time import time_ns


class Steps:
    """The start of an operation and the end of each step, in nanoseconds since 1970.

    Each step starts when the step before it ended.
    """

    __slots__ = ("began", "ended")

    def __init__(self) -> None:
        self.began = time_ns()
        self.ended: list[tuple[str, int]] = []

    def done(self, step: str) -> None:
        """Record that this step ends now."""
        self.ended.append((step, time_ns()))
