"""Grafana's dashboard Reports: each panel's query runs as the read-only role, and shows the figures of the API."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import httpx
import pytest

from core.sources import SOURCES
from ops.grafana.__main__ import FOLDER
from ops.grafana.reports import ALL_CAMPAIGNS, INTERVALS
from ops.local import Servers
from tests.support.events import NOON, rfc3339
from tests.support.report_rows import reporter
from tests.support.report_views import SINCE, UNTIL, fill
from tests.support.stack import fresh_database

DASHBOARD = json.loads((FOLDER / "reports.json").read_text())
PANELS = {panel["title"]: panel for panel in DASHBOARD["panels"] if panel["type"] != "row"}
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
ZONE = "Asia/Kolkata"  # its days begin on no whole hour of UTC
RANGES = [(SINCE, UNTIL), (NOON - timedelta(minutes=75), NOON + timedelta(minutes=30))]


class View:
    """The dashboard with values for its variables, and the API for the same range."""

    def __init__(self, connection: asyncpg.Connection[Any], api: httpx.AsyncClient) -> None:
        self._connection = connection
        self._api = api
        self.since, self.until = SINCE, UNTIL
        self.sources: tuple[str, ...] = tuple(SOURCES)
        self.interval = "hour"
        self.campaigns: tuple[str, ...] = ()

    def filled(self, sql: str) -> str:
        """The query that Grafana sends: macros and variables are replaced."""

        def quoted(texts: Iterable[str]) -> str:
            return ",".join("'{}'".format(text.replace("'", "''")) for text in texts)

        places = {
            "$__timeFrom()": f"'{rfc3339(self.since)}'",
            "$__timeTo()": f"'{rfc3339(self.until)}'",
            "${source:sqlstring}": quoted(self.sources),
            "${interval:sqlstring}": quoted([INTERVALS[self.interval]]),
            "${zone:sqlstring}": quoted([ZONE]),
            "${campaign:sqlstring}": quoted(self.campaigns) or ALL_CAMPAIGNS,
        }
        for place, text in places.items():
            sql = sql.replace(place, text)
        assert "$" not in sql, sql
        return sql

    async def panel(self, title: str) -> list[tuple[Any, ...]]:
        """The rows of a panel's query."""
        (target,) = PANELS[title]["targets"]
        rows = await self._connection.fetch(self.filled(target["rawSql"]))
        if target["format"] == "time_series":
            assert not rows or list(rows[0].keys()) == ["time", "metric", "value"]
        return [tuple(row) for row in rows]

    async def variable(self, name: str) -> list[tuple[Any, ...]]:
        """The rows of a variable's query."""
        return [tuple(row) for row in await self._connection.fetch(self.filled(VARIABLES[name]["query"]))]

    async def rows(self, report: str, **query: str) -> list[dict[str, Any]]:
        """The rows of a report of the API, over the same range and sources."""
        query |= {"source": self.sources[0]} if len(self.sources) == 1 else {}
        bounds = {"from": rfc3339(self.since), "to": rfc3339(self.until), "timeZone": ZONE}
        answer = await self._api.get(f"/reports/{report}", params=bounds | query)
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()["rows"]
        return rows


@pytest.fixture(scope="module")
async def shared(servers: Servers, template: None) -> AsyncIterator[tuple[asyncpg.Connection[Any], httpx.AsyncClient]]:
    async with fresh_database(servers) as database:
        await fill(database)
        connection = await asyncpg.connect(database.bi_dsn)
        async with reporter(database.reporter_dsn) as client:
            yield connection, client
        await connection.close()


@pytest.fixture(params=[(None, RANGES[0]), (None, RANGES[1]), (("facebook",), RANGES[0]), (("tiktok",), RANGES[1])])
def view(shared: tuple[asyncpg.Connection[Any], httpx.AsyncClient], request: pytest.FixtureRequest) -> View:
    view = View(*shared)
    sources, (view.since, view.until) = request.param
    view.sources = sources or view.sources
    return view


async def test_totals(view: View) -> None:
    """Events, revenue and average order value of the range."""
    events = sum(row["events"] for row in await view.rows("events"))
    (row,) = await view.rows("revenue")
    assert await view.panel("Events") == [(events,)]
    assert await view.panel("Revenue") == [(Decimal(row["revenue"]),)]
    ((value,),) = await view.panel("Average order value")
    assert abs(value - Decimal(row["revenue"]) / row["purchases"]) < Decimal("0.001")
    ((age,),) = await view.panel("Age of the data")
    assert age >= 0


@pytest.mark.parametrize("interval", ["15 minutes", "hour", "day", "week", "month"])
async def test_figures_over_time(view: View, interval: str) -> None:
    """By stage, type and source; buckets of the interval in the time zone."""
    view.interval = interval
    bucket = interval.replace(" ", "")
    for title, group in (("Events by stage", "funnelStage"), ("Events by type", "eventType")):
        rows = await view.rows("events", interval=bucket, groupBy=group)
        expected = {(row["start"], row[group]): row["events"] for row in rows if row["events"]}
        assert _series(await view.panel(title), view.since) == _instants(expected)
    rows = [row for row in await view.rows("revenue", interval=bucket, groupBy="source") if row["purchases"]]
    revenue = {(row["start"], row["source"]): Decimal(row["revenue"]) for row in rows}
    assert _series(await view.panel("Revenue by source"), view.since) == _instants(revenue)
    orders = _instants({(row["start"], row["source"]): Decimal(row["revenue"]) / row["purchases"] for row in rows})
    shown = _series(await view.panel("Average order value by source"), view.since)
    assert shown.keys() == orders.keys()
    assert all(abs(shown[key] - orders[key]) < Decimal("0.001") for key in orders)


