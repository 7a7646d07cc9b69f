"""A message as the collector fetches it from its stream."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(slots=True, eq=False)
class Message:
    """One message. published_at is JetStream's instant of it; events is what its sender counted; replayed tells that
    all of them were dead letters before."""

    body: bytes
    sequence: int
    published_at: datetime
    events: int
    first_delivery: bool
    reply: str
    replayed: bool = False
