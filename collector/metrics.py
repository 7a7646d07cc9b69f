"""The collector's metrics. `source` is the source this program was started for."""

from __future__ import annotations

from enum import StrEnum

import asyncpg
import nats.errors
from prometheus_client import Counter, Gauge, Histogram

from collector.store.batch import Path
from core.events.dead_reasons import DEAD_REASONS
from core.health import Readiness
from core.metrics import BATCH_BUCKETS, DURATION_BUCKETS
from core.periodic import Step
from core.pg_errors import ErrorClass, classify


class FlowStage(StrEnum):
    """The stages of a batch in a collector's flow."""

    FETCH = "fetch"
    PARSE = "parse"
    STORE = "store"
    ACK = "ack"


accepted = Counter("collector_events_accepted", "Events of messages fetched for the first time", ["source"])
processed = Counter("collector_events_processed", "Events stored, each once", ["source"])
repeated = Counter("collector_events_repeated", "Events that were stored before and change nothing", ["source"])
failed = Counter("collector_events_failed", "Events that went to the dead letters", ["source", "reason"])
messages = Counter("collector_messages", "Messages confirmed after their commit", ["source"])
redelivered = Counter("collector_messages_redelivered", "Messages whose receipt stood already", ["source"])
retries = Counter("collector_store_retries", "Batches stored again after an error", ["source", "reason"])
batches_stored = Counter("collector_batches_stored", "Batches stored, by how rows were written", ["source", "path"])
conflicts = Counter("collector_store_conflicts", "Direct writes taken back because of a repeat or deadlock", ["source"])
batch_events = Histogram("collector_batch_events", "Events in a stored batch", ["source"], buckets=BATCH_BUCKETS)
stage_seconds = Histogram(
    "collector_stage_seconds", "Time of a batch in fetch, parse, store and ack", ["source", "stage"],
    buckets=DURATION_BUCKETS,
)  # fmt: skip
parse_cpu_seconds = Counter("collector_parse_cpu_seconds", "CPU time of parsing, out of the process's own", ["source"])
pending_messages = Gauge("collector_pending_messages", "Messages in the stream that are not confirmed", ["source"])
lag_seconds = Gauge("collector_lag_seconds", "Age of the oldest message that is not confirmed", ["source"])
partitions_ahead = Gauge("collector_partitions_ahead_days", "Days from today that have their partition", ["source"])
country_places = Gauge(
    "collector_country_places_free",
    "Countries that can still get rollups of their own; all sources share them",
    ["source"],
)
ledger_missing = Gauge(
    "collector_ledger_missing_messages", "Messages that left the stream without a receipt: must stay 0", ["source"]
)
ledger_uncounted = Gauge(
    "collector_ledger_uncounted_events",
    "Events stored by the receipts less those in the rollups: must stay 0",
    ["source"],
)
stranded = Counter(
    "collector_consumers_recreated", "Consumers made again to free messages that JetStream had stranded", ["source"]
)
step_success = Gauge(
    "collector_step_success_timestamp_seconds",
    "When a step beside the flow last succeeded, in seconds since 1970; at first when the collector started",
    ["source", "step"],
)
paused = Gauge("collector_paused", "1 while an operator has paused the source", ["source"])
stopped = Gauge("collector_stopped", "1 while storing fails for a reason that only an operator can remove", ["source"])
parser_in_use = Gauge("collector_parser_info", "Always 1; the label says which parser runs", ["source", "parser"])


def step(source: str, name: str, readiness: Readiness) -> Step:
    """A step beside the flow, whose last success is a metric. A collector is not ready if only an operator can remove
    the cause of its last error."""
    last = step_success.labels(source, name)
    last.set_to_current_time()
    expected = (asyncpg.PostgresError, asyncpg.InterfaceError, nats.errors.Error)
    return Step(name, last.set, expected, lambda error: classify(error) is ErrorClass.FATAL, readiness)


def begin(source: str) -> None:
    """Let every counter and histogram be there from the start: one that appears with its first event hides it from
    rate(). A gauge that is measured appears with its first measurement, because 0 would be a wrong one.
    """
    for metric in (
        *(accepted, processed, repeated, messages, redelivered, conflicts, stranded),
        *(parse_cpu_seconds, batch_events, stopped, paused),
    ):
        metric.labels(source)
    for reason in DEAD_REASONS:
        failed.labels(source, reason)
    for error_class in ErrorClass:
        if error_class is not ErrorClass.POISON:  # isolation takes the poison out of a batch
            retries.labels(source, error_class.value)
    for path in Path:
        batches_stored.labels(source, path)
    for stage in FlowStage:
        stage_seconds.labels(source, stage)
