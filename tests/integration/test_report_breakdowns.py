"""Reports from breakdowns: what was cut off is reported with its largest error, and what cannot be had is named."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import httpx
import pytest

from collector.maintenance.breakdowns import BreakdownCounter
from core import postgres
from core.postgres import Connection
from core.sources import SourceName
from tests.support.breakdowns import Row, made, rows, start_of
from tests.support.events import facebook
from tests.support.report_rows import Collected, collecting, reporter
from tests.support.stack import Database

SOURCES: tuple[SourceName, ...] = ("facebook", "tiktok")
MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
WEEK = start_of("week", MIDNIGHT) - timedelta(days=14)
NOW = MIDNIGHT + timedelta(days=1)
FLOOR = MIDNIGHT - timedelta(days=5)
"""The latest day that may be the first one that is kept."""
MAX_VALUES = 4
CHECKOUT = "checkout.complete"
CSV = {"Accept": "text/csv"}


@pytest.fixture
async def collected(database: Database) -> AsyncIterator[Collected]:
    async with collecting(database.collector_dsn) as collected:
        yield collected


@pytest.fixture
async def session(database: Database) -> AsyncIterator[Connection]:
    """A session of the collector's role."""
    connection = await postgres.connect(database.collector_dsn, name="tests")
    yield connection
    await connection.close()


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with reporter(database.reporter_dsn) as client:
        yield client


async def count(session: Connection, max_values: int = 10_000, until: datetime = NOW) -> None:
    for source in SOURCES:
        await BreakdownCounter(session, source, max_values).count_all(until)


async def get(client: httpx.AsyncClient, report: str, **parameters: str) -> Any:
    """The answer of a report; `from_` and `to` are instants of ISO 8601."""
    response = await client.get(
        f"/reports/{report}", params={name.removesuffix("_"): value for name, value in parameters.items()}
    )
    assert response.status_code == 200, response.text
    return response.json()


def ragged(rng: Random) -> tuple[datetime, datetime]:
    start = WEEK + timedelta(seconds=rng.randrange(5 * 86_400))
    if rng.random() < 0.5:
        start = start_of(rng.choice(("quarter", "hour", "day")), start)
    return start, start + timedelta(seconds=rng.choice((900, 3_600, 86_400, rng.randrange(60, 9 * 86_400))))


def span(start: datetime, end: datetime) -> dict[str, str]:
    return {"from": start.isoformat(), "to": end.isoformat()}


@pytest.fixture(params=["zipf", "unique"])
async def cut_off(request: pytest.FixtureRequest, collected: Collected, session: Connection) -> Random:
    """Events whose values are cut off: each bucket lists MAX_VALUES. Some quarter-hours are invalid, some uncounted."""
    rng = Random(request.param)
    length = 8 * 86_400
    moments = [WEEK + timedelta(seconds=rng.randrange(length)) for _ in range(300)]
    moments += [WEEK + timedelta(days=2, seconds=rng.randrange(7_200)) for _ in range(500)]
    await collected.store(made(rng, rng.choice(SOURCES), at, request.param) for at in moments)
    await count(session, MAX_VALUES, WEEK + timedelta(days=7, hours=5))
    await collected.store(made(rng, "facebook", rng.choice(moments), request.param) for _ in range(8))
    return rng


async def test_campaigns_are_never_further_off_than_they_say(
    client: httpx.AsyncClient, session: Connection, cut_off: Random
) -> None:
    """Each campaign's figures are off by at most their error, other's too, and together they are exact."""
    kept = [row for row in await rows(session, "facebook") if row.event_type == CHECKOUT]
    exact = []
    for _ in range(40):
        start, end = ragged(cut_off)
        interval = cut_off.choice(({}, {"interval": "day"}, {"interval": "hour"}))
        if interval:
            end = min(end, start + timedelta(days=2))
        top = cut_off.choice((1, 3, 50))
        answer = await get(client, "revenue", **span(start, end), groupBy="campaignId", top=str(top), **interval)
        exact.append(answer.get("exact", True))
        for row in answer["rows"]:
            listed = {other["campaignId"] for other in answer["rows"]} - {None}
            found = [event for event in between(kept, row) if is_group(event, row["campaignId"], listed)]
            revenue = sum((event.revenue for event in found), Decimal(0))
            assert abs(row["purchases"] - len(found)) <= row.get("purchasesError", 0), (answer["query"], row)
            assert abs(Decimal(row["revenue"]) - revenue) <= Decimal(row.get("revenueError", 0)), (answer["query"], row)
            assert ("revenueError" in row) == ("purchasesError" in row) == (not answer.get("exact", True))
        inside = [event for event in kept if start <= event.at < end]
        assert answer["totals"]["purchases"] == len(inside)
        assert Decimal(answer["totals"]["revenue"]) == sum((event.revenue for event in inside), Decimal(0))
    assert set(exact) == {True, False}


