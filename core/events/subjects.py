"""Names of streams, subjects and consumers. No other module spells them."""

from __future__ import annotations

from typing import Final

from core.sources import SOURCES, SourceName

REJECTED: Final = "rejected"
UNKNOWN: Final = "unknown"
COLLECTED: Final = (*SOURCES, REJECTED)
"""What collectors read, each from its own stream: the events of each source, and rejected events."""

GATEWAY_STATE_SUBJECT: Final = "sluice.gateway_state"
"""Gateway workers publish here, once a second, how many requests they answered with 500 or 503. No stream stores it."""

# Message headers.
EVENTS_HEADER: Final = "Sluice-Events"
REPLAYED_HEADER: Final = "Sluice-Replayed"  # all events of the message were dead letters
MESSAGE_ID_HEADER: Final = "Nats-Msg-Id"


def events_subject(source: SourceName) -> str:
    """Return the subject for accepted events of a source."""
    return f"events.{source}"


def rejected_subject(source: SourceName | None) -> str:
    """Return the subject for rejected events; the source is None if it could not be read."""
    return f"{REJECTED}.{source or UNKNOWN}"


def stream_of(collected: str) -> str:
    """Return the stream of a source, or of `rejected`."""
    return "REJECTED" if collected == REJECTED else f"EVENTS_{collected.upper()}"


def stream_subjects(collected: str) -> list[str]:
    """Return the subjects of this stream."""
    return [f"{REJECTED}.*"] if collected == REJECTED else [f"events.{collected}"]


def consumer_of(collected: str) -> str:
    """Return the durable consumer that all collectors of a source share."""
    return f"collector-{collected}"