def _instants(figures: dict[tuple[str, str], Any]) -> dict[tuple[datetime, str], Any]:
    return {(datetime.fromisoformat(start), group): figure for (start, group), figure in figures.items()}


def _series(rows: list[tuple[Any, ...]], since: datetime) -> dict[tuple[datetime, str], Any]:
    """A bucket that the range cuts begins with the range in the API, and with the interval in Grafana."""
    return {(max(time, since), metric): value for time, metric, value in rows}


async def test_the_funnel(view: View) -> None:
    """Events of the declared steps of each source, and their shares."""
    rows = await view.rows("events", groupBy="source,eventType")
    events = Counter({(row["source"], row["eventType"]): row["events"] for row in rows})
    expected: list[tuple[str, int, int | None, int]] = []
    for name in view.sources:
        source = SOURCES[name]
        steps = [events[name, step] for step in source.funnel]
        for step, count, before in zip(source.funnel, steps, [None, *steps[:-1]], strict=True):
            expected.append((f"{source.title}: {step}", count, before, steps[0]))
    for title in ("Funnel", "Conversion"):
        shown = await view.panel(title)
        assert [row[:2] for row in shown] == [row[:2] for row in expected]
        for (_, _, of_before, of_first), (_, count, before, first) in zip(shown, expected, strict=True):
            assert (of_before is None) == (not before)
            assert not before or abs(float(of_before) - count / before) < 1e-9
            assert not first or abs(float(of_first) - count / first) < 1e-9


async def test_top_campaigns(view: View) -> None:
    """Purchases and revenue by campaign, those with most revenue first; and the campaigns that are selected."""
    if "facebook" not in view.sources:
        assert await view.panel("Top campaigns") == []
        return
    rows = await view.rows("revenue", source="facebook", groupBy="campaignId", top="100")
    expected = {row["campaignId"]: (row["purchases"], Decimal(row["revenue"])) for row in rows if row["purchases"]}
    shown = await view.panel("Top campaigns")
    assert {row[0]: (row[3], row[4]) for row in shown if row[3]} == expected
    assert [row[4] for row in shown] == sorted((row[4] for row in shown), reverse=True)
    assert {row[6] for row in shown} == {0}
    listed = [campaign for (campaign,) in await view.variable("campaign")]
    assert set(listed) == {row[0] for row in shown}
    view.campaigns = tuple(listed[:2])
    assert await view.panel("Top campaigns") == shown[:2]
    clicks = {row["eventType"]: row["events"] for row in await view.rows("events", groupBy="eventType")}
    bottom = sum(clicks[name] for name in SOURCES["facebook"].event_types["bottom"])
    assert sum(row[2] for row in shown) == bottom


@pytest.mark.parametrize(
    ("title", "dimension"),
    [
        *(("Age", "ageBand"), ("Gender", "gender"), ("Country", "country"), ("City", "city")),
        *(("Device", "device"), ("Followers", "followers")),
    ],
)
async def test_the_audience(view: View, title: str, dimension: str) -> None:
    """Events by value, the largest first; ages by band, in their order."""
    names = {name for source in view.sources for one in SOURCES[source].dimensions for name in _names(one)}
    if dimension not in names:
        assert await view.panel(title) == []
        return
    query = {"top": "100"} if dimension == "city" else {}
    expected: Counter[str] = Counter()
    for row in await view.rows("demographics", groupBy=dimension, **query):
        for share in row.get(dimension) or ():
            expected[share["value"]] += share["events"]
    shown = await view.panel(title)
    assert dict(shown) == {value: events for value, events in expected.items() if events}
    if title == "Age":
        assert [value for value, _ in shown] == sorted(value for value, _ in shown)
    else:
        assert [events for _, events in shown] == sorted((events for _, events in shown), reverse=True)


def _names(dimension: Any) -> set[str]:
    return {dimension.name, *([dimension.coarser.name] if dimension.coarser else [])}


async def test_freshness(view: View) -> None:
    """One row for each selected source."""
    shown = await view.panel("Freshness")
    assert [row[0] for row in shown] == [SOURCES[source].title for source in view.sources]
    assert {row[1] for row in shown} == {UNTIL}


async def test_the_variable_source_lists_every_source(view: View) -> None:
    """By its title."""
    assert await view.variable("source") == [(source.title, name) for name, source in SOURCES.items()]


async def test_every_panel_is_tested(view: View) -> None:
    """A new panel needs a comparison of its own above."""
    assert PANELS.keys() == {
        *("Events", "Revenue", "Average order value", "Age of the data"),
        *("Events by stage", "Events by type", "Funnel", "Conversion"),
        *("Revenue by source", "Average order value by source", "Top campaigns"),
        *("Age", "Gender", "Country", "City", "Device", "Followers", "Freshness"),
    }
    for title in PANELS:
        await view.panel(title)
