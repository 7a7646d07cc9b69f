"""Reports are exact at any range, down to the millisecond, while events keep coming in.

A report and the count that it is compared with see one and the same moment: the report's transaction exports its
snapshot, and a second one takes it over. What is asked is the reporter's own code, on its own pool.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import repeat
from random import Random
from typing import Any
from urllib.parse import urlencode

import pytest
from msgspec import UNSET

from bench.publisher.bodies import Bodies
from bench.publisher.sender import Sender
from core import postgres
from core.sources import SOURCES
from reporter.database import Pool, open_pool, open_snapshot
from reporter.query_params import QueryParams
from reporter.reports import AnyReport
from reporter.reports.demographics import DEMOGRAPHICS
from reporter.reports.events import EVENTS
from reporter.reports.funnel import FUNNEL
from reporter.reports.revenue import REVENUE
from reporter.settings import ReporterSettings
from reporter.snapshot import Snapshot
from tests.support.events import rfc3339
from tests.support.system import System
from tests.support.waiting import eventually

SPREAD = timedelta(days=2)  # that far into the past events are stamped
MOMENTS = 40  # events keep coming until so many are compared
MOMENTS_WITHOUT_MORE = 5  # at most so many are compared until more events are stored
ROWS_COMPARED = 4  # of each report, beside its totals
INTERVALS = ("15minutes", "hour", "day", "week", "quarter", None)
ZONES = ("UTC", "Asia/Kathmandu", "America/St_Johns", "Australia/Lord_Howe")
PAID = {"facebook": "checkout.complete", "tiktok": "purchase"}

FIRST_STEPS = {"facebook": "ad.view", "tiktok": "video.view"}


@dataclass
class Moment:
    """One moment of the database: as the reporter reads it, and as a plain connection does."""

    snapshot: Snapshot
    plain: Any

    async def report(self, report: AnyReport, **query: str) -> Any:
        """The reporter's answer at this moment."""
        requested = QueryParams(urlencode(query).encode(), report.parameters)
        return await report.read(self.snapshot, report.parse_query(requested, ReporterSettings()))

    async def counted(self, source: str, start: datetime, end: datetime, *conditions: str) -> int:
        """How many rows of the range stand in the partitions at this moment."""
        where = " AND ".join(("event_time >= $1 AND event_time < $2", *conditions))
        found: int = await self.plain.fetchval(f"SELECT count(*) FROM {source}_events WHERE {where}", start, end)
        return found

    async def paid(self, start: datetime, end: datetime) -> tuple[Decimal, int]:
        """Amounts of purchases in the range, and how many there are."""
        amount, purchases = Decimal(0), 0
        for source, event_type in PAID.items():
            row = await self.plain.fetchrow(
                f"SELECT coalesce(sum(purchase_amount), 0) AS amount, count(*) AS purchases FROM {source}_events "
                "WHERE event_time >= $1 AND event_time < $2 AND event_type = $3",
                start, end, event_type,
            )  # fmt: skip
            amount, purchases = amount + row["amount"], purchases + row["purchases"]
        return amount, purchases


@pytest.fixture
async def pool(system: System) -> AsyncIterator[Pool]:
    """The reporter's own pool."""
    async with await open_pool(ReporterSettings(reporter_dsn=system.servers.reporter_dsn)) as pool:
        yield pool


@asynccontextmanager
async def one_moment(system: System, pool: Pool) -> AsyncIterator[Moment]:
    """What the reporter sees, seen by a second connection too."""
    plain = await postgres.connect(system.servers.reporter_dsn, name="tests")
    try:
        async with (
            open_snapshot(pool, list(SOURCES)) as seen,
            plain.transaction(isolation="repeatable_read", readonly=True),
        ):
            exported = await seen.connection.fetchval("SELECT pg_export_snapshot()")
            await plain.execute(f"SET TRANSACTION SNAPSHOT '{exported}'")
            yield Moment(seen, plain)
    finally:
        await plain.close()


