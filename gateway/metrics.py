"""The gateway's metrics. Children with labels are created once, because `labels()` costs as much as an increment.

Values that change with every request are buffered in plain numbers. `flush` writes them four times a second and before
each scrape of this worker. An increment in the folder that the workers share costs 1.5 µs, and a request needs a dozen.

The gateway's ledger, when nothing is in flight:
    events received = accepted + failed + unconfirmed
Every accepted event was processed: events processed >= accepted.
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

_received = Counter("gateway_events_received", "Events in bodies that were read completely")
_accepted = Counter("gateway_events_accepted", "Valid events in requests answered 202", ["source"])
_processed = Counter("gateway_events_processed", "Events published and acknowledged by JetStream", ["source"])
_failed = Counter("gateway_events_failed", "Invalid events, which were rejected", ["reason"])
_unconfirmed = Counter(
    "gateway_events_unconfirmed",
    "Valid events in requests answered 503: stored once or not at all",
    ["source"],
)
_not_kept = Counter(
    "gateway_rejected_events_not_kept",
    "Rejected events and bodies that are not in the stream REJECTED",
    ["reason"],
)
_requests = Counter("gateway_requests", "Answered requests to POST /events", ["status"])
_rejections = Counter("gateway_requests_rejected", "Requests rejected as a whole", ["rejection"])
_stages = Histogram(
    "gateway_stage_seconds",
    "Time of one request in each stage: receive reads the body, decode validates events, publish waits for PubAcks",
    ["stage"],
    buckets=DURATION_BUCKETS,
)


class BufferedCounter:
    """A counter that is buffered until `flush`."""

    def __init__(self, counter: Counter) -> None:
        self._counter = counter
        self._pending = 0
        self.total = 0
        """Of this worker, up to the last flush."""

    def inc(self, amount: int = 1) -> None:
        """Add to the counter."""
        self._pending += amount

    def flush(self) -> None:
        """Write the buffered amount to the counter."""
        if self._pending:
            self._counter.inc(self._pending)
            self.total += self._pending
            self._pending = 0


class BufferedHistogram:
    """A histogram that is buffered until `flush`, with the buckets of prometheus_client."""

    def __init__(self, histogram: Any) -> None:
        self._histogram = histogram
        self._bounds: list[float] = histogram._upper_bounds
        self._pending = [0] * len(self._bounds)
        self._sum = 0.0

    def observe(self, amount: float) -> None:
        """Add one observation."""
        self._pending[bisect_left(self._bounds, amount)] += 1
        self._sum += amount

    def flush(self) -> None:
        """Write the buffered observations to the histogram."""
        if not any(self._pending):
            return
        self._histogram._sum.inc(self._sum)
        for bucket, pending in zip(self._histogram._buckets, self._pending, strict=True):
            if pending:
                bucket.inc(pending)
        self._pending = [0] * len(self._bounds)
        self._sum = 0.0


received: Final = BufferedCounter(_received)
accepted: Final[dict[SourceName, BufferedCounter]] = {
    source: BufferedCounter(_accepted.labels(source)) for source in SOURCES
}
processed: Final[dict[SourceName, BufferedCounter]] = {
    source: BufferedCounter(_processed.labels(source)) for source in SOURCES
}
unconfirmed: Final[dict[SourceName, BufferedCounter]] = {
    source: BufferedCounter(_unconfirmed.labels(source)) for source in SOURCES
}
failed: Final[dict[Reason, Counter]] = {reason: _failed.labels(reason.value) for reason in Reason}
not_kept: Final[dict[NotKept, Counter]] = {reason: _not_kept.labels(reason.value) for reason in NotKept}
rejections: Final[dict[Rejection, Counter]] = {
    rejection: _rejections.labels(rejection.value) for rejection in Rejection
}
requests: Final[dict[int, BufferedCounter]] = {
    status: BufferedCounter(_requests.labels(str(status))) for status in (202, 400, 401, 403, 413, 415, 422, 500, 503)
}

bytes_in_flight = Gauge("gateway_bytes_in_flight", "Bytes in flight", multiprocess_mode="livesum")
bytes_in_flight_max = Gauge(
    "gateway_bytes_in_flight_max",
    "Limit of bytes in flight (GATEWAY_MAX_IN_FLIGHT_BYTES)",
    multiprocess_mode="livesum",
)
requests_in_flight = Gauge("gateway_requests_in_flight", "Requests in flight", multiprocess_mode="livesum")
publish_seconds: Final = BufferedHistogram(
    Histogram(
        "gateway_publish_seconds",
        "Time from the first attempt to publish a message to its PubAck",
        buckets=DURATION_BUCKETS,
    )
)
batch_events: Final = BufferedHistogram(
    Histogram("gateway_batch_events", "Events in one published message", buckets=BATCH_BUCKETS)
)
publish_retries = Counter("gateway_publish_retries", "Repeated attempts to publish a message without a PubAck")
publish_full = Counter("gateway_publish_full", "Messages that JetStream rejected because the stream is full")
publish_unexpected_duplicates = Counter(
    "gateway_publish_unexpected_duplicates",
    "First attempts that JetStream reported as duplicates: must stay 0, see the runbook",
)
reader_in_use = Gauge(
    "gateway_reader_info",
    "Always 1; the label is the implementation that reads arrays of events",
    ["reader"],
    multiprocess_mode="livemax",
)
worker_restarts = Counter("gateway_worker_restarts", "Workers that exited unexpectedly and were restarted")
cpu_seconds = Counter("gateway_cpu_seconds", "CPU time of all workers")
resident_bytes = Gauge("gateway_resident_bytes", "Memory of all workers", multiprocess_mode="livesum")

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_cpu_counted = 0.0


def measure_process() -> None:
    """Set CPU time and memory of this worker; prometheus_client does so only in programs of one process."""
    global _cpu_counted  # noqa: PLW0603
    used = time.process_time()
    cpu_seconds.inc(used - _cpu_counted)
    _cpu_counted = used
    resident_bytes.set(int(Path("/proc/self/statm").read_bytes().split()[1]) * _PAGE_BYTES)


class Stages:
    """The histograms of the stages of a request."""

    RECEIVE: Final = BufferedHistogram(_stages.labels("receive"))
    DECODE: Final = BufferedHistogram(_stages.labels("decode"))
    PUBLISH: Final = BufferedHistogram(_stages.labels("publish"))
    ANSWER: Final = BufferedHistogram(_stages.labels("answer"))


_BUFFERED: Final[tuple[BufferedCounter | BufferedHistogram, ...]] = (
    received,
    *(count for counts in (accepted, processed, unconfirmed, requests) for count in counts.values()),
    publish_seconds,
    batch_events,
    *(Stages.RECEIVE, Stages.DECODE, Stages.PUBLISH, Stages.ANSWER),
)


def flush() -> None:
    """Write all buffered values."""
    for buffered in _BUFFERED:
        buffered.flush()
