"""Try a third source, in a tree that declares one: `python -m tests.support.third_source`.

`tests/acceptance/test_add_a_source.py` runs it in a copy of the tree, after what docs/add-a-source.md says. Its recount
of the events shares nothing with the declaration.
"""

from __future__ import annotations

import asyncio
import csv
import io
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any

from collector.maintenance.breakdowns import BreakdownCounter
from collector.parse.native import native_parser
from collector.parse.python import python_parser
from collector.sources import SOURCES
from core import native, postgres
from core.events.contract import Contract
from core.settings import load
from ops.doctor import doctor
from ops.settings import OperatorSettings
from tests.support.events import Event, facebook, message, rfc3339, tiktok
from tests.support.parsed import comparable
from tests.support.system import System, running

EVENTS = 600
NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
UNTIL = NOON + timedelta(hours=1)
TYPES = {"top": ("impression", "video.view"), "bottom": ("ad.click", "purchase", "conversion")}


def google(rng: Random, number: int) -> Event:
    """A valid event. A `purchase` of it is no revenue, though another source's is."""
    stage = rng.choice(("top", "bottom"))
    engagement = {
        "top": {"network": rng.choice(("search", "youtube")), "keyword": rng.choice((None, "lamp"))},
        "bottom": {
            "gclid": f"g-{number}",
            "campaign": f"summer-{rng.randrange(4)}",
            "device": rng.choice(("phone", "tablet", "computer")),
            "conversionValue": rng.choice((None, f"{rng.randrange(500)}.{rng.randrange(100):02}")),
        },
    }
    return {
        "eventId": f"ggl-{number}",
        "timestamp": rfc3339(NOON + timedelta(seconds=rng.randrange(3_600))),
        "source": "google",
        "funnelStage": stage,
        "eventType": rng.choice(TYPES[stage]),
        "data": {
            "user": {
                "userId": f"u-{rng.randrange(50)}",
                "incomePercentile": rng.randrange(101),
                "country": rng.choice(("Norway", "Peru", "Japan")),
            },
            "engagement": engagement[stage],
        },
    }


def both_parsers(events: list[Event]) -> None:
    """The native parser takes the source, and writes what the Python parser writes."""
    contract = Contract(max_age_days=7, max_ahead_seconds=3600)
    body = message(*events, b'{"source":"google"}')
    python = python_parser(SOURCES["google"], contract)(body, 7)
    assert len(python.invalid) == 1
    if not native.NOT_BUILT:
        assert comparable(native_parser(SOURCES["google"], contract)(body, 7)) == python


async def stored(system: System, events: list[Event]) -> None:
    """Gateway and collector take the events; the wrong ones are rejected with their path, repeats change nothing."""
    wrong: Any = {**events[0], "eventId": "wrong", "eventType": "checkout.complete"}
    body = [*events[:300], wrong, *events[300:], facebook(at=NOON)]
    answer = await system.http.post(system.services.endpoint, json=body)
    assert answer.status_code == 202, answer.text
    assert answer.json()["accepted"] == len(events) + 1
    (error,) = answer.json()["errors"]
    assert (error["path"], error["reason"]) == ("$.eventType", "not_allowed")
    assert (await system.http.post(system.services.endpoint, json=[*events[:50], tiktok(at=NOON)])).status_code == 202
    await system.until_stored()
    (row,) = await system.select("SELECT count(*), count(DISTINCT event_id) AS ids FROM google_events")
    assert tuple(row) == (len(events), len(events))
    log = system.log_lines("ggl-collector")
    (parser,) = {line["parser"] for line in log if line["event"] == "parser selected"}
    assert parser == ("python" if native.NOT_BUILT else "native")