async def ragged_range(select: Any, rng: Random) -> tuple[datetime, datetime]:
    """From milliseconds to days; `select` reads the rows. Half of the ends are those of events, to the millisecond:
    such an event is in the report that begins with it, and not in the one that ends with it."""
    longest = rng.choice((SPREAD, timedelta(hours=3), timedelta(minutes=10), timedelta(seconds=2)))
    earliest = datetime.now(UTC) - SPREAD
    first = earliest + rng.random() * SPREAD
    ends = []
    for end in (first, first + rng.random() * longest):
        at = end.replace(microsecond=end.microsecond // 1000 * 1000)
        if rng.random() < 0.5:
            source = rng.choice(list(SOURCES))
            (row,) = await select(
                f"SELECT min(event_time) AS at FROM {source}_events WHERE event_time >= $1 AND event_type = $2",
                at, PAID[source],
            )  # fmt: skip
            at = row["at"] or at
        ends.append(at)
    start, end = sorted(ends)
    return start, max(end, start + timedelta(milliseconds=1))


async def test_reports_equal_the_rows_while_events_come_in(system: System, pool: Pool) -> None:
    """Events, revenue, funnels and demographics at random ragged ranges are what a plain count of the rows gives."""
    rng = Random("ranges")
    bodies = Bodies("exact", corrupt_share=0, late=0.95, late_up_to_seconds=SPREAD.total_seconds())
    sender = Sender(system.services.endpoint, bodies, repeat(300), every_seconds=0.1, on_answer=system.remember)
    sending = asyncio.create_task(sender.run())
    totals: list[int] = []

    async def more_is_stored() -> bool:
        async with one_moment(system, pool) as moment:
            return [await everything_is_exact(moment)] != totals[-1:]

    try:
        for number in range(MOMENTS):
            if number % MOMENTS_WITHOUT_MORE == 0:
                await eventually(more_is_stored, what="more events came in", seconds=60)
            async with one_moment(system, pool) as moment:
                totals.append(await everything_is_exact(moment))
                start, end = await ragged_range(moment.plain.fetch, rng)
                await events_are_exact(moment, rng, start, end)
                await revenue_is_exact(moment, rng, start, end)
                await funnels_are_exact(moment, rng, start, end)
                await demographics_are_exact(moment, start, end)
                await campaigns_are_exact(moment, rng, start, end)
                await cities_are_exact(moment, rng, start, end)
    finally:
        sender.stop()
        await sending
    assert len(set(totals)) >= MOMENTS / MOMENTS_WITHOUT_MORE


async def everything_is_exact(moment: Moment) -> int:
    """The range that ends a moment ago, where events come in; the count of all."""
    now = datetime.now(UTC)
    start, end = now - SPREAD - timedelta(minutes=1), now + timedelta(hours=1)
    report = await moment.report(EVENTS, **{"from": rfc3339(start), "to": rfc3339(end)})
    expected = sum([await moment.counted(source, start, end) for source in SOURCES])
    assert report.totals.events == expected
    return expected


async def events_are_exact(moment: Moment, rng: Random, start: datetime, end: datetime) -> None:
    query = {"from": rfc3339(start), "to": rfc3339(end), "groupBy": "source,eventType", "timeZone": rng.choice(ZONES)}
    if interval := rng.choice(INTERVALS):
        query["interval"] = interval
    report = await moment.report(EVENTS, **query)
    assert report.totals.events == sum([await moment.counted(source, start, end) for source in SOURCES]), query
    assert report.totals.events == sum(row.events for row in report.rows)
    for row in rng.sample(report.rows, min(ROWS_COMPARED, len(report.rows))):
        kind = f"event_type = '{row.event_type}'"
        assert row.events == await moment.counted(row.source, row.start, row.end, kind), (query, row)


async def revenue_is_exact(moment: Moment, rng: Random, start: datetime, end: datetime) -> None:
    query = {"from": rfc3339(start), "to": rfc3339(end), "timeZone": rng.choice(ZONES), "metrics": "conversion"}
    if interval := rng.choice(INTERVALS):
        query["interval"] = interval
    report = await moment.report(REVENUE, **query)
    assert (report.totals.revenue, report.totals.purchases) == await moment.paid(start, end), query
    views = [await moment.counted(of, start, end, f"event_type = '{seen}'") for of, seen in FIRST_STEPS.items()]
    conversion = round(report.totals.purchases / sum(views), 6) if sum(views) else None
    assert report.totals.conversion == conversion, query
    for row in rng.sample(report.rows, min(ROWS_COMPARED, len(report.rows))):
        assert (row.revenue, row.purchases) == await moment.paid(row.start, row.end), (query, row)


async def funnels_are_exact(moment: Moment, rng: Random, start: datetime, end: datetime) -> None:
    query = {"from": rfc3339(start), "to": rfc3339(end), "timeZone": rng.choice(ZONES)}
    if interval := rng.choice(INTERVALS):
        query["interval"] = interval
    if steps := rng.choice((None, "video.view,comment", "purchase,like,follow")):
        query["steps"] = steps
    report = await moment.report(FUNNEL, **query)
    whole = [(total, start, end) for total in report.totals]
    some = rng.sample(report.rows, min(ROWS_COMPARED, len(report.rows)))
    for step, begin, finish in (*whole, *((row, row.start, row.end) for row in some)):
        kind = f"event_type = '{step.event_type}'"
        assert step.events == await moment.counted(step.source, begin, finish, kind), (query, step)
    for total, before in zip(report.totals[1:], report.totals, strict=False):
        if total.step > 1:
            assert total.rate == (round(total.events / before.events, 6) if before.events else None)


async def demographics_are_exact(moment: Moment, start: datetime, end: datetime) -> None:
    facebook, tiktok = (await moment.report(DEMOGRAPHICS, **{"from": rfc3339(start), "to": rfc3339(end)})).rows
    assert facebook.events == await moment.counted("facebook", start, end)
    assert tiktok.events == await moment.counted("tiktok", start, end)
    for share in facebook.gender:
        assert share.events == await moment.counted("facebook", start, end, f"gender = '{share.value}'")
    for share in facebook.age[:ROWS_COMPARED]:
        assert share.events == await moment.counted("facebook", start, end, f"age = {share.value}")
    for share in tiktok.country[:ROWS_COMPARED]:
        country = share.value.replace("'", "''")
        assert share.events == await moment.counted("tiktok", start, end, f"country = '{country}'")


async def campaigns_are_exact(moment: Moment, rng: Random, start: datetime, end: datetime) -> None:
    """The campaigns with most revenue, and other, from quarter-hours that collectors count meanwhile, and from rows."""
    query = {"from": rfc3339(start), "to": rfc3339(end), "groupBy": "campaignId", "top": "5"}
    report = await moment.report(REVENUE, **query)
    paid = await moment.plain.fetch(
        "SELECT campaign_id, count(*) AS purchases, coalesce(sum(purchase_amount), 0) AS revenue FROM facebook_events "
        "WHERE event_time >= $1 AND event_time < $2 AND event_type = $3 "
        'GROUP BY 1 ORDER BY revenue DESC, campaign_id COLLATE "C"',
        start, end, PAID["facebook"],
    )  # fmt: skip
    assert report.exact is UNSET
    assert [(row.campaign_id, row.purchases, row.revenue) for row in report.rows if row.campaign_id is not None] == [
        tuple(row) for row in paid[:5]
    ], query
    assert report.totals.purchases == sum(row["purchases"] for row in paid)
    assert report.totals.revenue == sum(row["revenue"] for row in paid)
    if paid:
        name, purchases, revenue = rng.choice(paid)
        one = await moment.report(REVENUE, **{"from": query["from"], "to": query["to"], "campaignId": name})
        assert (one.totals.purchases, one.totals.revenue) == (purchases, revenue), (query, name)


async def cities_are_exact(moment: Moment, rng: Random, start: datetime, end: datetime) -> None:
    """The cities with most events of one type, and other."""
    kind = rng.choice(("ad.view", "ad.click", PAID["facebook"]))
    query = {"from": rfc3339(start), "to": rfc3339(end), "groupBy": "city", "eventType": kind, "top": "5"}
    report = await moment.report(DEMOGRAPHICS, **query)
    cities = await moment.plain.fetch(
        "SELECT city, count(*) AS events FROM facebook_events WHERE event_time >= $1 AND event_time < $2 "
        'AND event_type = $3 GROUP BY 1 ORDER BY events DESC, city COLLATE "C"',
        start, end, kind,
    )  # fmt: skip
    assert (report.exact, report.notes) == (UNSET, [])
    shares = report.rows[0].city
    assert [(share.value, share.events) for share in shares if share.value is not None] == [
        tuple(row) for row in cities[:5]
    ], query
    assert sum(share.events for share in shares) == sum(row["events"] for row in cities) == report.totals.events


async def test_reports_over_http_equal_the_rows_at_rest(system: System) -> None:
    """What a user gets is what the partitions hold, at ranges from a millisecond to two days."""
    rng = Random("http")
    await system.until_stored()
    found = 0
    for _ in range(30):
        start, end = await ragged_range(system.select, rng)
        report = await system.report("events", start, end, groupBy="source")
        for row in report["rows"]:
            (counted,) = await system.select(
                f"SELECT count(*) FROM {row['source']}_events WHERE event_time >= $1 AND event_time < $2", start, end
            )
            assert row["events"] == counted["count"], (start, end)
            found += row["events"]
    assert found, "no range held an event"
