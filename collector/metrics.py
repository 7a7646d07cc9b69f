"""Metrics of the collector. The label `source` is the source that this process collects."""

from __future__ import annotations

from enum import StrEnum

import asyncpg
import nats.errors
from prometheus_client import Counter, Gauge, Histogram

from collector.store.batch import WritePath
from core.events.dead_reasons import DEAD_REASONS
from core.health import Readiness
from core.metrics import BATCH_BUCKETS, DURATION_BUCKETS
from core.periodic import PeriodicTask
from core.pg_errors import ErrorClass, classify


class FlowStage(StrEnum):
    """Stages of a batch in the collector."""

    FETCH = "fetch"
    PARSE = "parse"
    STORE = "store"
    ACK = "ack"


accepted = Counter("collector_events_accepted", "Events of messages fetched for the first time", ["source"])
processed = Counter("collector_events_processed", "Events stored, each once", ["source"])
repeated = Counter("collector_events_repeated", "Events that were already stored, and skipped", ["source"])
failed = Counter("collector_events_failed", "Events stored as dead letters", ["source", "reason"])
messages = Counter("collector_messages", "Messages acknowledged after their commit", ["source"])
redelivered = Counter("collector_messages_redelivered", "Messages skipped because they were already stored", ["source"])
retries = Counter("collector_store_retries", "Batches retried after an error", ["source", "reason"])
batches_stored = Counter(
    "collector_batches_stored", "Batches stored, by write path: direct or staged", ["source", "path"]
)
conflicts = Counter("collector_store_conflicts", "Direct writes rolled back: repeated event or deadlock", ["source"])
batch_events = Histogram("collector_batch_events", "Events in a stored batch", ["source"], buckets=BATCH_BUCKETS)
stage_seconds = Histogram(
    "collector_stage_seconds", "Time of a batch in fetch, parse, store and ack", ["source", "stage"],
    buckets=DURATION_BUCKETS,
)  # fmt: skip
parse_cpu_seconds = Counter("collector_parse_cpu_seconds", "CPU time of parsing, part of the process's", ["source"])
pending_messages = Gauge("collector_pending_messages", "Messages in the stream, not yet acknowledged", ["source"])
lag_seconds = Gauge("collector_lag_seconds", "Age of the oldest message that is not acknowledged", ["source"])
partitions_ahead = Gauge("collector_partitions_ahead_days", "Days after today that have a partition", ["source"])
free_country_rollups = Gauge(
    "collector_country_places_free",
    "Free places in the registry of countries that have their own rollups; shared by all sources",
    ["source"],
)
ledger_missing = Gauge(
    "collector_ledger_missing_messages", "Messages deleted from the stream without a receipt; must be 0", ["source"]
)
ledger_uncounted = Gauge(
    "collector_ledger_uncounted_events",
    "Events stored according to receipts, minus events in rollups; must be 0",
    ["source"],
)
breakdown_quarters = Counter(
    "collector_breakdown_quarters_counted", "Quarter-hours whose breakdowns this collector has counted", ["source"]
)
breakdown_seconds = Histogram(
    "collector_breakdown_seconds", "Time to count the breakdowns of a quarter-hour", ["source"],
    buckets=DURATION_BUCKETS,
)  # fmt: skip
breakdown_uncounted = Gauge(
    "collector_breakdown_uncounted_quarters",
    "Quarter-hours that have ended and whose breakdowns are not counted, or no longer valid: reports read their rows",
    ["source"],
)
stranded = Counter(
    "collector_consumers_recreated", "Consumers recreated because JetStream did not deliver a message", ["source"]
)
step_success = Gauge(
    "collector_step_success_timestamp_seconds",
    "Unix time of the last success of a background step; initially the start of the collector",
    ["source", "step"],
)
paused = Gauge("collector_paused", "1 while an operator has paused the source", ["source"])
stopped = Gauge("collector_stopped", "1 while storing fails and only an operator can remove the cause", ["source"])
parser_in_use = Gauge("collector_parser_info", "Always 1; the label names the parser in use", ["source", "parser"])


def step(source: str, name: str, readiness: Readiness) -> PeriodicTask:
    """Return a background step whose last success is a metric.

    The collector is not ready if only an operator can remove the cause of the step's last error.
    """
    last = step_success.labels(source, name)
    last.set_to_current_time()
    expected = (asyncpg.PostgresError, asyncpg.InterfaceError, nats.errors.Error)
    return PeriodicTask(name, last.set, expected, lambda error: classify(error) is ErrorClass.FATAL, readiness)


def initialize(source: str) -> None:
    """Create every counter and histogram series with its value 0.

    rate() does not count the first event of a series that appears with it. A measured gauge appears with its first
    measurement, because 0 would be wrong.
    """
    for metric in (
        *(accepted, processed, repeated, messages, redelivered, conflicts, stranded),
        *(parse_cpu_seconds, batch_events, stopped, paused, breakdown_quarters, breakdown_seconds),
    ):
        metric.labels(source)
    for reason in DEAD_REASONS:
        failed.labels(source, reason)
    for error_class in ErrorClass:
        if error_class is not ErrorClass.POISON:  # the isolator removes poison from a batch
            retries.labels(source, error_class.value)
    for path in WritePath:
        batches_stored.labels(source, path)
    for stage in FlowStage:
        stage_seconds.labels(source, stage)
