"""The wire format of rejected events and rejected bodies in the stream REJECTED."""

from __future__ import annotations

import hashlib
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from core.events.contract import Invalid, peek_ids
from core.sources import SourceName

KEPT_BYTES: Final = 64 * 1024
"""The number of bytes of a rejected event that are kept; its full length and SHA-256 are always kept."""


class RejectedEvent(msgspec.Struct, rename="camel", frozen=True):
    """One rejected event. body has at most KEPT_BYTES; sha256 and length are those of the whole event.

    A body rejected as a whole is kept like an event without source, id and path.
    """

    source: SourceName | None
    event_id: str | None
    reason: str
    path: str
    detail: str
    length: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    sha256: bytes
    body: bytes


def rejected_event(raw: bytes, invalid: Invalid) -> RejectedEvent:
    """Return the record of an event that violates the contract."""
    source, event_id = peek_ids(raw)
    return RejectedEvent(
        source=source,
        event_id=event_id,
        reason=invalid.reason.value,
        path=invalid.path,
        detail=invalid.detail,
        length=len(raw),
        sha256=hashlib.sha256(raw).digest(),
        body=raw[:KEPT_BYTES],
    )


def rejected_body(raw: bytes, reason: str, detail: str) -> RejectedEvent:
    """Return the record of a body that is rejected as a whole."""
    sha256 = hashlib.sha256(raw).digest()
    return RejectedEvent(None, None, reason, "", detail, len(raw), sha256, raw[:KEPT_BYTES])


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(RejectedEvent).decode
