"""Refused events: what the gateway did not take, stored as dead letters of the door."""

from __future__ import annotations

from collector.sources.source import Source
from core.events.contract import Invalid, Reason, texts
from core.events.refused import RefusedEvent, decode
from core.events.subjects import REFUSED, stream_of


def _read(line: bytes, _received_at: int) -> RefusedEvent:
    try:
        event = decode(line)
    except (ValueError, RecursionError) as error:
        raise Invalid(Reason.MALFORMED, "$", str(error)) from error
    if b"\\u0000" in line and any("\0" in text for _, text in texts(event)):
        raise Invalid(Reason.INVALID_TEXT, "$", "text with a NUL character")
    return event


SOURCE = Source(
    name=REFUSED,
    stream=stream_of(REFUSED),
    reader=lambda _contract: _read,
    shapes=(RefusedEvent,),
    columns={
        "length": "length",
        "source": "source",
        "reason": "reason",
        "path": "path",
        "detail": "detail",
        "event_id": "eventId",
        "sha256": "sha256",
        "event": "body",
    },
)
