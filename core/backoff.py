"""Pauses between failed attempts."""

from __future__ import annotations

from collections.abc import Iterator


def backoff(first_seconds: float, max_seconds: float) -> Iterator[float]:
    """Yield pauses in seconds, without end: each is twice as long as the one before, up to `max_seconds`."""
    seconds = first_seconds
    while True:
        yield seconds
        seconds = min(2 * seconds, max_seconds)
