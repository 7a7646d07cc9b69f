"""The only place that spells a stream, a subject or a consumer."""

from __future__ import annotations

from typing import Final

from core.sources import SOURCES, SourceName

REJECTED: Final = "rejected"
UNKNOWN: Final = "unknown"
COLLECTED: Final = (*SOURCES, REJECTED)
"""What collectors fetch, each from a stream of its own: the events of each source, and rejected events."""

GATEWAY_STATE_SUBJECT: Final = "sluice.gateway_state"
"""Where gateway workers report, once a second, how many requests they answered 500 or 503. No stream keeps it."""

# Headers of a message.
EVENTS_HEADER: Final = "Sluice-Events"
REPLAYED_HEADER: Final = "Sluice-Replayed"  # whose events were all dead letters before
MESSAGE_ID_HEADER: Final = "Nats-Msg-Id"


def events_subject(source: SourceName) -> str:
    """Where a batch of accepted events of one source is published."""
    return f"events.{source}"


def rejected_subject(source: SourceName | None) -> str:
    """Where rejected events are published; the source is None where it could not be read."""
    return f"{REJECTED}.{source or UNKNOWN}"


def stream_of(collected: str) -> str:
    """The stream that a collector of a source, or of `rejected`, reads."""
    return "REJECTED" if collected == REJECTED else f"EVENTS_{collected.upper()}"


def stream_subjects(collected: str) -> list[str]:
    """The subjects that this stream takes."""
    return [f"{REJECTED}.*"] if collected == REJECTED else [f"events.{collected}"]


def consumer_of(collected: str) -> str:
    """The durable consumer that all collectors of a source share."""
    return f"collector-{collected}"
