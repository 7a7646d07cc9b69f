"""Reports are fresh, and say truthfully how fresh: what was accepted before `storedUntil` is in them, always."""

import itertools
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.sources import SOURCES, SourceName
from ops.local.services import COLLECTORS
from tests.support.events import MAKERS, facebook, tiktok
from tests.support.freshness import Watched, watching
from tests.support.processes import stopped
from tests.support.system import System
from tests.support.waiting import eventually

HOUR = timedelta(hours=1)
COLLECTOR_OF = {source: name for name, source in COLLECTORS.items()}
FALL_BEHIND_SECONDS = 1.5


async def test_an_accepted_event_comes_into_the_report(system: System) -> None:
    """Probes of both sources, each alone in its millisecond and in the report of that, with nothing sent after it."""
    for number, maker in enumerate(12 * (facebook, tiktok)):
        at = datetime.now(UTC).replace(microsecond=number * 1000)

        async def shown(at: datetime = at) -> bool:
            report = await system.report("events", at, at + timedelta(milliseconds=1))
            return bool(report["totals"]["events"] == 1)

        assert (await system.post([maker("bottom", at=at)])).status_code == 202
        await eventually(shown, what="the probe is in the report", every=0.01)


@asynccontextmanager
async def posting(system: System, at: datetime) -> AsyncIterator[Watched]:
    """Post events stamped `at` without pause, and ask without pause how many there are."""
    numbers = itertools.count()

    async def post(watched: Watched, source: SourceName) -> None:
        while True:
            event = MAKERS[source](at=at + timedelta(milliseconds=next(numbers) % 60_000))
            assert (await system.post([event])).status_code == 202
            watched.answered[source].append(datetime.now(UTC))

    async def ask(watched: Watched, source: SourceName) -> None:
        while True:
            watched.check(source, await system.report("events", at, at + HOUR, source=source))

    async with watching(post, ask, more_reports_than=20) as watched:
        yield watched


async def test_freshness_is_never_ahead_of_what_is_stored(system: System) -> None:
    """While collectors keep up: many reports, each with everything that it claims; and the claim moves on."""
    at = datetime.now(UTC) - 2 * HOUR
    async with posting(system, at) as watched:
        await watched.until_past(dict.fromkeys(SOURCES, at))
        for _ in range(8):
            await watched.until_past(dict(watched.until))


@pytest.mark.parametrize(("away", "there", "frozen"), [("facebook", "tiktok", True), ("tiktok", "facebook", False)])
async def test_freshness_is_honest_while_a_collector_is_away(
    system: System, away: SourceName, there: SourceName, frozen: bool
) -> None:
    """Frozen or stopped: reports say how far behind they are, those of the other source are as fresh as ever, and in
    the end all catch up."""
    at = datetime.now(UTC) - (4 if frozen else 6) * HOUR
    collector = COLLECTOR_OF[away]
    async with posting(system, at) as watched:
        await watched.until_past(dict.fromkeys(SOURCES, at))
        if frozen:
            await stopped(system.supervisor.kill(collector, signal.SIGSTOP))
        else:
            await system.supervisor.stop(collector)
        went = datetime.now(UTC)

        async def fell_behind() -> bool:
            return watched.behind[away] > FALL_BEHIND_SECONDS

        await eventually(fell_behind, what=f"reports of {away} report that they are behind")
        assert watched.until[away] < went
        await watched.until_past({there: went})
        if frozen:
            system.supervisor.kill(collector, signal.SIGCONT)
        else:
            await system.supervisor.start_again(collector)
        await watched.until_past(dict.fromkeys(SOURCES, datetime.now(UTC)))


async def test_without_a_collector_nothing_new_is_claimed(system: System) -> None:
    """An accepted event that no collector has taken is not in the report, and `storedUntil` lies before its answer;
    once a collector is back, it is there, and nothing waits."""
    at = datetime.now(UTC) - 8 * HOUR

    async def report() -> tuple[int, dict[str, Any]]:
        found = await system.report("events", at, at + HOUR, source="facebook")
        return found["totals"]["events"], found["freshness"]["facebook"]

    await system.supervisor.stop("fb-collector")
    assert (await system.post([facebook(at=at)])).status_code == 202
    answered = datetime.now(UTC)
    events, stale = await report()
    assert events == 0
    assert datetime.fromisoformat(stale["storedUntil"]) < answered

    await system.supervisor.start_again("fb-collector")

    async def caught_up() -> bool:
        events, fresh = await report()
        return events == 1 and fresh["pendingMessages"] == 0 and datetime.fromisoformat(fresh["storedUntil"]) > answered

    await eventually(caught_up, what="the event is in the report, and nothing waits")
