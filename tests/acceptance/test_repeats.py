"""An event is stored once, however it is sent again: no count of any report changes."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from random import Random

import pytest

from tests.support.events import NOON, Event, facebook, rfc3339, tiktok
from tests.support.system import System

MINUTE = timedelta(minutes=1)
EVENTS = 200


def events_at(minute: datetime) -> list[Event]:
    """Different events of every kind, all within this minute."""
    return [
        maker("top" if number % 3 else "bottom", at=minute + timedelta(milliseconds=number))
        for number in range(EVENTS)
        for maker in (facebook, tiktok)
    ]


async def the_same_request(system: System, events: list[Event]) -> None:
    await system.post(events)


async def other_batches_and_another_order(system: System, events: list[Event]) -> None:
    """In between new events, and spread over several requests."""
    rng = Random("order")
    shuffled = rng.sample(events, len(events))
    new = [maker(at=NOON + timedelta(hours=5)) for maker in (facebook, tiktok) for _ in range(100)]
    mixed = rng.sample(shuffled + new, len(shuffled) + len(new))
    for start in range(0, len(mixed), 70):
        await system.post(mixed[start : start + 70])


async def twice_in_one_request(system: System, events: list[Event]) -> None:
    await system.post([*events, *reversed(events)])


async def one_by_one(system: System, events: list[Event]) -> None:
    """Small requests share messages: a message then holds the same event several times."""
    await asyncio.gather(*(system.post([event]) for event in events[:40] for _ in range(3)))


async def many_times_at_once(system: System, events: list[Event]) -> None:
    await asyncio.gather(*(system.post(events) for _ in range(6)))


async def with_the_instant_in_another_zone(system: System, events: list[Event]) -> None:
    """The same instant in other words is the same timestamp."""

    def moved(event: Event) -> Event:
        at = datetime.fromisoformat(event["timestamp"])
        return event | {"timestamp": rfc3339(at + timedelta(hours=2)).replace("Z", "+02:00")}

    await system.post([moved(event) for event in events])


AGAIN = (
    the_same_request,
    other_batches_and_another_order,
    twice_in_one_request,
    one_by_one,
    many_times_at_once,
    with_the_instant_in_another_zone,
)


@pytest.mark.parametrize("again", AGAIN)
async def test_sending_again_changes_no_report(
    system: System, again: Callable[[System, list[Event]], Awaitable[None]]
) -> None:
    """All three reports say the same before and after, and the ledger reports every repeat."""
    minute = NOON + AGAIN.index(again) * MINUTE
    events = events_at(minute)
    assert (await system.post(events)).status_code == 202
    await system.until_stored()
    before = await system.figures(minute, minute + MINUTE)
    repeated = (await system.ledger()).events("repeated")
    assert before["events"]["totals"]["events"] == len(events)

    await again(system, events)
    await system.until_stored()
    assert await system.figures(minute, minute + MINUTE) == before
    assert (await system.ledger()).events("repeated") > repeated


async def test_events_that_are_new_twice_at_once_count_once(system: System) -> None:
    """Whichever of two simultaneous requests comes first, each event counts once."""
    minute = NOON - MINUTE
    events = events_at(minute)
    answers = await asyncio.gather(*(system.post(events) for _ in range(4)))
    assert [answer.json()["accepted"] for answer in answers] == 4 * [len(events)]
    await system.until_stored()
    figures = await system.figures(minute, minute + MINUTE)
    purchases = sum(event["eventType"] in ("checkout.complete", "purchase") for event in events)
    assert figures["events"]["totals"]["events"] == len(events)
    assert figures["revenue"]["totals"]["purchases"] == purchases
    assert figures["demographics"]["totals"]["events"] == len(events)


async def test_the_same_id_at_another_time_is_another_event(system: System) -> None:
    """Source, id and timestamp together make an event: only one that repeats all three is a repeat."""
    minute = NOON - 3 * MINUTE
    first = facebook(at=minute, event_id="fb-same")
    later = facebook(at=minute + timedelta(milliseconds=1), event_id="fb-same")
    other = tiktok(at=minute, event_id="fb-same")
    await system.post([first, later, other, first])
    await system.until_stored()
    report = await system.report("events", minute, minute + MINUTE, groupBy="source")
    assert [(row["source"], row["events"]) for row in report["rows"]] == [("facebook", 2), ("tiktok", 1)]
