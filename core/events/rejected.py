"""A rejected event, or a rejected body, as it travels in the stream REJECTED: what was sent, and why it was not
taken."""

from __future__ import annotations

import hashlib
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from core.events.contract import Invalid, glimpse
from core.sources import SourceName

KEPT_BYTES: Final = 64 * 1024
"""Of a rejected event's bytes, this many are kept; its full length and SHA-256 always are."""


class RejectedEvent(msgspec.Struct, rename="camel", frozen=True):
    """One rejected event. body holds at most KEPT_BYTES, sha256 and length are those of the whole.

    A body that was rejected as a whole is kept like an event without source and id. Its path is empty.
    """

    source: SourceName | None
    event_id: str | None
    reason: str
    path: str
    detail: str
    length: Annotated[int, Meta(ge=0, le=2**63 - 1)]
    sha256: bytes
    body: bytes


def rejected(raw: bytes, why: Invalid) -> RejectedEvent:
    """What is kept of an event that broke the contract."""
    source, event_id = glimpse(raw)
    return RejectedEvent(
        source=source,
        event_id=event_id,
        reason=why.reason.value,
        path=why.path,
        detail=why.detail,
        length=len(raw),
        sha256=hashlib.sha256(raw).digest(),
        body=raw[:KEPT_BYTES],
    )


def rejected_body(raw: bytes, reason: str, detail: str) -> RejectedEvent:
    """What is kept of a body that was rejected as a whole."""
    sha256 = hashlib.sha256(raw).digest()
    return RejectedEvent(None, None, reason, "", detail, len(raw), sha256, raw[:KEPT_BYTES])


encode = msgspec.json.Encoder().encode
decode = msgspec.json.Decoder(RejectedEvent).decode