def between(kept: list[Row], row: Any) -> list[Row]:
    start, end = (datetime.fromisoformat(row[name]) for name in ("start", "end"))
    return [event for event in kept if start <= event.at < end]


def is_group(event: Row, campaign: str | None, listed: set[str]) -> bool:
    value = event.values["campaign"]
    assert value is not None
    return value[0] == campaign if campaign is not None else value[0] not in listed


@pytest.mark.parametrize("metrics", ["events", "revenue", "events,revenue"])
async def test_cities_are_never_further_off_than_they_say(
    client: httpx.AsyncClient, session: Connection, cut_off: Random, metrics: str
) -> None:
    """The same of cities, with any filter, and of the previous period's figures."""
    kept = await rows(session, "facebook")
    exact = []
    for _ in range(20):
        start, end = ragged(cut_off)
        filters = cut_off.choice(({}, {"eventType": CHECKOUT}, {"funnelStage": "top"}))
        answer = await get(
            client, "demographics", **span(start, end), groupBy="city", source="facebook", metrics=metrics,
            compare="previous", top=str(cut_off.choice((1, 3, 50))), **filters,
        )  # fmt: skip
        exact.append(answer.get("exact", True))
        (row,) = answer["rows"]
        shares = row["city"]
        listed = {share["value"] for share in shares} - {None}
        compare = answer["query"]["compare"]
        before = tuple(datetime.fromisoformat(compare[name]) for name in ("from", "countedUntil"))
        for (low, high), figure, error, paid, paid_error in (
            ((start, end), "events", "eventsError", "revenue", "revenueError"),
            (before, "previous", "previousError", "previousRevenue", "previousRevenueError"),
        ):
            events: Counter[str | None] = Counter()
            revenue: Counter[str | None] = Counter()
            for event in kept:
                value = event.values["city"]
                assert value is not None
                if low <= event.at < high and is_of(event, filters):
                    name = value[0] if value[0] in listed else None
                    events[name] += 1
                    revenue[name] += event.revenue  # type: ignore[assignment]
            for share in shares:
                assert abs(share[figure] - events[share["value"]]) <= share.get(error, 0), (answer["query"], share)
                if "revenue" in metrics:
                    difference = abs(Decimal(share[paid]) - revenue[share["value"]])
                    assert difference <= Decimal(share.get(paid_error, 0)), (answer["query"], share)
            assert sum(share[figure] for share in shares) == events.total()
            if "revenue" in metrics:
                assert sum(Decimal(share[paid]) for share in shares) == revenue.total()
    assert False in exact


def is_of(event: Row, filters: dict[str, str]) -> bool:
    bottom = event.event_type in ("ad.click", "form.submission", CHECKOUT)
    return filters.get("eventType", event.event_type) == event.event_type and (
        "funnelStage" not in filters or not bottom
    )


async def test_one_campaign_is_exact_while_its_rows_are_kept(
    client: httpx.AsyncClient, session: Connection, cut_off: Random, connection: Connection
) -> None:
    """A campaign that was cut off is counted from rows. Once they are deleted, its largest error is reported."""
    kept = [row for row in await rows(session, "facebook") if row.event_type == CHECKOUT]
    campaigns = sorted({value[0] for row in kept if (value := row.values["campaign"])})
    whole = span(WEEK, WEEK + timedelta(days=7))
    inside = [row for row in kept if row.at < WEEK + timedelta(days=7)]
    for deleted in (False, True):
        if deleted:
            await count(session, MAX_VALUES)
            await connection.execute("SELECT drop_days('facebook_events', $1)", FLOOR.date())
        exact = []
        for campaign in campaigns[::5]:
            answer = await get(client, "revenue", **whole, campaignId=campaign)
            totals = answer["totals"]
            found = [row.revenue for row in inside if row.values["campaign"] == (campaign, None)]
            assert abs(totals["purchases"] - len(found)) <= totals.get("purchasesError", 0)
            assert abs(Decimal(totals["revenue"]) - sum(found)) <= Decimal(totals.get("revenueError", 0))
            assert ("revenueError" in totals) == (not answer.get("exact", True))
            exact.append(answer.get("exact", True))
        assert all(exact) is not deleted