async def reported(system: System, events: list[Event]) -> None:
    """Every report counts what an independent recount counts, with facebook's and tiktok's beside it."""
    found = await system.report("events", NOON, UNTIL, source="google", groupBy="funnelStage,eventType")
    funnel = (await system.report("funnel", NOON, UNTIL, source="google"))["totals"]
    steps = Counter(event["eventType"] for event in events)
    counted = [(step["eventType"], step["events"]) for step in funnel]
    assert counted == [(step, steps[step]) for step in ("impression", "ad.click", "conversion")]
    types = Counter((event["funnelStage"], event["eventType"]) for event in events)
    assert {(row["funnelStage"], row["eventType"]): row["events"] for row in found["rows"] if row["events"]} == types
    assert (await system.report("events", NOON, UNTIL))["totals"]["events"] == len(events) + 2

    sold = [event for event in events if event["eventType"] == "conversion"]
    paid = [Decimal(event["data"]["engagement"]["conversionValue"] or 0) for event in sold]
    found = await system.report("revenue", NOON, UNTIL, groupBy="source")
    revenue = {row["source"]: (Decimal(row["revenue"]), row["purchases"]) for row in found["rows"]}
    assert revenue["google"] == (sum(paid), len(sold))
    assert revenue["tiktok"] == (Decimal(0), 0)  # its event of the top stage is none

    campaigns: Counter[str] = Counter()
    for event, amount in zip(sold, paid, strict=True):
        campaigns[event["data"]["engagement"]["campaign"]] += amount  # type: ignore[assignment]
    found = await system.report("revenue", NOON, UNTIL, groupBy="campaignId", source="google")
    listed = {row["campaignId"]: Decimal(row["revenue"]) for row in found["rows"] if row["campaignId"] is not None}
    assert listed == dict(campaigns)
    one = await system.report("revenue", NOON, UNTIL, campaignId="summer-1")
    assert Decimal(one["totals"]["revenue"]) == campaigns["summer-1"]

    found = await system.report("demographics", NOON, UNTIL, source="google")
    (row,) = found["rows"]
    audience = {
        name: {share["value"]: share["events"] for share in row[name]} for name in ("income", "country", "device")
    }
    users = [event["data"]["user"] for event in events]
    bands = Counter(map(_band, users))
    devices = Counter(event["data"]["engagement"]["device"] for event in events if event["funnelStage"] == "bottom")
    assert audience == {
        "income": bands, "country": Counter(user["country"] for user in users), "device": devices
    }  # fmt: skip
    # By rows as by rollups: a filter, and a range that cuts a quarter-hour.
    odd = {"from": rfc3339(NOON + timedelta(seconds=1)), "to": rfc3339(UNTIL), "source": "google"}
    cut = (await system.get("/reports/demographics", **odd, funnelStage="bottom")).json()
    kept = [event for event in events if event["timestamp"] >= odd["from"] and event["funnelStage"] == "bottom"]
    assert cut["totals"]["events"] == len(kept)


def _band(user: dict[str, Any]) -> str:
    percentile: int = user["incomePercentile"]
    return "90+" if percentile >= 90 else "50-89" if percentile >= 50 else "0-49"


async def broken_down(system: System, events: list[Event]) -> None:
    """Its campaigns, dimensions and pairs are counted after the events are stored, by quarter-hour, hour and day."""
    connection = await postgres.connect(system.servers.collector_dsn, name="tests")
    try:
        await BreakdownCounter(connection, "google").count_all(datetime.now(UTC))
        assert await BreakdownCounter(connection, "google").uncounted(datetime.now(UTC)) == 0
    finally:
        await connection.close()
    recounts = {
        "campaign": Counter(_values(events, lambda event: event["data"]["engagement"].get("campaign"))),
        "country": Counter(_values(events, lambda event: event["data"]["user"]["country"])),
        "income": Counter(map(_band, (event["data"]["user"] for event in events))),
        "device": Counter(_values(events, lambda event: event["data"]["engagement"].get("device"))),
        "income,device": Counter(_values(events, _income_and_device)),
    }
    sold = sum(
        Decimal(event["data"]["engagement"]["conversionValue"] or 0)
        for event in events
        if event["eventType"] == "conversion"
    )
    for name, recount in recounts.items():
        for unit in ("quarter", "hour"):
            rows = await system.select(
                "SELECT values, seconds, totals, revenue FROM breakdown_counts "
                "WHERE source = 'google' AND breakdown = $1 AND unit = $2::text::breakdown_unit",
                name,
                unit,
            )
            found: Counter[Any] = Counter()
            for row in rows:
                keys = row["values"] if row["seconds"] is None else zip(row["values"], row["seconds"], strict=True)
                found.update(dict(zip(keys, row["totals"], strict=True)))
            assert found == recount, (name, unit)
            assert sum(sum(row["revenue"]) for row in rows) == sold


