"""How much may be in flight: the bytes of all bodies that a worker holds, each until its answer, and of what is made of
them: elements while they are read, copies of rejected events.

Invariant: held <= the worker's share, unless one request alone needs more than it. (A body up to the size limit is
legal: an idle worker takes it.) What finds no room is rejected at once and costs nothing more.

Each body is charged REQUEST_BYTES beside its own, for what its task, headers and answer take: otherwise a flood of
tiny requests would be free.
"""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import Final, Self

import structlog

from gateway import metrics
from gateway.rejection import Overloaded

REQUEST_BYTES: Final = 4096
LEFT_PART: Final = 16  # one part in so many of the share is left to bodies by what may as well be left out
LONGEST_WAIT_SECONDS: Final = 30
RATE_SECONDS: Final = 3.0  # over which the rate is smoothed

log = structlog.get_logger()


class Reservation:
    """The room that one request holds while its `with` block lasts."""

    __slots__ = ("_admission", "_body_bytes", "bytes")

    def __init__(self, admission: Admission, body_bytes: int) -> None:
        self._admission = admission
        self._body_bytes = body_bytes
        self.bytes = 0

    def __enter__(self) -> Self:
        self._admission.take(self, self._body_bytes + REQUEST_BYTES)
        self._admission.requests += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._admission.requests -= 1
        self._admission.held_bytes -= self.bytes
        self._admission.answered_bytes += self.bytes

    def grow(self, more_bytes: int) -> None:
        """Hold more, as a body turns out larger while it is inflated and read. Raises Overloaded."""
        self._admission.take(self, more_bytes)

    def spare(self, more_bytes: int) -> bool:
        """Hold more for what may as well be left out, if that leaves room for bodies; whether it did."""
        if fits := self._admission.fits(self, more_bytes, self._admission.spare_bytes):
            self._admission.take(self, more_bytes)
        return fits


class Admission:
    """One worker's share of GATEWAY_MAX_IN_FLIGHT_BYTES."""

    def __init__(self, share_bytes: int) -> None:
        self.share_bytes = share_bytes
        self.spare_bytes = share_bytes - share_bytes // LEFT_PART
        metrics.bytes_in_flight_max.set(share_bytes)
        self.held_bytes = 0
        self.requests = 0
        self.answered_bytes = 0
        self._rate = 0.0  # bytes answered a second of late; 0 while nothing is known
        self._learned_bytes = 0
        self._learned = time.monotonic()
        self._rejected = 0
        self._told = 0.0

    def hold(self, body_bytes: int) -> Reservation:
        """Room for a body, held in a `with` block, whose start raises Overloaded where there is none."""
        return Reservation(self, body_bytes)

    def take(self, hold: Reservation, more_bytes: int) -> None:
        """Give more room to one request. Raises Overloaded."""
        if not self.fits(hold, more_bytes, self.share_bytes):
            self._tell()
            raise Overloaded(
                f"{self.held_bytes} bytes are in flight and {self.share_bytes} may be: no room for more",
                self.wait_seconds(),
            )
        hold.bytes += more_bytes
        self.held_bytes += more_bytes

    def fits(self, hold: Reservation, more_bytes: int, most_bytes: int) -> bool:
        """Whether one request may have more room: while it is alone, or while no more than that is held by all."""
        return self.held_bytes == hold.bytes or self.held_bytes + more_bytes <= most_bytes

    def wait_seconds(self) -> int:
        """How long it takes, at the rate of late, until all that is held is answered: 1 to LONGEST_WAIT_SECONDS."""
        if not self._rate:
            return 1
        return max(1, min(LONGEST_WAIT_SECONDS, math.ceil(self.held_bytes / self._rate)))

    def learn(self, now: float) -> None:
        """Take the rate at which bodies are answered up to `now`, a monotonic time. Idle times teach nothing."""
        elapsed, self._learned = now - self._learned, now
        answered, self._learned_bytes = self.answered_bytes - self._learned_bytes, self.answered_bytes
        if elapsed > 0 and (answered or (self.held_bytes and self._rate)):
            share = min(1.0, elapsed / RATE_SECONDS) if self._rate else 1.0
            self._rate += share * (answered / elapsed - self._rate)

    def measure(self) -> None:
        """Set the gauges to what is held, and what the process takes, now."""
        metrics.measure_process()
        self.learn(time.monotonic())
        metrics.bytes_in_flight.set(self.held_bytes)
        metrics.requests_in_flight.set(self.requests)

    def _tell(self) -> None:
        # One line a second at most: a flood of rejections is no reason for a flood of lines.
        self._rejected += 1
        if (now := time.monotonic()) - self._told >= 1:
            log.warning("no room for bodies", held_bytes=self.held_bytes, rejected=self._rejected)
            self._told, self._rejected = now, 0
