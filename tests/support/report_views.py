"""A database for what reads reports: Grafana and BI tools.

Events of both sources over seven hours, with campaigns, cities, and every dimension. Breakdowns are counted up to NOON;
later quarter-hours are not counted, and one that was counted got a late event.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random

from collector.maintenance.breakdowns import BreakdownCounter
from core import postgres
from tests.support.events import NOON, Event, facebook, rfc3339, tiktok
from tests.support.report_rows import collecting
from tests.support.stack import Database

SINCE, UNTIL = NOON - timedelta(hours=5), NOON + timedelta(hours=2)
EVENTS = 600
_TYPES = {
    ("facebook", "top"): ("ad.view", "ad.view", "page.like", "comment", "video.view"),
    ("facebook", "bottom"): ("ad.click", "ad.click", "form.submission", "checkout.complete"),
    ("tiktok", "top"): ("video.view", "like", "share", "comment"),
    ("tiktok", "bottom"): ("profile.visit", "purchase", "follow"),
}


def drawn(rng: Random, since: datetime = SINCE, until: datetime = UNTIL) -> Event:
    """An event at a random instant, with skewed values."""
    at = since + (until - since) * rng.random()
    source, stage = rng.choice(list(_TYPES))
    event = (facebook if source == "facebook" else tiktok)(stage, at=at)
    event["eventType"] = rng.choice(_TYPES[source, stage])
    user, engagement = event["data"]["user"], event["data"]["engagement"]
    if source == "facebook":
        user |= {"age": rng.choice([17, 25, 36, 36, 64, 121]), "gender": rng.choice(["female", "male", "non-binary"])}
        user["location"] = {
            "country": rng.choice(["Norway", "Peru"]),
            "city": rng.choice(["Bergen", "Lima", "=1+1", ""]),
        }
        if stage == "bottom":
            engagement["campaignId"] = f"camp-{min(int(rng.expovariate(0.4)), 9)}"
    else:
        user["followers"] = rng.choice([10, 5_000, 50_000, 2_000_000])
        if stage == "top":
            engagement |= {
                "device": rng.choice(["Android", "iOS", "Desktop"]),
                "country": rng.choice(["Peru", "Chile"]),
            }
    if stage == "bottom":
        purchase = event["eventType"] in ("checkout.complete", "purchase")
        amount = str(Decimal(rng.randrange(100, 90_000)) / 100) if purchase else None
        engagement["purchaseAmount"] = amount
    return event


def events(seed: int = 1, count: int = EVENTS) -> Iterator[Event]:
    """Events at random instants."""
    rng = Random(seed)
    return (drawn(rng) for _ in range(count))


async def fill(database: Database) -> None:
    """Store the events, count breakdowns up to NOON, and store one late event."""
    async with collecting(database.collector_dsn) as collected:
        await collected.store(events())
        connection = await postgres.connect(database.collector_dsn, name="tests")
        try:
            for source in ("facebook", "tiktok"):
                assert await BreakdownCounter(connection, source).count_all(NOON) > 20
            await connection.execute(
                "INSERT INTO watermarks (source, stored_until, pending_messages)"
                " SELECT source, $1, 0 FROM unnest(enum_range(NULL::source)) AS source",
                UNTIL,
            )
        finally:
            await connection.close()
        late = facebook("bottom", at=NOON - timedelta(hours=2, minutes=7))
        late["data"]["engagement"] |= {"campaignId": "camp-late", "purchaseAmount": "1.01"}
        await collected.store([late])


def bounds(since: datetime = SINCE, until: datetime = UNTIL) -> dict[str, str]:
    """The range as parameters of a report."""
    return {"from": rfc3339(since), "to": rfc3339(until)}
