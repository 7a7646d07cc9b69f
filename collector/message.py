"""One JetStream message, as the collector fetches it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(slots=True, eq=False)
class Message:
    """One message.

    published_at    when JetStream stored it
    events          count from its header
    reply           subject of its acknowledgement
    replayed        whether all its events are replayed dead letters
    """

    body: bytes
    sequence: int
    published_at: datetime
    events: int
    first_delivery: bool
    reply: str
    replayed: bool = False