async def test_columns_of_errors(client: httpx.AsyncClient, cut_off: Random) -> None:
    """CSV has a column for the largest error of each figure if an answer is not exact, and else none."""
    busy = span(WEEK + timedelta(days=2), WEEK + timedelta(days=3))
    calm = span(WEEK - timedelta(days=2), WEEK - timedelta(days=1))
    for report, more, columns in (
        ("revenue", {"groupBy": "campaignId"}, ["revenueError", "purchasesError"]),
        ("demographics", {"groupBy": "city"}, ["eventsError"]),
        ("demographics", {"groupBy": "city", "metrics": "revenue"}, ["eventsError", "revenueError"]),
    ):
        for period, expected in ((busy, columns), (calm, [])):
            answer = await client.get(f"/reports/{report}", params=period | more, headers=CSV)
            header, *lines = answer.text.splitlines()
            assert [name for name in header.split(",") if name.endswith("Error")] == expected
            assert all(line.count(",") >= header.count(",") for line in lines)


async def test_a_pair_has_two_columns(client: httpx.AsyncClient, collected: Collected) -> None:
    """In JSON a pair has `value` and `second`, in CSV a column each."""
    await collected.store([facebook(at=WEEK)])
    day = span(WEEK, WEEK + timedelta(days=1))
    (row,) = (await get(client, "demographics", **day, source="facebook", groupBy="gender,ageBand:gender"))["rows"]
    user = facebook(at=WEEK)["data"]["user"]
    (share,) = row["ageBandGender"]
    assert (share["second"], share["events"]) == (user["gender"], 1)
    answer = await client.get(
        "/reports/demographics.csv", params=day | {"source": "facebook", "groupBy": "gender,ageBand:gender"}
    )
    header, *lines = (line.split(",")[5:] for line in answer.text.splitlines())
    assert header == ["dimension", "value", "second", "events"]
    assert lines == [
        ["gender", user["gender"], '""', "1"],
        ["ageBand:gender", share["value"], user["gender"], "1"],
    ]


async def test_reports_go_on_below_the_floor(
    client: httpx.AsyncClient, collected: Collected, session: Connection, connection: Connection
) -> None:
    """Where rows were deleted, counted quarter-hours are reported. What needs rows is named, with what to do."""
    rng = Random(3)
    at = MIDNIGHT - timedelta(days=10)
    events = [made(rng, "facebook", at + timedelta(minutes=20 * number), "zipf") for number in range(144)]
    await collected.store(events)
    counter = BreakdownCounter(session, "facebook")
    while (bucket := await counter.count_quarter(NOW)) and bucket.start > at + timedelta(days=1):
        pass
    kept = await rows(session, "facebook")
    await connection.execute("SELECT drop_days('facebook_events', $1)", FLOOR.date())
    counted = span(at + timedelta(days=1), at + timedelta(days=2))
    answer = await get(client, "revenue", **counted, groupBy="campaignId")
    paid = [row for row in between(kept, answer["rows"][0]) if row.event_type == CHECKOUT]
    assert (answer["totals"]["purchases"], answer.get("exact", True)) == (len(paid), True)
    answer = await get(client, "demographics", **counted, source="facebook", groupBy="age,city", eventType=CHECKOUT)
    assert (answer["totals"]["events"], answer["notes"]) == (len(paid), [])
    uncounted = span(at, at + timedelta(days=2))
    inside = span(at + timedelta(days=1, minutes=1), at + timedelta(days=2))
    for period, words in ((uncounted, "deleted before all of them were counted"), (inside, "inside a quarter-hour")):
        rejected = await client.get("/reports/revenue", params=period | {"groupBy": "campaignId"})
        assert (rejected.status_code, rejected.json()["parameter"]) == (400, "from")
        assert words in rejected.json()["detail"]
        assert FLOOR.date().isoformat() in rejected.json()["detail"]
    answer = await get(client, "demographics", **uncounted, source="facebook", groupBy="gender,city")
    assert answer["rows"][0]["city"] is None
    assert answer["rows"][0]["gender"]
    assert answer["notes"][0].startswith("city is left out: events before ")