def _values(events: list[Event], value: Callable[[Event], Any]) -> list[Any]:
    return [found for event in events if (found := value(event)) is not None]


def _income_and_device(event: Event) -> tuple[str, str] | None:
    device = event["data"]["engagement"].get("device")
    return device and (_band(event["data"]["user"]), device)


async def viewed(system: System, events: list[Event]) -> None:
    """The views for BI tools have the source, though no view was changed."""
    connection = await postgres.connect(system.servers.dsn("sluice_bi"), name="tests")
    try:
        rows = await connection.fetch("SELECT * FROM reports.report_events WHERE source = 'google'")
        assert sum(row["events"] for row in rows) == len(events)
        sold = [event["data"]["engagement"] for event in events if event["eventType"] == "conversion"]
        revenue = sum((Decimal(one["conversionValue"] or 0) for one in sold), Decimal(0))
        rows = await connection.fetch("SELECT * FROM reports.report_revenue WHERE source = 'google'")
        assert (sum(row["purchases"] for row in rows), sum(row["revenue"] for row in rows)) == (len(sold), revenue)
        expected = Counter(one["campaign"] for one in sold)
        for campaigns in (
            "SELECT campaign_id AS value, purchases FROM reports.report_campaigns WHERE source = 'google'",
            "SELECT value, purchases FROM reports.ranked_values('campaign', $1, $2) WHERE source = 'google'",
        ):
            bounds = (NOON, UNTIL) if "$1" in campaigns else ()
            found: Counter[str] = Counter()
            for row in await connection.fetch(campaigns, *bounds):
                found[row["value"]] += row["purchases"]
            assert +found == expected
        rows = await connection.fetch(
            "SELECT value, sum(events)::bigint AS events FROM reports.report_audience"
            " WHERE source = 'google' AND dimension = 'income' GROUP BY value"
        )
        assert {row["value"]: row["events"] for row in rows} == Counter(
            _band(event["data"]["user"]) for event in events
        )
        (title,) = await connection.fetch("SELECT title FROM reports.report_freshness WHERE source = 'google'")
        assert title["title"] == "Google Ads"
    finally:
        await connection.close()


async def shown(system: System) -> None:
    """CSV, the document that the page is made from, the pipeline's state and doctor know the source."""
    answer = await system.get("/reports/demographics.csv", **{"from": rfc3339(NOON), "to": rfc3339(UNTIL)})
    assert {row["source"] for row in csv.DictReader(io.StringIO(answer.text))} == {"facebook", "google", "tiktok"}
    schemas = (await system.get("/openapi.json")).json()["components"]["schemas"]
    assert schemas["Source"]["enum"] == ["facebook", "google", "tiktok"]
    assert "income" in schemas["DemographicsGroupBy"]["enum"]
    assert "google" in (await system.get("/pipeline")).json()["sources"]
    gateway = await system.http.get(f"{system.gateway}/openapi.json")
    assert "google bottom" in gateway.text
    selected = load(
        OperatorSettings,
        {
            "NATS_URL": system.servers.nats_url,
            "SLUICE_MIGRATE_DSN": system.servers.owner_dsn,
            "GATEWAY_URL": system.gateway,
            "REPORTER_URL": system.services.reports,
            "NATS_MONITOR_URL": system.servers.nats.monitor_url,
        },
    )
    checks = await doctor.run_checks(selected, 30.0, [])
    assert not [check for check in checks if check.state != "ok"], checks


async def main() -> None:
    """Raises AssertionError with what is wrong."""
    rng = Random(7)
    events = [google(rng, number) for number in range(EVENTS)]
    both_parsers(events)
    async with running() as system:
        await stored(system, events)
        await reported(system, events)
        await broken_down(system, events)
        await viewed(system, events)
        await shown(system)


if __name__ == "__main__":
    asyncio.run(main())
