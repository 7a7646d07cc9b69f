"""The collector's metrics. `source` is the source this program was started for."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from core.events.contract import Reason
from core.metrics import BATCH_BUCKETS, DURATION_BUCKETS

DEAD_FOR: Final = (*(reason.value for reason in Reason), "unstorable", "below_floor")
"""Why an accepted event becomes a dead letter: the closed list."""
RETRIED_FOR: Final = ("wait", "partition")
"""Why a batch is stored again, by `collector.verdict.Verdict`."""

PATHS: Final = ("direct", "staged")
"""How a batch's rows are written, by `collector.write.Path`."""

accepted = Counter("collector_events_accepted", "Events of messages fetched for the first time", ["source"])
processed = Counter("collector_events_processed", "Events stored, each once", ["source"])
repeated = Counter("collector_events_repeated", "Events that were stored before and change nothing", ["source"])
failed = Counter("collector_events_failed", "Events that went to the dead letters", ["source", "reason"])
messages = Counter("collector_messages", "Messages confirmed after their commit", ["source"])
redelivered = Counter("collector_messages_redelivered", "Messages whose receipt stood already", ["source"])
retries = Counter("collector_store_retries", "Batches stored again after an error that passes", ["source", "reason"])
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
    "collector_consumers_remade", "Consumers made again to free messages that JetStream had stranded", ["source"]
)
paused = Gauge("collector_paused", "1 while an operator has paused the source", ["source"])
stopped = Gauge("collector_stopped", "1 where the source stopped for a reason that waiting does not mend", ["source"])
parser_in_use = Gauge("collector_parser_info", "Always 1; the label says which parser runs", ["source", "parser"])


def begin(source: str) -> None:
    """Let every series be there from the start: a counter that appears with its first event hides it from rate()."""
    stopped.labels(source).set(0)
    conflicts.labels(source)
    stranded.labels(source)
    for reason in DEAD_FOR:
        failed.labels(source, reason)
    for reason in RETRIED_FOR:
        retries.labels(source, reason)
    for path in PATHS:
        batches_stored.labels(source, path)
