"""Events and queries drawn at random, for reports to be held to a count in plain Python.

The events crowd around the ends of quarter-hours and the nights in which clocks change; the queries do too.
"""

import random
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple
from zoneinfo import ZoneInfo

from reporter.reports.event_kinds import EVENT_KINDS
from tests.support.events import MAKERS, Event, changed

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "Asia/Kathmandu")
# Days (UTC) in which the clocks of one of these zones change, and the one after the last.
DAYS = tuple(date.fromisoformat(day) for day in (
    "2026-03-08", "2026-03-28", "2026-03-29", "2026-04-04", "2026-10-03", "2026-10-25", "2026-10-26", "2026-11-01",
))  # fmt: skip
QUARTER = timedelta(minutes=15)


class Kept(NamedTuple):
    """An event as the tests count it."""

    at: datetime
    source: str
    funnel_stage: str
    event_type: str
    amount: Decimal | None
    event: Event


def some_instant(rng: random.Random) -> datetime:
    at = datetime.combine(rng.choice(DAYS), datetime.min.time(), UTC) + QUARTER * rng.randrange(96)
    shift = rng.choice((0, 0, 1, -1, 1_000, -1_000, rng.randrange(900_000_000), 60_000_000 * rng.randrange(15)))
    return at + timedelta(microseconds=shift)


def some_event(rng: random.Random) -> Kept:
    source, stage, event_type = (str(part) for part in rng.choice(EVENT_KINDS))
    at = some_instant(rng)
    event = changed(MAKERS[source](stage, at=at), "eventType", event_type)
    amount = rng.choice((None, "0", "0.01", "203.95", "9999999999.99"))
    if stage == "bottom":
        event = changed(event, "data.engagement.purchaseAmount", amount)
    country = f"country {min(int(rng.expovariate(0.3)), 12)}"
    if source == "facebook":
        event = changed(event, "data.user.age", rng.choice((0, 17, 18, 64, 119, 120, 32_767)))
        event = changed(event, "data.user.gender", rng.choice(("male", "female", "non-binary")))
        city = rng.choice(("", "a,b", 'the "city"', f"city {rng.randrange(400)}"))
        event = changed(event, "data.user.location", {"country": country, "city": city})
        if stage == "bottom":
            event = changed(event, "data.engagement.campaignId", f"camp-{rng.randrange(20)}")
    else:
        event = changed(
            event, "data.user.followers", rng.choice((0, 999, 1_000, 99_999, 100_000, 999_999, 10**6, 2**31 - 1))
        )
        if stage == "top":
            event = changed(event, "data.engagement.device", rng.choice(("Android", "iOS", "Desktop")))
            event = changed(event, "data.engagement.country", country)
    paid = Decimal(amount) if amount is not None and event_type in ("checkout.complete", "purchase") else None
    return Kept(at, source, stage, event_type, paid, event)


def some_range(rng: random.Random, longest: timedelta) -> tuple[datetime, datetime]:
    """Bounds that often meet events or quarter-hours, or lie within the same one."""
    start = some_instant(rng)
    if rng.random() < 0.3:
        return start, start + timedelta(microseconds=rng.randrange(1, 20 * 60 * 1_000_000))
    end = some_instant(rng)
    if start == end:
        end += timedelta(microseconds=1)
    start, end = min(start, end), max(start, end)
    return start, min(end, start + longest)


def some_query(rng: random.Random, **choices: tuple[str, ...]) -> tuple[dict[str, str], datetime, datetime, str | None]:
    """A range with an interval that it allows, and for each choice one of its values or none. Some bounds are local
    times."""
    interval = rng.choice((None, "minute", "15minutes", "hour", "day", "week", "month", "quarter", "year"))
    longest = {"minute": timedelta(hours=24), "15minutes": timedelta(days=9)}.get(interval or "", timedelta(days=300))
    if interval == "hour":
        longest = timedelta(days=40)
    start, end = some_range(rng, longest)
    parameters = {"from": start.isoformat(), "to": end.isoformat(), "timeZone": rng.choice(ZONES)}
    zone = ZoneInfo(parameters["timeZone"])
    for name, at in (("from", start), ("to", end)):
        local = at.astimezone(zone)
        if rng.random() < 0.2 and not local.fold:  # a local time that occurs twice is the first of the two
            parameters[name] = local.replace(tzinfo=None).isoformat()
    if interval:
        parameters["interval"] = interval
    parameters |= {name: rng.choice(values) for name, values in choices.items() if rng.random() < 0.3}
    return parameters, start, end, interval
