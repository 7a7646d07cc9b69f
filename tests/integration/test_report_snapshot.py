"""A report is of one moment: while events come in, while days are dropped, and when the database is away."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from reporter.database import open_snapshot
from reporter.query_params import QueryParams
from reporter.reports.events import EVENTS
from reporter.settings import ReporterSettings
from tests.support.events import NOON, Event, facebook, tiktok
from tests.support.report_rows import Collected, collecting, connected, reporter, reporter_pool
from tests.support.stack import Database
from tests.support.waiting import eventually

LONG_AGO = NOON - timedelta(days=30)  # a day that may be dropped


def ragged(noon: datetime) -> dict[str, str]:
    """A range with both ends inside a quarter-hour, on either side of its middle."""
    return {"from": (noon - timedelta(hours=1, minutes=3)).isoformat(), "to": (noon + timedelta(minutes=3)).isoformat()}


RAGGED = ragged(NOON)
WAITING = "SELECT count(*) FROM pg_locks WHERE relation = 'facebook_events'::regclass AND NOT granted"
REPORTED = """
    INSERT INTO watermarks (source, stored_until, pending_messages) VALUES ('facebook', $1, $2)
    ON CONFLICT (source) DO UPDATE SET stored_until = $1, pending_messages = $2
"""


@pytest.fixture
async def collected(database: Database) -> AsyncIterator[Collected]:
    async with collecting(database.collector_dsn) as collected:
        yield collected


def spread(number: int, *, around: datetime = NOON) -> list[Event]:
    """Two events a minute over 2 hours: some in the report above, some at its ends, some outside."""
    times = [around + timedelta(minutes=minute - 90, milliseconds=number) for minute in range(120)]
    return [make(at=at) for at in times for make in (facebook, tiktok)]


async def test_a_report_equals_a_count_at_its_moment(database: Database, collected: Collected) -> None:
    """While events come in, a report's total is what counting the rows in the same transaction gives, to the event.

    The report's freshness is of that moment too: it never reports of events that the report does not count.
    """
    query = EVENTS.parse_query(QueryParams(_url(RAGGED).encode(), EVENTS.parameters), ReporterSettings())
    count = """
        SELECT (SELECT count(*) FROM facebook_events WHERE event_time >= $1 AND event_time < $2)
             + (SELECT count(*) FROM tiktok_events WHERE event_time >= $1 AND event_time < $2)
    """
    start = datetime(2026, 1, 1, tzinfo=UTC)
    begun = asyncio.Event()

    async def keep_storing() -> None:
        async with connected(database.collector_dsn) as connection:
            for number in range(40):
                await collected.store(spread(number))
                # As a watermark: everything up to this second is stored, which is so many batches.
                await connection.execute(REPORTED, start + timedelta(seconds=number + 1), 0)
                begun.set()

    in_report = sum(
        query.period.start <= datetime.fromisoformat(event["timestamp"]) < query.period.end for event in spread(0)
    )
    totals = []
    async with reporter_pool(database.reporter_dsn) as (pool, _), asyncio.TaskGroup() as tasks:
        storing = tasks.create_task(keep_storing())
        await begun.wait()
        while not storing.done():
            async with open_snapshot(pool, query.sources) as moment:
                answer: Any = await EVENTS.read(moment, query)
                counted = await moment.connection.fetchval(count, query.period.start, query.period.end)
            until = answer.freshness["facebook"].stored_until
            assert answer.totals.events == counted
            assert answer.totals.events >= in_report * (until - start).total_seconds()
            totals.append(counted)
    assert len(set(totals)) > 5, "the reports were all of the same moment: nothing was tried"


async def test_dropped_days_are_answered_by_quarter_hours(database: Database, collected: Collected) -> None:
    """Below the floor the rollups still answer to the event; what would need rows is rejected and named."""
    await collected.store(spread(0, around=LONG_AGO))
    async with connected(database.collector_dsn) as connection, reporter(database.reporter_dsn) as client:
        for parent in ("facebook_events", "tiktok_events"):
            await connection.fetchval("SELECT drop_partitions($1, $2)", parent, LONG_AGO.date() + timedelta(days=1))
        whole = {"from": (LONG_AGO - timedelta(hours=1)).isoformat(), "to": LONG_AGO.isoformat()}
        for report, total in (("events", 120), ("demographics", 120)):
            answer = await client.get(f"/reports/{report}", params=whole)
            assert answer.json()["totals"]["events"] == total
        audience = (await client.get("/reports/demographics", params=whole)).json()
        assert audience["rows"][0]["city"] is None
        assert "city is left out" in audience["notes"][0]
        assert (LONG_AGO.date() + timedelta(days=1)).isoformat() in audience["notes"][0]
        for report, name, parameters in (
            ("events", "from", ragged(LONG_AGO)),
            ("events", "to", whole | {"to": ragged(LONG_AGO)["to"]}),
            ("events", "interval", whole | {"interval": "minute"}),
            ("demographics", "from", ragged(LONG_AGO)),
            ("revenue", "from", ragged(LONG_AGO)),
            ("revenue", "from", whole | {"campaignId": "camp-1"}),
        ):
            rejected = await client.get(f"/reports/{report}", params=parameters)
            assert rejected.status_code == 400
            assert rejected.json()["parameter"] == name, rejected.text
            assert (LONG_AGO.date() + timedelta(days=1)).isoformat() in rejected.json()["detail"]


async def test_a_comparison_with_dropped_days_is_cut_at_a_quarter_hour(
    database: Database, collected: Collected
) -> None:
    """A running range is compared with days whose rows are gone: as far as the quarter-hour before the same point."""
    await collected.store(spread(0, around=LONG_AGO))
    reached = NOON - timedelta(minutes=7)
    async with connected(database.collector_dsn) as connection, reporter(database.reporter_dsn) as client:
        await connection.execute(REPORTED, reached, 0)
        await connection.fetchval("SELECT drop_partitions('facebook_events', $1)", LONG_AGO.date() + timedelta(days=1))
        days = timedelta(days=30)
        requested = {
            "from": (NOON - days).isoformat(),
            "to": (NOON + timedelta(days=1)).isoformat(),
            "source": "facebook",
        }
        requested |= {"interval": "day", "compare": "previous"}
        requested["from"] = (NOON - timedelta(days=29)).isoformat()
        answer = await client.get("/reports/events", params=requested)
        assert answer.status_code == 200, answer.text
        counted_until = datetime.fromisoformat(answer.json()["query"]["compare"]["countedUntil"])
        assert counted_until == NOON - days - timedelta(minutes=15)
        counted = sum(
            datetime.fromisoformat(event["timestamp"]) < counted_until for event in spread(0, around=LONG_AGO)
        )
        assert answer.json()["totals"]["previousEvents"] == counted // 2 > 0


async def test_no_day_is_dropped_under_a_report(database: Database, collected: Collected) -> None:
    """From before its snapshot to its end a report holds its partitions; afterwards they can be dropped."""
    await collected.store([facebook(at=LONG_AGO)])
    drop = "SELECT drop_partitions('facebook_events', $1)"
    async with connected(database.collector_dsn) as connection, reporter_pool(database.reporter_dsn) as (pool, _):
        async with open_snapshot(pool, ("facebook",)):
            with pytest.raises(asyncpg.LockNotAvailableError):
                await connection.fetchval(drop, LONG_AGO.date() + timedelta(days=1))
        assert await connection.fetchval(drop, LONG_AGO.date() + timedelta(days=1)) == 1


async def test_freshness_is_reported_for_the_sources_requested_for(database: Database) -> None:
    """A source without a watermark has none; another source's is not reported."""
    async with connected(database.collector_dsn) as connection, reporter(database.reporter_dsn) as client:
        until = datetime.now(UTC) - timedelta(seconds=90)
        await connection.execute(REPORTED, until, 3)
        both = (await client.get("/reports/events", params=RAGGED)).json()["freshness"]
        assert both["tiktok"]["storedUntil"] is None
        assert datetime.fromisoformat(both["facebook"]["storedUntil"]) == until
        assert both["facebook"]["pendingMessages"] == 3
        assert 90 <= both["facebook"]["behindSeconds"] < 120
        answer = await client.get("/reports/events", params=RAGGED | {"source": "tiktok"})
        assert list(answer.json()["freshness"]) == ["tiktok"]
        assert answer.headers["Sluice-Stored-Until"] == "tiktok=unknown"


