"""How much may be in flight: the bytes of all bodies that a worker holds, each until its answer.

Invariant: held <= the worker's share, unless one body alone is larger than it. (A body up to the size limit is
legal: an idle worker takes it.) What finds no room is refused at once and costs nothing more.

Each body is charged REQUEST_BYTES beside its own, for what its task, headers and answer take: otherwise a flood of
tiny requests would be free.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from gateway import metrics
from gateway.refusal import Overloaded

REQUEST_BYTES: Final = 4096

log = structlog.get_logger()


class Hold:
    """The room that one request holds."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.bytes = 0

    def grow(self, more_bytes: int) -> None:
        """Hold more, as a body turns out larger while it is inflated. Raises Overloaded."""
        self._admission.take(self, more_bytes)


class Admission:
    """One worker's share of GATEWAY_MAX_IN_FLIGHT_BYTES."""

    def __init__(self, share_bytes: int) -> None:
        self.share_bytes = share_bytes
        metrics.bytes_in_flight_max.set(share_bytes)
        self.held_bytes = 0
        self.requests = 0
        self._refused = 0
        self._told = 0.0

    @contextmanager
    def hold(self, body_bytes: int) -> Iterator[Hold]:
        """Hold room for a body until the block ends. Raises Overloaded where there is none."""
        hold = Hold(self)
        self.take(hold, body_bytes + REQUEST_BYTES)
        self.requests += 1
        try:
            yield hold
        finally:
            self.requests -= 1
            self.held_bytes -= hold.bytes

    def take(self, hold: Hold, more_bytes: int) -> None:
        """Give more room to one request. Raises Overloaded."""
        others = self.held_bytes - hold.bytes
        if others and self.held_bytes + more_bytes > self.share_bytes:
            self._tell()
            raise Overloaded(f"{self.held_bytes} bytes are in flight and {self.share_bytes} may be: no room for more")
        hold.bytes += more_bytes
        self.held_bytes += more_bytes

    def measure(self) -> None:
        """Set the gauges to what is held, and what the process takes, now."""
        metrics.measure_process()
        metrics.bytes_in_flight.set(self.held_bytes)
        metrics.requests_in_flight.set(self.requests)

    def _tell(self) -> None:
        # One line a second at most: a flood of refusals is no reason for a flood of lines.
        self._refused += 1
        if (now := time.monotonic()) - self._told >= 1:
            log.warning("no room for bodies", held_bytes=self.held_bytes, refused=self._refused)
            self._told, self._refused = now, 0
