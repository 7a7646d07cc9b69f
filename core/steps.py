"""The instants that spans are made of."""

from __future__ import annotations

from time import time_ns


class Steps:
    """When something began, and when each of its steps ended, in nanoseconds since 1970. Each begins with the one
    before it ended."""

    __slots__ = ("began", "ended")

    def __init__(self) -> None:
        self.began = time_ns()
        self.ended: list[tuple[str, int]] = []

    def done(self, step: str) -> None:
        """This step has ended now."""
        self.ended.append((step, time_ns()))
