"""Tell what a batch did to the requests whose events it held, as spans of each request's own trace.

A batch holds messages of many requests, and its steps are the same for all of them: so each sampled request gets them
under a span of its own, below the gateway's `publish`. That it is sampled was decided at the door, and stands in its
traceparent.
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

REQUESTS_MOST: Final = 100  # of a batch, which may hold thousands: telling of one takes some 0.2 ms


def tell_requests(spans: Spans, source: str, entries: Iterable[Entry], steps: Steps) -> None:
    """Tell of each sampled request of a batch that is stored and confirmed. Past the bound they are counted as lost."""
    requests = ((message, part) for message, part in parts_of(entries) if is_sampled(part.traceparent or ""))
    for number, (message, part) in enumerate(requests):
        if number >= REQUESTS_MOST:
            spans.leave_out(1 + len(steps.ended))
            continue
        told: dict[str, str | int] = {
            "messaging.system": "nats",
            "messaging.destination.name": stream_of(source),
            "messaging.consumer.group.name": consumer_of(source),
            "sluice.stream_sequence": message.sequence,
            "sluice.correlation_id": part.correlation_id,
            "sluice.events": part.events,
        }
        spans.record(f"process {source}", part.traceparent, "CONSUMER", steps, told)
