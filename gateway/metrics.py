"""The gateway's metrics. Children with labels are made once: `labels()` costs as much as an increment.

What every request adds to is added up in plain numbers first, and handed on four times a second and before each scrape
of this worker (`flush`): an increment in the folder that workers share costs 1.5 µs, and a request would need a dozen.

The door's ledger, once nothing is in flight:
    events received = accepted + failed + unconfirmed
and everything that is accepted was processed: events processed >= accepted.
"""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from pathlib import Path
from typing import Any, Final

from prometheus_client import Counter, Gauge, Histogram

from core.events.contract import Reason
from core.metrics import BATCH_BUCKETS, DURATION_BUCKETS
from core.sources import SOURCES, SourceName
from gateway.rejection import NotKept, Rejection

_received = Counter("gateway_events_received", "Events found in bodies that were read to their end")
_accepted = Counter("gateway_events_accepted", "Events that hold to the contract, in requests answered 202", ["source"])
_processed = Counter("gateway_events_processed", "Events published and acknowledged by JetStream", ["source"])
_failed = Counter("gateway_events_failed", "Events rejected because they break the contract", ["reason"])
_unconfirmed = Counter(
    "gateway_events_unconfirmed",
    "Events that hold to the contract, in requests answered 503: stored once or not at all",
    ["source"],
)
_not_kept = Counter(
    "gateway_rejected_events_not_kept",
    "Rejected events and bodies of which no copy reached the stream REJECTED",
    ["reason"],
)
_requests = Counter("gateway_requests", "Requests to POST /events that were answered", ["status"])
_rejections = Counter("gateway_requests_rejected", "Requests rejected as a whole, whatever their events", ["rejection"])
_stages = Histogram(
    "gateway_stage_seconds",
    "Time of one request in each step: receive reads the body, decode validates its events, publish waits for PubAcks",
    ["stage"],
    buckets=DURATION_BUCKETS,
)


class Count:
    """One counter."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._more = 0
        self.total = 0
        """Of this worker, up to the last flush."""

    def inc(self, amount: int = 1) -> None:
        """Count so many more."""
        self._more += amount

    def flush(self) -> None:
        """Hand on what came together."""
        if self._more:
            self._counter.inc(self._more)
            self.total += self._more
            self._more = 0


class Spread:
    """One histogram, counted bucket by bucket as prometheus_client's own `observe` does."""

    def __init__(self, histogram: Any) -> None:
        self._histogram = histogram
        self._bounds: list[float] = histogram._upper_bounds
        self._more = [0] * len(self._bounds)
        self._sum = 0.0

    def observe(self, amount: float) -> None:
        """One more observation."""
        self._more[bisect_left(self._bounds, amount)] += 1
        self._sum += amount

    def flush(self) -> None:
        """Hand on what came together."""
        if not any(self._more):
            return
        self._histogram._sum.inc(self._sum)
        for bucket, more in zip(self._histogram._buckets, self._more, strict=True):
            if more:
                bucket.inc(more)
        self._more = [0] * len(self._bounds)
        self._sum = 0.0


received: Final = Count(_received)
accepted: Final[dict[SourceName, Count]] = {source: Count(_accepted.labels(source)) for source in SOURCES}
processed: Final[dict[SourceName, Count]] = {source: Count(_processed.labels(source)) for source in SOURCES}
unconfirmed: Final[dict[SourceName, Count]] = {source: Count(_unconfirmed.labels(source)) for source in SOURCES}
failed: Final[dict[Reason, Counter]] = {reason: _failed.labels(reason.value) for reason in Reason}
not_kept: Final[dict[NotKept, Counter]] = {reason: _not_kept.labels(reason.value) for reason in NotKept}
rejections: Final[dict[Rejection, Counter]] = {
    rejection: _rejections.labels(rejection.value) for rejection in Rejection
}
requests: Final[dict[int, Count]] = {
    status: Count(_requests.labels(str(status))) for status in (202, 400, 401, 403, 413, 415, 422, 500, 503)
}

bytes_in_flight = Gauge("gateway_bytes_in_flight", "Bytes of bodies held now", multiprocess_mode="livesum")
bytes_in_flight_max = Gauge(
    "gateway_bytes_in_flight_max",
    "Most bytes of bodies held (GATEWAY_MAX_IN_FLIGHT_BYTES)",
    multiprocess_mode="livesum",
)
requests_in_flight = Gauge("gateway_requests_in_flight", "Requests held now", multiprocess_mode="livesum")
publish_seconds: Final = Spread(
    Histogram("gateway_publish_seconds", "From a message's first attempt to its PubAck", buckets=DURATION_BUCKETS)
)
batch_events: Final = Spread(
    Histogram("gateway_batch_events", "Events in one published message", buckets=BATCH_BUCKETS)
)
publish_retries = Counter("gateway_publish_retries", "Attempts to publish a message again after no PubAck came")
publish_full = Counter("gateway_publish_full", "Messages that a stream rejected because it has no room")
publish_unexpected_duplicates = Counter(
    "gateway_publish_unexpected_duplicates",
    "First attempts that JetStream called a duplicate: must stay 0, see the runbook",
)
reader_in_use = Gauge(
    "gateway_reader_info",
    "Always 1; the label says what reads arrays of events",
    ["reader"],
    multiprocess_mode="livemax",
)
worker_restarts = Counter("gateway_worker_restarts", "Workers that ended unasked and were started again")
cpu_seconds = Counter("gateway_cpu_seconds", "CPU time of all workers")
resident_bytes = Gauge("gateway_resident_bytes", "Memory of all workers", multiprocess_mode="livesum")

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_cpu_told = 0.0


def measure_process() -> None:
    """Tell what this worker takes: prometheus_client says that of itself in a program of one process only."""
    global _cpu_told  # noqa: PLW0603
    used = time.process_time()
    cpu_seconds.inc(used - _cpu_told)
    _cpu_told = used
    resident_bytes.set(int(Path("/proc/self/statm").read_bytes().split()[1]) * _PAGE_BYTES)


class Stages:
    """The histograms of the steps of a request."""

    RECEIVE: Final = Spread(_stages.labels("receive"))
    DECODE: Final = Spread(_stages.labels("decode"))
    PUBLISH: Final = Spread(_stages.labels("publish"))
    ANSWER: Final = Spread(_stages.labels("answer"))


_ADDED_UP: Final[tuple[Count | Spread, ...]] = (
    received,
    *(count for counts in (accepted, processed, unconfirmed, requests) for count in counts.values()),
    publish_seconds,
    batch_events,
    *(Stages.RECEIVE, Stages.DECODE, Stages.PUBLISH, Stages.ANSWER),
)


def flush() -> None:
    """Hand on what was added up."""
    for sums in _ADDED_UP:
        sums.flush()