async def test_reports_cannot_write(database: Database) -> None:
    """Neither the role nor the session may change anything."""
    async with reporter_pool(database.reporter_dsn) as (pool, _):
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await pool.execute("DELETE FROM event_counts")
        async with pool.acquire() as connection:
            await connection.execute("SET default_transaction_read_only = off")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute("DELETE FROM event_counts")


async def test_a_report_that_takes_too_long_is_504(database: Database) -> None:
    """The server ends it, the client is reported, and the connection is fit for the next report."""
    async with (
        reporter(database.reporter_dsn, reporter_statement_timeout_seconds=0.2, reporter_connections=1) as client,
        connected(database.owner_dsn) as owner,
    ):
        async with owner.transaction():
            await owner.execute("LOCK TABLE facebook_events IN ACCESS EXCLUSIVE MODE")
            answer = await client.get("/reports/events", params=RAGGED)
            assert answer.status_code == 504
            assert answer.headers["Content-Type"] == "application/problem+json"
        assert (await client.get("/reports/events", params=RAGGED)).status_code == 200


async def test_cities_that_take_too_long_are_left_out(database: Database, collected: Collected) -> None:
    """Counting cities is the one slow part of demographics: past the time allowed the report goes on without them."""
    await collected.store(spread(0))
    async with connected(database.owner_dsn) as owner:
        # Each city that is read takes its time.
        await owner.execute(
            """
            CREATE FUNCTION slow(text) RETURNS text LANGUAGE plpgsql STABLE AS
                $$ BEGIN PERFORM pg_sleep(5); RETURN $1; END $$;
            ALTER TABLE facebook_events RENAME TO hidden;
            CREATE VIEW facebook_events AS SELECT event_time, event_id, funnel_stage, event_type, gender, age, country,
                purchase_amount, slow(city) AS city FROM hidden;
            GRANT SELECT ON facebook_events TO sluice_reporter;
            """
        )
        async with reporter(database.reporter_dsn, reporter_statement_timeout_seconds=0.5) as client:
            answer = (await client.get("/reports/demographics", params=RAGGED)).json()
    assert answer["rows"][0]["city"] is None
    assert answer["notes"] == ["city is left out: counting it took too long. Use a shorter range"]
    assert answer["rows"][0]["events"] == answer["rows"][1]["events"] == 66


async def test_all_connections_busy_is_503(database: Database) -> None:
    """Who has to wait too long for a connection is reported to come back."""
    async with (
        reporter(database.reporter_dsn, reporter_connections=1) as client,
        connected(database.owner_dsn) as owner,
    ):
        async with owner.transaction():
            await owner.execute("LOCK TABLE facebook_events IN ACCESS EXCLUSIVE MODE")
            waiting = asyncio.create_task(client.get("/reports/events", params=RAGGED))
            await eventually(lambda: owner.fetchval(WAITING), what="the report waits for the lock")
            answer = await client.get("/reports/events", params=RAGGED | {"source": "tiktok"})
            assert answer.status_code == 503
            assert int(answer.headers["Retry-After"]) > 0
        assert (await waiting).status_code == 200


def _url(parameters: dict[str, str]) -> str:
    return "&".join(f"{name}={value.replace('+', '%2B')}" for name, value in parameters.items())
