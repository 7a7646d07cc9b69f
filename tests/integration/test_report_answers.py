"""What goes around a report's figures: formats, how long an answer keeps, pages and problems."""

from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import nanoarrow
import pytest

from reporter import period
from reporter.formats import ARROW, CHUNK_BYTES, CSV, FORMATS, JSON
from tests.support.events import NOON, facebook, tiktok
from tests.support.report_rows import collecting, connected, reporter
from tests.support.stack import Database

DAY = {"from": NOON.date().isoformat(), "to": f"{NOON.date()}T18:00:00Z"}
LONG_AGO = {"from": "2026-01-01", "to": "2026-01-02"}
REPORTS = ("events", "revenue", "funnel", "demographics")
REPORTED = """
    INSERT INTO watermarks (source, stored_until, pending_messages) SELECT source, $1, 0
    FROM unnest(enum_range(NULL::source)) AS source ON CONFLICT (source) DO UPDATE SET stored_until = $1
"""


@pytest.fixture
async def client(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with collecting(database.collector_dsn) as collected:
        await collected.store([make(stage, at=NOON) for make in (facebook, tiktok) for stage in ("top", "bottom")])
    async with reporter(database.reporter_dsn) as client:
        yield client


@pytest.mark.parametrize("report", REPORTS)
async def test_what_is_known_is_not_sent_again(database: Database, client: httpx.AsyncClient, report: str) -> None:
    """A tag stays while the figures do, though freshness goes on; other figures or formats have another, and so has an
    answer with a bucket that has become complete."""
    path = f"/reports/{report}"
    end = datetime.fromisoformat(DAY["to"])
    async with connected(database.collector_dsn) as connection:
        running = await client.get(path, params=DAY)
        await connection.execute(REPORTED, end)
        first = await client.get(path, params=DAY, headers={"If-None-Match": running.headers["ETag"]})
        assert first.status_code == 200
        assert [row["complete"] for row in first.json()["rows"]] == [True] * len(first.json()["rows"])
        await connection.execute(REPORTED, end + timedelta(seconds=1))
    tag = {"If-None-Match": first.headers["ETag"]}
    again = await client.get(path, params=DAY, headers=tag)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert again.headers["Sluice-Stored-Until"] != first.headers["Sluice-Stored-Until"]
    assert (await client.get(path, params=DAY, headers=tag | {"Accept": CSV})).status_code == 200
    assert (await client.get(path, params=DAY | {"timeZone": "Europe/Berlin"}, headers=tag)).status_code == 200
    async with collecting(database.collector_dsn) as collected:
        await collected.store([facebook("bottom", at=NOON)])
    changed = await client.get(path, params=DAY, headers=tag)
    assert changed.status_code == 200
    assert changed.headers["ETag"] != first.headers["ETag"]


async def test_only_a_closed_range_keeps(database: Database, client: httpx.AsyncClient) -> None:
    """An answer keeps only once all is stored that was accepted up to MAX_EVENT_AGE after its end, of every source; one
    that something is missing from does not."""
    closing = datetime(2026, 1, 2, tzinfo=UTC) + timedelta(days=7)
    async with connected(database.collector_dsn) as connection:
        for until, kept in ((None, False), (closing - timedelta(microseconds=1), False), (closing, True)):
            if until:
                await connection.execute(REPORTED, until)
            answer = await client.get("/reports/events", params=LONG_AGO)
            assert answer.headers["Cache-Control"] == ("private, max-age=86400" if kept else "no-cache")
        await connection.execute(
            "UPDATE watermarks SET stored_until = $1 WHERE source = 'tiktok'", closing - timedelta(1)
        )
        for source, cache in (("facebook", "private, max-age=86400"), ("tiktok", "no-cache")):
            answer = await client.get("/reports/events", params=LONG_AGO | {"source": source})
            assert answer.headers["Cache-Control"] == cache
        before = LONG_AGO | {"from": "2025-12-30", "source": "facebook"}
        for by, cache in (("gender", "private, max-age=86400"), ("city", "private, max-age=86400")):
            answer = await client.get("/reports/demographics", params=before | {"groupBy": by})
            assert answer.headers["Cache-Control"] == cache


@pytest.mark.parametrize("report", REPORTS)
async def test_flat_traffic_shows_no_change(database: Database, report: str) -> None:
    """In the middle of a day as many events came as until the same time of the day before, in every report, for running
    days and hours alike; the tag changes as the comparison goes on, and stays while the watermark does."""
    now = NOON.replace(hour=13, minute=47, second=30)
    async with collecting(database.collector_dsn) as collected:
        for back in range(4):
            hours = 24 if back else 13
            at = (
                NOON.replace(hour=0) - timedelta(days=back) + timedelta(minutes=20 * step) for step in range(3 * hours)
            )
            await collected.store([make("bottom", at=each) for each in at for make in (facebook, tiktok)])
        await collected.store(
            [make("bottom", at=now - timedelta(minutes=back)) for back in (45, 25, 5) for make in (facebook, tiktok)]
        )
    day, midnight, hour = timedelta(days=1), NOON.replace(hour=0), now.replace(minute=0, second=0)
    ranges: tuple[tuple[datetime, datetime, dict[str, str]], ...] = (
        (midnight - day, midnight + day, {"interval": "day"}),
        (midnight - day, midnight + day, {}),
        (hour - day, hour + timedelta(hours=1), {"interval": "hour"}),
    )
    async with connected(database.collector_dsn) as connection, reporter(database.reporter_dsn) as client:
        await connection.execute(REPORTED, now)
        for start, end, more in ranges:
            requested = {"from": start.isoformat(), "to": end.isoformat(), "compare": "previous", **more}
            answer = await client.get(f"/reports/{report}", params=requested)
            said = answer.json()
            assert datetime.fromisoformat(said["query"]["compare"]["countedUntil"]) == now - (end - start)
            figure = "purchases" if report == "revenue" else "events"
            totals = said["totals"][-1] if report == "funnel" else said["totals"]
            assert totals[f"previous{figure.title()}"] == totals[figure] > 0, (report, requested)
            known = {"If-None-Match": answer.headers["ETag"]}
            assert (await client.get(f"/reports/{report}", params=requested, headers=known)).status_code == 304
            await connection.execute(REPORTED, now + timedelta(minutes=1))
            assert (await client.get(f"/reports/{report}", params=requested, headers=known)).status_code == 200
            await connection.execute(REPORTED, now)


async def test_no_shared_cache_keeps_anything(database: Database, client: httpx.AsyncClient) -> None:
    """Each answer says whether it may be kept: reports of closed ranges by the client alone, the rest by no cache."""
    async with connected(database.collector_dsn) as connection:
        await connection.execute(REPORTED, datetime.now(UTC))
    files = ("/", "/docs", "/docs/page.js", "/page/dashboard.js", "/page/dashboard.css", "/openapi.json")
    of_one_moment = ("/health/live", "/health/ready", "/metrics", "/pipeline", "/nothing", "/reports/events?color=red")
    for path in files:
        assert (await client.get(path)).headers["Cache-Control"] == "no-cache", path
    for path in of_one_moment:
        assert (await client.get(path)).headers["Cache-Control"] == "no-store", path
    for report in REPORTS:
        for path in (f"/reports/{report}", f"/reports/{report}.csv"):
            by = {"demographics": {"groupBy": "gender"}, "funnel": {}}.get(report, {"groupBy": "source"})
            kept = await client.get(path, params=LONG_AGO | by)
            assert kept.headers["Cache-Control"] == "private, max-age=86400", path
            assert (await client.get(path, params=DAY)).headers["Cache-Control"] == "no-cache", path


async def test_arrow_holds_the_same_table(client: httpx.AsyncClient) -> None:
    """An Arrow stream has the rows of the CSV: counts as integers, money as decimals, instants in the report's zone."""
    requested = DAY | {"groupBy": "source", "timeZone": "Asia/Tokyo", "interval": "day", "compare": "previous"}
    answer = await client.get("/reports/revenue", params=requested, headers={"Accept": ARROW})
    assert answer.headers["Content-Type"] == ARROW
    reported = (await client.get("/reports/revenue", params=requested)).json()["rows"]
    rows = nanoarrow.ArrayStream.from_readable(answer.content).read_all().to_pylist()
    assert [list(row) for row in rows] == [list(row) for row in reported]
    for row, other in zip(rows, reported, strict=True):
        assert row["start"] == datetime.fromisoformat(other["start"])
        assert row["start"].utcoffset() == timedelta(hours=9)
        assert row["revenue"] == Decimal(other["revenue"])
        assert row["purchases"] == other["purchases"]
    empty = await client.get("/reports/demographics", params=LONG_AGO, headers={"Accept": ARROW})
    assert nanoarrow.ArrayStream.from_readable(empty.content).read_all().to_pylist() == []


async def test_columns_follow_the_query(client: httpx.AsyncClient) -> None:
    """A table without a row has the columns that it has with some: those of the period before where it is asked for."""
    names = "start,localStart,end,complete,source,dimension,value,events"
    for more, header in (({}, names), ({"compare": "previous"}, f"{names},previousEvents")):
        for day in (LONG_AGO, DAY):
            answer = await client.get("/reports/demographics.csv", params=day | more)
            assert answer.text.splitlines()[0] == header
    assert len(answer.text.splitlines()) > 1


async def test_a_long_table_is_streamed(client: httpx.AsyncClient) -> None:
    """CSV comes in pieces, and they make the whole."""
    requested = {"from": "2026-01-01", "to": "2026-03-01", "interval": "hour", "groupBy": "eventType"}
    headers = {"Accept": CSV, "Accept-Encoding": "identity"}
    async with client.stream("GET", "/reports/events", params=requested, headers=headers) as answer:
        pieces = [piece async for piece in answer.aiter_raw()]
    lines = b"".join(pieces).decode().splitlines()
    assert len(lines) == 1 + 59 * 24 * 12
    assert len(b"".join(pieces)) > 4 * CHUNK_BYTES
    assert "Content-Length" not in answer.headers


@pytest.mark.parametrize("accept", FORMATS)
async def test_long_answers_are_compressed(client: httpx.AsyncClient, accept: str) -> None:
    """Gzip where it is accepted, for every format; the content, its tag and its 304 are those of the plain answer, and
    caches learn that there are two forms. What is short is sent as it is."""
    requested = {"from": "2026-01-01", "to": "2026-03-01", "interval": "hour", "groupBy": "source"}
    plain, coded, rejected, short = [
        await client.get("/reports/events", params=params, headers={"Accept": accept, "Accept-Encoding": encoding})
        for params, encoding in (
            (requested, "identity"), (requested, "br;q=1, gzip;q=0.5"), (requested, "gzip;q=0, *"), (LONG_AGO, "gzip"),
        )
    ]  # fmt: skip
    assert coded.headers["Content-Encoding"] == "gzip"
    assert coded.num_bytes_downloaded < len(plain.content) / 5
    assert coded.headers["ETag"] == plain.headers["ETag"]
    assert "Content-Encoding" not in plain.headers.keys() | rejected.headers.keys() | short.headers.keys()
    if accept == JSON:  # freshness goes on
        fresh: dict[str, Any] = {"freshness": {}}
        assert coded.json() | fresh == plain.json() | fresh == rejected.json() | fresh
        assert coded.headers["Content-Length"] == str(coded.num_bytes_downloaded)
    else:
        assert coded.content == plain.content == rejected.content
    for answer in (plain, coded, short):
        assert answer.headers["Vary"] == "Accept, Accept-Encoding"
    known = {"Accept": accept, "Accept-Encoding": "gzip", "If-None-Match": plain.headers["ETag"]}
    again = await client.get("/reports/events", params=requested, headers=known)
    assert (again.status_code, again.content, again.headers["Vary"]) == (304, b"", "Accept, Accept-Encoding")


async def test_the_pages_files_are_compressed_and_not_sent_again(client: httpx.AsyncClient) -> None:
    """Each file of the page and the OpenAPI document: gzip unless it is short, and 304 while the client has it."""
    for path in (
        "/",
        "/docs/page.js",
        "/page/dashboard.js",
        "/page/controls.js",
        "/page/dashboard.css",
        "/openapi.json",
    ):
        file = await client.get(path, headers={"Accept-Encoding": "gzip"})
        assert ("Content-Encoding" in file.headers) == (len(file.content) >= 4096), path
        assert file.headers["Vary"] == "Accept-Encoding"
        again = await client.get(path, headers={"If-None-Match": file.headers["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["Cache-Control"] == "no-cache"


async def test_a_page_names_the_next(client: httpx.AsyncClient) -> None:
    """Whatever the format, the header Link leads from page to page; a page of another query is rejected."""
    requested = {"from": "2026-11-01", "to": "2026-11-08", "interval": "day", "limit": "3"}
    address, days = "/reports/events", []
    params: dict[str, str] | None = requested
    while address:
        answer = await client.get(address, params=params, headers={"Accept": CSV})
        days += [line.partition("T")[0] for line in answer.text.splitlines()[1:]]
        link = answer.headers.get("Link", "")
        address, params = link.partition(">")[0].removeprefix("<"), None
    assert days == [str(date(2026, 11, day)) for day in range(1, 8)]
    after = (await client.get("/reports/events", params=requested)).json()["next"]
    deep = urlsafe_b64encode(b"[" * 5000).decode()
    for wrong in (
        {"interval": "hour", "after": "bm90aGluZw"},
        {"timeZone": "Asia/Tokyo", "after": after},
        {"after": deep},
    ):
        rejected = await client.get("/reports/events", params=requested | wrong)
        assert (rejected.status_code, rejected.json()["parameter"]) == (400, "after")


@pytest.mark.parametrize("report", REPORTS)
async def test_versioned_paths_give_the_same(client: httpx.AsyncClient, report: str) -> None:
    """/v1 before a path changes nothing but the address of the next page, which keeps it."""
    requested = DAY | {"interval": "hour", "limit": "1"}
    for path in (f"/reports/{report}", f"/reports/{report}.csv"):
        plain, versioned = [await client.get(prefix + path, params=requested) for prefix in ("", "/v1")]
        assert (versioned.status_code, versioned.headers["ETag"]) == (200, plain.headers["ETag"])
        assert versioned.headers["Content-Type"] == plain.headers["Content-Type"]
        assert versioned.headers["Link"] == plain.headers["Link"].replace(f"<{path}", f"</v1{path}")
        assert (await client.get(plain.headers["Link"].partition(">")[0][1:])).status_code == 200
        assert (await client.get(versioned.headers["Link"].partition(">")[0][1:])).status_code == 200
    wrong = [await client.get(f"{prefix}/reports/{report}", params={"from": "2026-11-01"}) for prefix in ("", "/v1")]
    assert [answer.status_code for answer in wrong] == [400, 400]


async def test_a_relative_range_moves_with_the_clock(
    database: Database, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same URL covers the next day when it comes: no client may keep the answer, and the reporter keeps no parsed
    query. Pages keep the days of the first one."""
    clock = [datetime(2026, 6, 10, 23, 59, 59, tzinfo=UTC)]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return clock[0].astimezone(tz)

    monkeypatch.setattr(period, "datetime", Clock)
    async with connected(database.collector_dsn) as connection:
        await connection.execute(REPORTED, datetime.now(UTC))
    requested = {"range": "3d", "interval": "day", "limit": "2"}
    first = await client.get("/v1/reports/events", params=requested)
    assert first.headers["Cache-Control"] == "no-cache"
    query = first.json()["query"]
    assert (query["range"], query["from"], query["to"]) == ("3d", "2026-06-08T00:00:00Z", "2026-06-11T00:00:00Z")
    clock[0] += timedelta(seconds=2)
    later = await client.get("/v1/reports/events", params=requested)
    assert later.json()["query"]["from"] == "2026-06-09T00:00:00Z"
    for rest in (
        await client.get("/v1/reports/events", params=requested | {"after": first.json()["next"]}),
        await client.get(first.headers["Link"].partition(">")[0][1:]),
    ):
        assert [row["start"] for row in rest.json()["rows"]] == ["2026-06-10T00:00:00Z"]
        assert (rest.json()["totals"], rest.json()["next"]) == (first.json()["totals"], None)
    yesterday = await client.get("/v1/reports/revenue.csv", params={"range": "yesterday", "timeZone": "Asia/Tokyo"})
    assert 'filename="sluice-revenue-2026-06-10-2026-06-10.csv"' in yesterday.headers["Content-Disposition"]


async def test_the_funnel_in_every_format(client: httpx.AsyncClient) -> None:
    """CSV and Arrow have a row for each step with its rates; a rate that there is none of is empty."""
    requested = DAY | {
        "source": "facebook",
        "steps": "page.like,checkout.complete,ad.view,ad.click",
        "compare": "previous",
    }
    headers = {"Accept": CSV}
    lines = (await client.get("/v1/reports/funnel", params=requested, headers=headers)).text.splitlines()
    names = "source,step,eventType,events,rate,overallRate,previousEvents,previousRate,previousOverallRate"
    assert lines[0] == f"start,localStart,end,complete,{names}"
    assert [line.split(",", 4)[4] for line in lines[1:]] == [
        "facebook,1,page.like,1,,1.0,0,,",
        "facebook,2,checkout.complete,1,1.0,1.0,0,,",
        "facebook,3,ad.view,0,0.0,0.0,0,,",
        "facebook,4,ad.click,0,,0.0,0,,",
    ]
    answer = await client.get("/v1/reports/funnel", params=requested, headers={"Accept": ARROW})
    rows = nanoarrow.ArrayStream.from_readable(answer.content).read_all().to_pylist()
    assert [(row["eventType"], row["rate"], row["previousRate"]) for row in rows] == [
        ("page.like", None, None),
        ("checkout.complete", 1.0, None),
        ("ad.view", 0.0, None),
        ("ad.click", None, None),
    ]


async def test_a_query_that_makes_no_sense_is_rejected(client: httpx.AsyncClient) -> None:
    """A parameter that the report cannot use is rejected by its name, whatever the range."""
    long = {"from": "2026-10-01", "to": "2026-11-01"}
    wrong: tuple[tuple[str, str, dict[str, str]], ...] = (
        ("revenue", "top", {"top": "3"}),
        ("revenue", "groupBy", {"groupBy": "campaignId", "source": "tiktok"}),
        ("revenue", "limit", {"groupBy": "campaignId", "to": "2026-10-02", "limit": "10"}),
        ("revenue", "timeZone", {"timeZone": "localtime"}),
        ("demographics", "eventType", {"eventType": "ad.view", "source": "tiktok"}),
        ("demographics", "groupBy", {"groupBy": "age", "source": "tiktok"}),
        ("events", "compare", {"from": "2000-01-01", "to": "2000-02-01", "compare": "previous"}),
        ("events", "compare", {"compare": "next"}),
    )
    for report, parameter, more in wrong:
        rejected = await client.get(f"/reports/{report}", params=long | more)
        assert (rejected.status_code, rejected.json()["parameter"]) == (400, parameter), rejected.text


async def test_all_paths_go_through_one_router(client: httpx.AsyncClient) -> None:
    """Reports, files and the other paths reject an invalid Host alike, and OPTIONS and other methods say what is
    allowed."""
    for path in (*(f"/reports/{report}{kind}" for report in REPORTS for kind in ("", ".csv")), "/pipeline", "/"):
        answer = await client.get(path, params=DAY, headers={"Host": "not a host"})
        assert (answer.status_code, answer.json()["detail"]) == (400, "Invalid host header"), path
        options, deleted = await client.options(path), await client.delete(path)
        assert (options.status_code, deleted.status_code) == (204, 405)
        for found in (options, deleted):
            assert set(found.headers["Allow"].split(", ")) == {"GET", "OPTIONS"}
        assert deleted.headers["Content-Type"] == "application/problem+json"


async def test_pages_that_are_not_there_are_problems(client: httpx.AsyncClient) -> None:
    """Beside the documentation too, what is not there is reported as a problem document."""
    for path in ("/docs/nothing", "/docs/nothing.json", "/nothing"):
        answer = await client.get(path)
        assert answer.status_code == 404
        assert answer.headers["Content-Type"] == "application/problem+json"
    assert (await client.get("/docs")).status_code == 200
