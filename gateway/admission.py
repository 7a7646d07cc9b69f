"""Admission: limit the bytes that one worker has in flight.

Charged are the bodies, each until its response; the objects of a body while it is read; and copies of rejected events.
Each body is charged REQUEST_BYTES more for its task, headers and response, so that tiny requests are not free.

Invariant: held_bytes <= share_bytes, unless one request alone needs more. (An idle worker accepts any body up to the
size limit.) A request over the limit is rejected at once.
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
BODIES_ONLY_PART: Final = 16  # 1/16 of the share is reserved for bodies; copies of rejected events cannot use it
MAX_WAIT_SECONDS: Final = 30
RATE_SECONDS: Final = 3.0  # time constant of the smoothed rate

log = structlog.get_logger()


class Reservation:
    """The bytes that one request holds while its `with` block runs."""

    __slots__ = ("_admission", "_body_bytes", "bytes")

    def __init__(self, admission: Admission, body_bytes: int) -> None:
        self._admission = admission
        self._body_bytes = body_bytes
        self.bytes = 0

    def __enter__(self) -> Self:
        self._admission.extend(self, self._body_bytes + REQUEST_BYTES)
        self._admission.requests += 1
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._admission.requests -= 1
        self._admission.held_bytes -= self.bytes
        self._admission.answered_bytes += self.bytes

    def grow(self, more_bytes: int) -> None:
        """Hold more bytes, for a body that is larger than announced. Raises Overloaded."""
        self._admission.extend(self, more_bytes)

    def try_reserve(self, more_bytes: int) -> bool:
        """Hold more bytes for optional data if enough is left for bodies. Return whether they were added."""
        if fits := self._admission.fits(self, more_bytes, self._admission.optional_bytes):
            self._admission.extend(self, more_bytes)
        return fits


class Admission:
    """One worker's share of GATEWAY_MAX_IN_FLIGHT_BYTES."""

    def __init__(self, share_bytes: int) -> None:
        self.share_bytes = share_bytes
        self.optional_bytes = share_bytes - share_bytes // BODIES_ONLY_PART
        metrics.bytes_in_flight_max.set(share_bytes)
        self.held_bytes = 0
        self.requests = 0
        self.answered_bytes = 0
        self._rate = 0.0  # bytes answered a second, smoothed; 0 if not known yet
        self._rate_bytes = 0
        self._rate_updated = time.monotonic()
        self._rejected = 0
        self._logged_at = 0.0

    def reserve(self, body_bytes: int) -> Reservation:
        """Return a reservation for a body. Entering its `with` block raises Overloaded if the limit is reached."""
        return Reservation(self, body_bytes)

    def extend(self, reservation: Reservation, more_bytes: int) -> None:
        """Add bytes to a reservation. Raises Overloaded."""
        if not self.fits(reservation, more_bytes, self.share_bytes):
            self._log_rejection()
            raise Overloaded(
                f"{self.held_bytes} bytes are in flight, and the limit is {self.share_bytes}",
                self.wait_seconds(),
            )
        reservation.bytes += more_bytes
        self.held_bytes += more_bytes

    def fits(self, reservation: Reservation, more_bytes: int, max_bytes: int) -> bool:
        """Return whether a request may hold more: it is the only one, or the total stays within `max_bytes`."""
        return self.held_bytes == reservation.bytes or self.held_bytes + more_bytes <= max_bytes

    def wait_seconds(self) -> int:
        """Return the seconds until all held bytes are answered at the current rate: 1 to MAX_WAIT_SECONDS."""
        if not self._rate:
            return 1
        return max(1, min(MAX_WAIT_SECONDS, math.ceil(self.held_bytes / self._rate)))

    def update_rate(self, now: float) -> None:
        """Update the smoothed rate of answered bytes. `now` is a monotonic time. Idle time does not change the rate."""
        elapsed, self._rate_updated = now - self._rate_updated, now
        answered, self._rate_bytes = self.answered_bytes - self._rate_bytes, self.answered_bytes
        if elapsed > 0 and (answered or (self.held_bytes and self._rate)):
            share = min(1.0, elapsed / RATE_SECONDS) if self._rate else 1.0
            self._rate += share * (answered / elapsed - self._rate)

    def measure(self) -> None:
        """Set the gauges of bytes, requests and process resources."""
        metrics.measure_process()
        self.update_rate(time.monotonic())
        metrics.bytes_in_flight.set(self.held_bytes)
        metrics.requests_in_flight.set(self.requests)

    def _log_rejection(self) -> None:
        # At most one line a second: a flood of rejections must not flood the log.
        self._rejected += 1
        if (now := time.monotonic()) - self._logged_at >= 1:
            log.warning("admission limit reached", held_bytes=self.held_bytes, rejected=self._rejected)
            self._logged_at, self._rejected = now, 0
