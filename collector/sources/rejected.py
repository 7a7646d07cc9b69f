"""The source of rejected events: events that failed the gateway's validation, kept as dead letters."""

from __future__ import annotations

from collector.sources.source import Source
from core.events.contract import Invalid, Reason, texts
from core.events.rejected import RejectedEvent, decode
from core.events.subjects import REJECTED, stream_of


def _read(line: bytes, _received_at: int) -> RejectedEvent:
    try:
        event = decode(line)
    except (ValueError, RecursionError) as error:
        raise Invalid(Reason.MALFORMED, "$", str(error)) from error
    if b"\\u0000" in line and any("\0" in text for _, text in texts(event)):
        raise Invalid(Reason.INVALID_TEXT, "$", "text with a NUL character")
    return event


SOURCE = Source(
    name=REJECTED,
    stream=stream_of(REJECTED),
    reader=lambda _contract: _read,
    shapes=(RejectedEvent,),
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
