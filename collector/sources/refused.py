"""Refused events: what the gateway did not take, stored as dead letters of the door."""

from __future__ import annotations

from collector.copying import bigint, one_of, raw, text
from collector.source import Column, Source
from core.events.contract import Invalid, Reason, texts
from core.events.refused import RefusedEvent, decode
from core.events.subjects import REFUSED, SOURCES, stream_of


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
    columns=(
        Column("length", "length", bigint),
        Column("source", "source", one_of(SOURCES)),
        Column("reason", "reason", text),
        Column("path", "path", text),
        Column("detail", "detail", text),
        Column("event_id", "eventId", text),
        Column("sha256", "sha256", raw),
        Column("event", "body", raw),
    ),
)
