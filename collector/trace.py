"""Record the steps of a batch as spans in the traces of the requests whose events it holds.

A batch holds messages of many requests, and all of them share its steps. Therefore each sampled request gets its own
span with these steps, below the gateway's `publish` span. The gateway decides whether a request is sampled; the
request's traceparent holds the decision.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from collector.store.batch import Entry, parts_of
from core.correlation import is_sampled
from core.events.subjects import consumer_of, stream_of
from core.steps import Steps

if TYPE_CHECKING:
    from core.spans import Spans

MAX_REQUESTS: Final = 100  # per batch, which may hold thousands: recording one takes about 0.2 ms


def record_request_spans(spans: Spans, source: str, entries: Iterable[Entry], steps: Steps) -> None:
    """Record the spans of each sampled request of a batch that is stored and acknowledged.

    Counts the spans of requests over MAX_REQUESTS as lost.
    """
    requests = ((message, part) for message, part in parts_of(entries) if is_sampled(part.traceparent or ""))
    for number, (message, part) in enumerate(requests):
        if number >= MAX_REQUESTS:
            spans.count_skipped(1 + len(steps.ended))
            continue
        attributes: dict[str, str | int] = {
            "messaging.system": "nats",
            "messaging.destination.name": stream_of(source),
            "messaging.consumer.group.name": consumer_of(source),
            "sluice.stream_sequence": message.sequence,
            "sluice.correlation_id": part.correlation_id,
            "sluice.events": part.events,
        }
        spans.record(f"process {source}", part.traceparent, "CONSUMER", steps, attributes)
