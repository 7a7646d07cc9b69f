"""Count and log the outcome of a batch."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

import structlog

from collector import metrics
from collector.store.batch import Entry, Outcome, parts_of

MAX_CORRELATION_IDS: Final = 100  # per log line
log = structlog.get_logger()


def count_stored(source: str, entries: list[Entry], outcome: Outcome) -> None:
    """Count the messages and events of a batch that is stored and acknowledged, and log its dead letters."""
    metrics.messages.labels(source).inc(len(entries))
    metrics.redelivered.labels(source).inc(outcome.skipped_messages)
    metrics.processed.labels(source).inc(outcome.stored)
    metrics.repeated.labels(source).inc(outcome.repeated)
    metrics.batch_events.labels(source).observe(outcome.events)
    if outcome.path is not None:
        metrics.batches_stored.labels(source, outcome.path).inc()
    metrics.conflicts.labels(source).inc(outcome.conflicts)
    _log_dead_letters(source, outcome)
    if outcome.events and log.is_enabled_for(logging.DEBUG):
        log.debug(
            "batch stored",
            events=outcome.events,
            stored=outcome.stored,
            repeated=outcome.repeated,
            correlation_ids=list(dict.fromkeys(part.correlation_id for _, part in parts_of(entries)))[
                :MAX_CORRELATION_IDS
            ],
        )


def _log_dead_letters(source: str, outcome: Outcome) -> None:
    """Count the dead letters of a batch by reason, and log one line for all of them."""
    if not outcome.dead_letters:
        return
    reasons = Counter(dead_letter.reason.value for dead_letter in outcome.dead_letters)
    for reason, events in reasons.items():
        metrics.failed.labels(source, reason).inc(events)
    first = outcome.dead_letters[0]
    log.warning(
        "dead letters stored",
        events=len(outcome.dead_letters),
        reasons=dict(reasons),
        first={
            "correlationId": first.correlation_id,
            "streamSequence": first.stream_sequence,
            "position": first.position,
            "path": first.path,
        },
    )