async def test_rows_may_be_limited(database: Database, collected: Collected, session: Connection) -> None:
    """With REPORTER_ROWS_RANGE_HOURS a report reads so many hours of rows at most; counted ones are free."""
    rng = Random(4)
    await collected.store(made(rng, "facebook", WEEK + timedelta(minutes=10 * number), "zipf") for number in range(300))
    async with reporter(database.reporter_dsn, reporter_rows_range_hours=2) as client:
        whole = span(WEEK, WEEK + timedelta(days=2))
        rejected = await client.get("/reports/revenue", params=whole | {"groupBy": "campaignId"})
        assert (rejected.status_code, rejected.json()["parameter"]) == (400, "from")
        assert "at most 2 hours of single events" in rejected.json()["detail"]
        answer = await get(client, "demographics", **whole, source="facebook")
        assert answer["rows"][0]["city"] is None
        assert answer["notes"][0].startswith("city is left out: 48.0 hours of the range are not counted by city yet")
        await get(client, "revenue", **span(WEEK, WEEK + timedelta(hours=2)), groupBy="campaignId")
        await count(session)
        await get(client, "revenue", **whole, groupBy="campaignId")
        answer = await get(client, "demographics", **whole, source="facebook")
        assert (answer["notes"], bool(answer["rows"][0]["city"])) == ([], True)


async def test_the_campaigns_of_a_comparison_are_those_of_the_range(
    client: httpx.AsyncClient, collected: Collected, session: Connection
) -> None:
    """The previous period's figures are of the same campaigns, and its other is all the rest."""
    rng = Random(5)
    moments = [WEEK + timedelta(seconds=rng.randrange(6 * 86_400)) for _ in range(600)]
    await collected.store(made(rng, "facebook", at, "zipf") for at in moments)
    await count(session)
    kept = [row for row in await rows(session, "facebook") if row.event_type == CHECKOUT]
    for top, interval in (("2", None), ("5", "day"), ("100", None)):
        more = {"interval": interval} if interval else {}
        answer = await get(
            client, "revenue", **span(WEEK + timedelta(days=3), WEEK + timedelta(days=6)),
            groupBy="source,campaignId", compare="previous", top=top, **more,
        )  # fmt: skip
        listed = {row["campaignId"] for row in answer["rows"]} - {None}
        assert answer.get("exact", True)
        for row in answer["rows"]:
            moved = {name: str(datetime.fromisoformat(row[name]) - timedelta(days=3)) for name in ("start", "end")}
            found = [event for event in between(kept, moved) if is_group(event, row["campaignId"], listed)]
            assert row["previousPurchases"] == len(found)
            assert Decimal(row["previousRevenue"]) == sum((event.revenue for event in found), Decimal(0))
        before = [event for event in kept if event.at < WEEK + timedelta(days=3)]
        assert answer["totals"]["previousPurchases"] == len(before)


async def test_campaigns_without_purchases_are_not_listed(
    client: httpx.AsyncClient, collected: Collected, session: Connection
) -> None:
    """A campaign that was only clicked has no revenue to report; one with purchases without an amount is listed."""
    clicks = [facebook("bottom", at=WEEK + timedelta(minutes=number)) for number in range(20)]
    for number, event in enumerate(clicks):
        event["eventType"] = "ad.click" if number < 19 else CHECKOUT
        event["data"]["engagement"] |= {"campaignId": f"campaign {number:02}", "purchaseAmount": None}
    await collected.store(clicks)
    for _ in range(2):
        answer = await get(client, "revenue", **span(WEEK, WEEK + timedelta(days=1)), groupBy="campaignId", top="1")
        assert [(row["campaignId"], row["purchases"]) for row in answer["rows"]] == [("campaign 19", 1), (None, 0)]
        await count(session)
