"""Everything is stopped and started again on the same folder: nothing is forgotten, and nothing counts twice."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from tests.support.events import NOON, Event, facebook, tiktok
from tests.support.system import System

DAY = timedelta(days=1)
EARLIER = NOON - DAY
EVENTS = 500


def some_events(at: Any) -> list[Event]:
    """Events of every kind within some minutes, all different."""
    return [
        maker("top" if number % 3 else "bottom", at=at + timedelta(seconds=number))
        for number in range(EVENTS)
        for maker in (facebook, tiktok)
    ]


@dataclass
class Before:
    """What was sent before the stop, and what the reports of yesterday said then."""

    stored: list[Event]
    waiting: list[Event]
    figures: dict[str, Any]


@pytest.fixture(scope="module")
async def before(system: System) -> Before:
    """Some events are stored, others wait in the streams without collectors; then all is stopped and started."""
    stored, waiting = some_events(NOON), some_events(EARLIER)
    assert (await system.post(stored)).status_code == 202
    await system.until_stored()
    figures = await system.figures(NOON, NOON + DAY)
    for name in ("fb-collector", "ttk-collector"):
        await system.supervisor.stop(name)
    assert (await system.post(waiting)).status_code == 202
    await system.stop()
    await system.start()
    return Before(stored, waiting, figures)


async def test_reports_say_the_same_after_a_restart(system: System, before: Before) -> None:
    """All three reports, number for number."""
    assert before.figures["events"]["totals"]["events"] == len(before.stored)
    assert await system.figures(NOON, NOON + DAY) == before.figures


async def test_what_waited_in_the_streams_is_stored_after_the_start(system: System, before: Before) -> None:
    """202 holds across a stop: events that no collector had taken yet are in the reports of the next run."""
    await system.until_stored()
    report = await system.report("events", EARLIER, EARLIER + DAY)
    assert report["totals"]["events"] == len(before.waiting)


async def test_events_sent_again_after_a_restart_change_nothing(system: System, before: Before) -> None:
    """JetStream's memory of message ids ends with its process; that of the tables does not."""
    await system.until_stored()
    figures = await system.figures(EARLIER, NOON + DAY)
    answer = await system.post([*before.stored, *before.waiting])
    assert answer.json()["accepted"] == len(before.stored) + len(before.waiting)
    await system.until_stored()
    assert await system.figures(EARLIER, NOON + DAY) == figures
    assert (await system.ledger()).events("repeated") == answer.json()["accepted"]
