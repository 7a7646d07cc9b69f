"""The views of reports, as a BI tool reads them: the figures of the API, from a role that reads nothing else."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import asyncpg
import httpx
import pytest

from collector.maintenance.breakdowns import BreakdownCounter
from core import postgres
from core.sources import SOURCES
from ops.local import Servers
from tests.support.events import NOON
from tests.support.report_rows import reporter
from tests.support.report_views import SINCE, UNTIL, bounds, fill
from tests.support.stack import Database, fresh_database

VIEWS = ("report_events", "report_revenue", "report_audience", "report_campaigns", "report_freshness")
EVERY_QUARTER = bounds() | {"interval": "15minutes"}


class Readers(NamedTuple):
    """The same database, as a BI tool and as a client of the API read it."""

    database: Database
    views: asyncpg.Connection[Any]
    api: httpx.AsyncClient

    async def rows(self, report: str, **query: str) -> list[dict[str, Any]]:
        """Rows of the API, by quarter-hour."""
        answer = await self.api.get(f"/reports/{report}", params=EVERY_QUARTER | query)
        assert answer.status_code == 200, answer.text
        rows: list[dict[str, Any]] = answer.json()["rows"]
        return [row | {"bucket": datetime.fromisoformat(row["start"])} for row in rows]


@pytest.fixture(scope="module")
async def readers(servers: Servers, template: None) -> AsyncIterator[Readers]:
    async with fresh_database(servers) as database:
        await fill(database)
        connection = await asyncpg.connect(database.bi_dsn)  # as a BI tool connects, without our session settings
        async with reporter(database.reporter_dsn) as client:
            yield Readers(database, connection, client)
        await connection.close()


async def test_events_are_those_of_the_api(readers: Readers) -> None:
    """By quarter-hour, source, stage and type."""
    rows = await readers.rows("events", groupBy="source,funnelStage,eventType")
    expected = {
        (row["bucket"], row["source"], row["funnelStage"], row["eventType"], row["events"])
        for row in rows
        if row["events"]
    }
    found = await readers.views.fetch("SELECT * FROM report_events")
    assert len(found) == len(expected)
    assert {tuple(row) for row in found} == expected


async def test_revenue_is_that_of_the_api(readers: Readers) -> None:
    """By quarter-hour and source, to the cent."""
    rows = await readers.rows("revenue", groupBy="source")
    expected = {
        (row["bucket"], row["source"], row["purchases"], Decimal(row["revenue"])) for row in rows if row["purchases"]
    }
    found = await readers.views.fetch("SELECT * FROM report_revenue")
    assert len(found) == len(expected)
    assert {tuple(row) for row in found} == expected


async def test_the_audience_is_that_of_the_api(readers: Readers) -> None:
    """By every dimension; cities too, whether their quarter-hours are counted, not counted, or invalid."""
    expected = {
        (row["bucket"], row["source"], dimension, share["value"], share["events"])
        for row in await readers.rows("demographics", groupBy="age,gender,country,city,followers,device", top="100")
        for dimension in ("age", "gender", "country", "city", "followers", "device")
        for share in row.get(dimension) or ()
        if share["events"]
    }
    assert {dimension for _, _, dimension, _, _ in expected} == {
        dimension.name for source in SOURCES.values() for dimension in source.dimensions
    }
    found = await readers.views.fetch("SELECT * FROM report_audience")
    assert len(found) == len(expected)
    assert {tuple(row) for row in found} == expected


async def test_campaigns_are_those_of_the_api(readers: Readers) -> None:
    """Purchases and revenue by campaign and quarter-hour, from counted quarter-hours and from rows."""
    expected = {
        (row["bucket"], row["campaignId"], row["purchases"], Decimal(row["revenue"]))
        for row in await readers.rows("revenue", source="facebook", groupBy="campaignId", top="100")
        if row["purchases"]
    }
    assert "camp-late" in {campaign for _, campaign, _, _ in expected}
    assert {bucket >= NOON for bucket, _, _, _ in expected} == {False, True}
    found = await readers.views.fetch(
        "SELECT bucket, campaign_id, purchases, revenue FROM report_campaigns WHERE purchases > 0"
    )
    assert len(found) == len(expected)
    assert {tuple(row) for row in found} == expected


async def test_campaigns_have_their_other_events(readers: Readers) -> None:
    """A click and a form have a campaign, too: all events of the bottom stage are there by type, and none twice."""
    events: Counter[tuple[datetime, str]] = Counter()
    for row in await readers.views.fetch("SELECT bucket, event_type, events FROM report_campaigns"):
        events[row["bucket"], row["event_type"]] += row["events"]
    expected = {
        (row["bucket"], row["eventType"]): row["events"]
        for row in await readers.rows("events", source="facebook", funnelStage="bottom", groupBy="eventType")
        if row["events"]
    }
    assert events == expected


@pytest.mark.parametrize(
    ("since", "until"),
    [
        (SINCE, UNTIL),
        (SINCE - timedelta(days=40), UNTIL + timedelta(days=40)),  # longer units: days and weeks
        (NOON - timedelta(hours=3), NOON - timedelta(hours=1)),  # whole hours, one of them with a late event
        (NOON - timedelta(minutes=100), NOON + timedelta(minutes=35)),  # rounded to quarter-hours as in the view
        (NOON - timedelta(minutes=75), NOON - timedelta(minutes=45)),
        (NOON, NOON),
        (NOON + timedelta(days=30), NOON + timedelta(days=60)),
        (UNTIL, SINCE),
    ],
)
@pytest.mark.parametrize("breakdown", ["campaign", "city"])
async def test_ranked_values_are_the_sums_of_the_view(
    readers: Readers, breakdown: str, since: datetime, until: datetime
) -> None:
    """The function reads the longest units that are valid; the view reads quarter-hours. Both give the same."""
    expected: defaultdict[tuple[str, str], list[Decimal]] = defaultdict(lambda: [Decimal(0)] * 3)
    owner = await postgres.connect(readers.database.owner_dsn, name="tests")
    quarters = await owner.fetch(
        "SELECT value, event_type, events, purchases, revenue FROM reports.ranked_quarters"
        " WHERE breakdown = $1 AND bucket >= $2 AND bucket < $3",
        *(breakdown, since, until),
    )
    await owner.close()
    for value, event_type, *figures in quarters:
        expected[value, event_type] = [
            sum(pair, Decimal(0)) for pair in zip(expected[value, event_type], map(Decimal, figures), strict=True)
        ]
    found = await readers.views.fetch("SELECT * FROM ranked_values($1, $2, $3)", breakdown, since, until)
    assert {
        (row["value"], row["event_type"]): [row["events"], row["purchases"], row["revenue"]] for row in found
    } == dict(expected)
    assert {row["max_error"] for row in found} <= {0}


async def test_values_that_are_not_kept_are_one_row(database: Database) -> None:
    """A quarter-hour with more values than are kept has the rest in one row, and says how far a figure may be off."""
    await fill(database)
    connection = await postgres.connect(database.owner_dsn, name="tests")
    exact = await connection.fetch("SELECT * FROM reports.ranked_values('campaign', $1, $2)", SINCE, UNTIL)
    await connection.execute("DELETE FROM breakdown_buckets")
    await BreakdownCounter(connection, "facebook", 2).count_all(UNTIL)
    for statement in (
        "SELECT sum(events), sum(purchases), sum(revenue) FROM reports.ranked_values('campaign', $1, $2)",
        "SELECT sum(events), sum(purchases), sum(revenue) FROM reports.report_campaigns"
        " WHERE bucket >= $1 AND bucket < $2",
    ):
        (row,) = await connection.fetch(statement, SINCE, UNTIL)
        assert tuple(row) == tuple(sum(one[name] for one in exact) for name in ("events", "purchases", "revenue"))
    rough = await connection.fetch("SELECT * FROM reports.ranked_values('campaign', $1, $2)", SINCE, UNTIL)
    await connection.close()
    assert None in {row["value"] for row in rough}
    events: Counter[str] = Counter()
    for row in exact:
        events[row["value"]] += row["events"]
    for value in {row["value"] for row in rough} - {None}:
        listed = [row for row in rough if row["value"] == value]
        (error,) = {row["max_error"] for row in listed}
        assert sum(row["events"] for row in listed) <= events[value] <= sum(row["events"] for row in listed) + error


async def test_freshness_is_that_of_the_api(readers: Readers) -> None:
    """One row a source, with its watermark."""
    answer = (await readers.api.get("/reports/events", params=bounds())).json()["freshness"]
    found = await readers.views.fetch("SELECT * FROM report_freshness")
    assert {row["source"] for row in found} == set(SOURCES)
    for row in found:
        fresh = answer[row["source"]]
        assert row["stored_until"] == datetime.fromisoformat(fresh["storedUntil"])
        assert row["pending_messages"] == fresh["pendingMessages"]
        assert row["behind_seconds"] >= 0
        assert row["title"] == SOURCES[row["source"]].title


async def test_every_column_has_a_comment(readers: Readers) -> None:
    """BI tools show it. The views are what docs/bi.md says."""
    rows = await readers.views.fetch(
        "SELECT relname, attname, obj_description(pg_class.oid, 'pg_class') AS view_comment,"
        " col_description(pg_class.oid, attnum) AS comment FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid"
        " WHERE relnamespace = 'reports'::regnamespace AND relname LIKE 'report\\_%' AND attnum > 0"
    )
    assert {row["relname"] for row in rows} == set(VIEWS)
    assert [row for row in rows if not row["comment"] or not row["view_comment"]] == []


async def test_the_role_reads_reports_and_nothing_else(readers: Readers) -> None:
    """Views and the list of sources; no event, no other table, no write, and no query that never ends."""
    for name in (*VIEWS, "sources"):
        await readers.views.fetch(f"SELECT * FROM {name} LIMIT 1")
    tables = await readers.views.fetch(
        "SELECT oid::regclass::text AS name FROM pg_class WHERE relkind IN ('r', 'p', 'v')"
        " AND relnamespace IN ('public'::regnamespace, 'reports'::regnamespace)"
    )
    hidden = {row["name"] for row in tables} - {*VIEWS, "sources"}
    assert {"public.facebook_events", "public.dead_letters", "public.event_counts"} <= hidden
    forbidden = (
        *(f"SELECT * FROM {name} LIMIT 1" for name in hidden),
        "UPDATE sources SET title = ''",
        "CREATE TABLE mine (a int)",
        "CREATE TABLE reports.mine (a int)",
        "CALL grant_to('sluice_bi')",
        "SELECT public.ensure_partition('facebook_events', '2026-11-23')",
        "SET ROLE sluice_reporter",
    )
    await readers.views.execute("SET default_transaction_read_only = off")  # a client may; its rights stay
    for statement in forbidden:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await readers.views.execute(statement)
            pytest.fail(f"was allowed: {statement}")
    await readers.views.execute("RESET default_transaction_read_only")
    assert await readers.views.fetchval("SHOW statement_timeout") == "1min"
    assert await readers.views.fetchval("SHOW default_transaction_read_only") == "on"
