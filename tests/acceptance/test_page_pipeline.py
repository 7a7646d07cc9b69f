"""What the page's numbers rest on: the pipeline's state as the database has it, reports as files, and in a terminal."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import NamedTuple

import asyncpg
import httpx
import pytest

from ops.local.ports import free_port
from tests.acceptance.test_reports import process
from tests.support.events import NOON, changed, facebook, tiktok
from tests.support.processes import ROOT
from tests.support.report_rows import collecting
from tests.support.stack import Database
from tests.support.waiting import in_time

DAY = (str(NOON.date()), str((NOON + timedelta(days=1)).date()))
RANGE = ("--from", DAY[0], "--to", DAY[1])
ESCAPE = "\x1b[31mred"


class EventError(NamedTuple):
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


async def report(reporter: str, *arguments: str) -> EventError:
    """Run `python -m ops report …` against a reporter."""
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ops", "report", *arguments),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "REPORTER_URL": reporter},
        stdout=PIPE,
        stderr=PIPE,
    )
    out, err = await in_time(running.communicate())
    return EventError(running.returncode or 0, out.decode(), err.decode())


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """A reporter on a database of its own."""
    async with process(database.reporter_dsn) as (_, client):
        yield client


async def test_a_hole_in_the_ledger_is_seen(database: Database, client: httpx.AsyncClient) -> None:
    """A message without a receipt waits, until the watermark has passed a later one: then it is lost. An earlier life
    of the stream, and what is older than a day, do not count."""
    empty = (await client.get("/pipeline")).json()
    assert empty["sources"]["facebook"]["ledger"] == dict.fromkeys(
        ("messages", "receipts", "waiting", "lost", "events", "stored", "repeated", "dead"), 0
    )
    assert empty["sources"]["facebook"]["freshness"]["behindSeconds"] is None
    owner = await asyncpg.connect(database.owner_dsn)
    try:
        await owner.execute("""
            INSERT INTO stream_lives (stream, created, last_sequence)
            VALUES ('EVENTS_FACEBOOK', now() - interval '2 days', 8), ('EVENTS_FACEBOOK', now() - interval '3 days', 99)
        """)
        await owner.execute("""
            INSERT INTO receipts (stream, stream_sequence, published_at, stored_at, events, stored, repeated, dead)
            SELECT 'EVENTS_FACEBOOK', sequence, now() - ago, now() - ago, 300, 297, 2, 1
            FROM (VALUES (1, interval '25 hours'), (3, '12 seconds'), (4, '11 seconds'), (6, '9 seconds'),
                         (7, '8 seconds'), (50, '50 hours')) AS message (sequence, ago)
        """)
        await owner.execute("INSERT INTO watermarks VALUES ('facebook', now() - interval '10 seconds', 2)")
        found = (await client.get("/pipeline")).json()["sources"]["facebook"]
        assert found["ledger"] == {
            "messages": 6, "receipts": 4, "waiting": 2, "lost": 0,
            "events": 1200, "stored": 1188, "repeated": 8, "dead": 4,
        }  # fmt: skip
        assert found["acceptedPerSecond"] == 2 * 300 / 15  # those before the watermark
        assert found["storedPerSecond"] == 4 * 297 / 15
        await owner.execute("UPDATE watermarks SET stored_until = now(), pending_messages = 1")
        found = (await client.get("/pipeline")).json()["sources"]["facebook"]
        assert (found["ledger"]["waiting"], found["ledger"]["lost"]) == (1, 1)
    finally:
        await owner.close()
    wrong = await client.get("/pipeline", params={"since": "ever"})
    assert (wrong.status_code, wrong.json()["parameter"]) == (400, "since")


async def test_reports_come_as_files(client: httpx.AsyncClient) -> None:
    """What a link can give: the CSV whatever is accepted, with a name to save it under; a mistake is a problem."""
    query = {"from": DAY[0], "to": DAY[1], "groupBy": "source"}
    for name in ("events", "revenue"):
        file = await client.get(f"/reports/{name}.csv", params=query, headers={"Accept": "text/html"})
        requested = await client.get(f"/reports/{name}", params=query, headers={"Accept": "text/csv"})
        assert file.text == requested.text
        saved_as = f"sluice-{name}-{DAY[0]}-{NOON.date()}.csv"
        assert file.headers["Content-Disposition"] == f'attachment; filename="{saved_as}"'
        marked = await client.get(f"/reports/{name}.csv", params=query | {"bom": "true"})
        assert marked.content == b"\xef\xbb\xbf" + file.content
    short = {"from": f"{DAY[0]}T10:00:00Z", "to": f"{DAY[0]}T11:30:00Z", "timeZone": "Asia/Kathmandu"}
    file = await client.get("/reports/events.csv", params=short)
    saved_as = f"sluice-events-{DAY[0]}T154500-{DAY[0]}T171500.csv"
    assert file.headers["Content-Disposition"] == f'attachment; filename="{saved_as}"'
    for path, parameter in (("/reports/events.csv", "maybe"), ("/reports/events", "true")):
        rejected = await client.get(path, params=query | {"bom": parameter})
        assert (rejected.status_code, rejected.json()["parameter"]) == (400, "bom")
    wrong = await client.get("/reports/events.csv", params={"from": DAY[0]})
    assert (wrong.status_code, wrong.json()["parameter"]) == (400, "to")
    assert "Content-Disposition" not in wrong.headers


async def test_reports_in_a_terminal(database: Database, client: httpx.AsyncClient) -> None:
    """A table for people, in which no sender's text commands the terminal; CSV and JSON are the API's own; a mistake is
    one sentence with what is allowed, code 2; a reporter that is not there is code 1."""
    async with collecting(database.collector_dsn) as collected:
        norway = [facebook(stage, at=NOON) for stage in ("top", "bottom", "bottom")]
        await collected.store(
            [*norway, changed(facebook(at=NOON), "data.user.location.country", ESCAPE), tiktok(at=NOON)]
        )
    here = str(client.base_url)
    nowhere = f"http://127.0.0.1:{free_port()}"
    events, revenue, audience, as_csv, as_json, wrong, away = await asyncio.gather(
        report(here, "events", *RANGE, "--group-by", "source,funnelStage"),
        report(here, "revenue", *RANGE, "--compare", "previous", "--time-zone", "Asia/Kathmandu"),
        report(here, "demographics", *RANGE, "--group-by", "country"),
        report(here, "events", *RANGE, "--interval", "hour", "--format", "csv"),
        report(here, "events", "--format", "json"),  # the last 24 hours
        report(here, "events", *RANGE, "--source", "myspace"),
        report(nowhere, "events"),
    )
    funnel, yesterday, both = await asyncio.gather(
        report(here, "funnel", *RANGE, "--source", "facebook", "--steps", "page.like,checkout.complete,ad.click"),
        report(here, "revenue", "--range", "yesterday", "--metrics", "averageOrderValue"),
        report(here, "events", "--range", "7d", "--to", "2h"),
    )
    assert [" ".join(line.split()) for line in funnel.out.splitlines()[2:5]] == [
        f"{DAY[0]} 00:00 ~ facebook 1 page.like 2 100.00%",
        f"{DAY[0]} 00:00 ~ facebook 2 checkout.complete 2 100.00% 100.00%",
        f"{DAY[0]} 00:00 ~ facebook 3 ad.click 0 0.00% 0.00%",
    ]
    assert "total: facebook: page.like 2, checkout.complete 2 (100.00%), ad.click 0 (0.00%); from" in funnel.out
    assert "a funnel counts events, not people" in funnel.out
    assert "total: revenue 407.90, purchases 2, average order value 203.95" in yesterday.out
    assert (both.code, both.err) == (2, "sluice: to: is not allowed with range: use either from and to, or range\n")
    assert [" ".join(line.split()) for line in events.out.splitlines()[2:5]] == [
        f"{DAY[0]} 00:00 ~ facebook top 2", f"{DAY[0]} 00:00 ~ facebook bottom 2", f"{DAY[0]} 00:00 ~ tiktok top 1",
    ]  # fmt: skip
    assert "~ marks an incomplete bucket" in events.out  # no collector has said what is stored
    assert "total: events 5" in events.out
    assert "total: revenue 407.90, purchases 2, previous revenue 0.00" in revenue.out
    first = f"{DAY[0]} 00:00"
    assert f"from {first}:00+05:45 to " in revenue.out
    assert f"to {first}:00+05:45" in revenue.out.partition("previous: from ")[2]
    assert f"{first}+05:45" in revenue.out.splitlines()[2]
    assert "time zone Asia/Kathmandu" in revenue.out
    assert "Norway" in audience.out
    assert "\x1b" not in audience.out
    assert r"\x1b[31mred" in audience.out
    query = {"from": DAY[0], "to": DAY[1], "interval": "hour"}
    assert as_csv.out == (await client.get("/reports/events", params=query, headers={"Accept": "text/csv"})).text
    assert json.loads(as_json.out).keys() >= {"query", "rows", "totals", "freshness"}
    assert [reported.code for reported in (events, revenue, audience, as_csv, as_json)] == [0] * 5, events.err
    assert (wrong.code, wrong.out) == (2, "")
    assert wrong.err == "sluice: source: 'myspace' is not allowed; allowed: facebook, tiktok\n"
    assert (away.code, away.err.count("\n")) == (1, 1)
    assert "REPORTER_URL" in away.err
