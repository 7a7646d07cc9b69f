"""Freshness of a report: the instant up to which every accepted event is stored.

Invariant: freshness never claims more than the rows of the report hold. It is read in the same snapshot as the rows.
Collectors write a watermark after the events before it are stored, so a watermark can be late but never early.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import asyncpg
import msgspec
from msgspec import Meta

Instant = Annotated[datetime, Meta(tz=True)]


class Freshness(msgspec.Struct, rename="camel", frozen=True):
    """Freshness of one source."""

    stored_until: Annotated[
        Instant | None,
        Meta(description="All events accepted before this instant are in the report; null if not known yet"),
    ]
    behind_seconds: Annotated[
        float | None, Meta(description="Seconds between storedUntil and the time when the report was read")
    ]
    pending_messages: Annotated[
        int | None, Meta(description="Messages (batches of events) not stored yet at observedAt")
    ]
    observed_at: Annotated[Instant | None, Meta(description="When a collector last reported this")]


def freshness(row: asyncpg.Record) -> Freshness:
    """Return the freshness of a row that has a source's watermark; all fields None if there is none."""
    if (until := row["stored_until"]) is None:
        return Freshness(None, None, None, None)
    behind = max((row["read_at"] - until).total_seconds(), 0.0)
    return Freshness(until, round(behind, 3), row["pending_messages"], row["observed_at"])
