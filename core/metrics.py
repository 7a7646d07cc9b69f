"""Prometheus: exposition that is right with one process and with several, and the buckets that all services share.

With several worker processes each writes into the folder PROMETHEUS_MULTIPROC_DIR, which has to be set before
`prometheus_client` is imported; whoever answers /metrics adds them up.
"""

from __future__ import annotations

import os
import platform
import time
from typing import Final

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)

disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each, which nobody reads

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST
VERSION: Final = "0.1.0"

# Seconds: from a quick decode to a publish at the end of its patience.
DURATION_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0)
# Events in a batch.
BATCH_BUCKETS: Final = (1, 10, 100, 500, 1_000, 2_500, 5_000, 10_000, 20_000, 50_000)

build_info = Gauge(
    "sluice_build_info",
    "Always 1; the labels say what runs",
    ["version", "python"],  # which service it is, the target's own labels say
    multiprocess_mode="max",
)
start_time = Gauge(
    "sluice_start_time_seconds",
    "When the service started, in seconds since 1970; it changes with each restart",
    multiprocess_mode="min",  # of workers that ended, too: one that is replaced is no restart of the service
)

spans_sampled = Counter("sluice_spans_sampled", "Spans to be exported; 0 where tracing is off")
spans_exported = Counter(
    "sluice_spans_exported", "Spans that the endpoint took; those that are missing after a minute are lost"
)


def tell_build() -> None:
    """Set sluice_build_info and sluice_start_time_seconds for the service that starts now."""
    build_info.labels(VERSION, platform.python_version()).set(1)
    start_time.set(time.time())


def exposition() -> bytes:
    """The text that Prometheus scrapes: of this process, or of all worker processes together."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)
    return generate_latest(REGISTRY)
