"""How fresh a report is: up to which instant everything that was accepted is stored.

Invariant: a report never claims more than its rows hold. The watermark is read at the moment that they are of;
collectors write it after the events that it speaks of are stored, so it can be out of date, never wrong.
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
        Meta(description="All events accepted before this instant are in the report; null: not known yet"),
    ]
    behind_seconds: Annotated[float | None, Meta(description="Seconds from storedUntil to the reading of the report")]
    pending_messages: Annotated[
        int | None, Meta(description="Messages (batches of events) that waited to be stored at observedAt")
    ]
    observed_at: Annotated[Instant | None, Meta(description="When a collector last saw this")]


def freshness(row: asyncpg.Record) -> Freshness:
    """From a row that has a source's watermark."""
    if (until := row["stored_until"]) is None:
        return Freshness(None, None, None, None)
    behind = max((row["read_at"] - until).total_seconds(), 0.0)
    return Freshness(until, round(behind, 3), row["pending_messages"], row["observed_at"])
