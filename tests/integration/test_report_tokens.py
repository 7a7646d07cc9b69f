"""Who may read: with tokens, every page and report needs one; without, none does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import structlog

from tests.support.events import NOON, facebook, tiktok
from tests.support.report_rows import collecting, reporter
from tests.support.stack import Database

ALL, BOUND, ROTATED = "all-" + "a" * 40, "bound-" + "b" * 40, "rotated-" + "c" * 40
TOKENS = f"analyst:{ALL} agency:{BOUND}:facebook agency:{ROTATED}:facebook"
DAY = {"from": NOON.date().isoformat(), "to": f"{NOON.date()}T18:00:00Z"}
REPORTS = ("events", "revenue", "demographics")
PAGES = ("/", "/docs", "/docs/page.js", "/page/dashboard.js", "/openapi.json", "/pipeline", "/nothing")


@pytest.fixture
async def filled(database: Database) -> Database:
    async with collecting(database.collector_dsn) as collected:
        await collected.store([make(stage, at=NOON) for make in (facebook, tiktok) for stage in ("top", "bottom")])
    return database


@pytest.fixture
async def client(filled: Database) -> AsyncIterator[httpx.AsyncClient]:
    async with reporter(filled.reporter_dsn, reporter_tokens=TOKENS) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


async def test_without_tokens_all_is_open(filled: Database) -> None:
    """As before; the start logs that it is so."""
    with structlog.testing.capture_logs() as log:
        async with reporter(filled.reporter_dsn) as client:
            for report in REPORTS:
                answer = await client.get(f"/reports/{report}", params=DAY)
                assert answer.status_code == 200
                assert "Authorization" not in answer.headers["Vary"]
    (notice,) = [line for line in log if line["event"] == "reports are open to every client"]
    assert notice["log_level"] == "warning"


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "POST"])
async def test_nothing_is_read_without_a_token(client: httpx.AsyncClient, method: str) -> None:
    """Reports, files, pages and unknown paths: 401, a problem document that says how, and nothing else."""
    paths = (*PAGES, *(f"/reports/{report}{end}" for report in REPORTS for end in ("", ".csv")))
    for path in paths:
        for headers in ({}, bearer(ALL + "x"), {"Authorization": "Basic YTpi"}):
            answer = await client.request(method, path, params=DAY if "reports" in path else None, headers=headers)
            assert answer.status_code == 401, path
            assert answer.headers["WWW-Authenticate"].startswith('Basic realm="Sluice reports"')
            assert "Bearer" in answer.headers["WWW-Authenticate"]
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert answer.headers["Cache-Control"] == "no-store"
            if method == "HEAD":
                continue
            problem = answer.json()
            assert (problem["status"], problem["title"]) == (401, "Unauthorized")
            assert problem["correlationId"] == answer.headers["X-Correlation-Id"]
            assert set(problem) == {"type", "title", "status", "detail", "correlationId"}


async def test_health_and_metrics_stay_open(client: httpx.AsyncClient) -> None:
    """Orchestrators and Prometheus have no token."""
    for path in ("/health/live", "/health/ready", "/metrics"):
        assert (await client.get(path)).status_code == 200


async def test_a_token_reads_everything(client: httpx.AsyncClient) -> None:
    """As a Bearer token, and by Basic as the password of its name. The answer depends on the token, so caches know."""
    for report in REPORTS:
        answers = [
            await client.get(f"/reports/{report}", params=DAY, headers=bearer(ALL)),
            await client.get(f"/reports/{report}", params=DAY, auth=("analyst", ALL)),
        ]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].json()["rows"] == answers[1].json()["rows"]
        assert set(answers[0].json()["freshness"]) == {"facebook", "tiktok"}
        assert "Authorization" in answers[0].headers["Vary"]
    for path in PAGES[:-1]:
        assert (await client.get(path, auth=("analyst", ALL))).status_code == 200
    assert (await client.get("/nothing", auth=("analyst", ALL))).status_code == 404


@pytest.mark.parametrize("token", [BOUND, ROTATED])
async def test_a_bound_token_reads_its_source_only(client: httpx.AsyncClient, token: str) -> None:
    """Without `source` a report has the token's source; another one is 403, however it is spelled."""
    for report in REPORTS:
        path = f"/reports/{report}"
        own = await client.get(path, params=DAY, headers=bearer(token))
        named = await client.get(path, params=DAY | {"source": "facebook"}, headers=bearer(ALL))
        assert own.status_code == 200
        assert own.json() | {"freshness": {}} == named.json() | {"freshness": {}}
        assert set(own.json()["freshness"]) == {"facebook"}
        for query in ("source=tiktok", "sourc%65=tiktok", "source=facebook,tiktok", "source=facebook&source=tiktok"):
            url = f"{path}?from={DAY['from']}&to={DAY['to']}&{query}"
            for end in (url, url.replace("?", ".csv?")):
                answer = await client.get(end, headers=bearer(token))
                assert answer.status_code == 403, end
                problem = answer.json()
                assert (problem["parameter"], problem["allowed"]) == ("source", ["facebook"])
    other_type = await client.get("/reports/events", params=DAY | {"eventType": "purchase"}, headers=bearer(token))
    assert other_type.status_code == 400  # a type of TikTok does not occur with source=facebook


async def test_a_shared_read_is_not_shared_across_sources(client: httpx.AsyncClient) -> None:
    """The same URL at the same time with different tokens: each has its own answer."""
    tokens = [ALL, BOUND] * 8
    answers = await asyncio.gather(
        *(client.get("/reports/events", params=DAY, headers=bearer(token)) for token in tokens)
    )
    for token, answer in zip(tokens, answers, strict=True):
        assert set(answer.json()["freshness"]) == ({"facebook"} if token == BOUND else {"facebook", "tiktok"})


async def test_the_pipeline_has_the_token_s_sources(client: httpx.AsyncClient) -> None:
    """Neither the volume of another source nor its problems."""
    everything: dict[str, Any] = (await client.get("/pipeline", headers=bearer(ALL))).json()
    assert set(everything["sources"]) == {"facebook", "tiktok"}
    assert {problem["part"] for problem in everything["problems"]} >= {"facebook", "tiktok"}
    own = (await client.get("/pipeline", headers=bearer(BOUND))).json()
    assert set(own["sources"]) == {"facebook"}
    assert "tiktok" not in {problem["part"] for problem in own["problems"]}
    assert "tiktok" not in str(own)


async def test_the_log_has_the_token_of_each_request(client: httpx.AsyncClient) -> None:
    """A line for each request with the token's name and the report; never a token, and no path of a stranger."""
    with structlog.testing.capture_logs() as log:
        await client.get("/reports/revenue", params=DAY, headers=bearer(ALL))
        await client.get("/reports/events", params=DAY, auth=("agency", BOUND))
        await client.get("/reports/events", params=DAY | {"source": "tiktok"}, auth=("agency", BOUND))
        await client.get("/reports/events", params=DAY, headers=bearer("wrong-" + ALL))
        await client.get("/" + "secret", headers={})
        await client.get("/metrics")
    requests = [line for line in log if line["event"] == "request"]
    assert [(line["path"], line["status"], line.get("token")) for line in requests] == [
        ("/reports/revenue", 200, "analyst"),
        ("/reports/events", 200, "agency"),
        ("/reports/events", 403, "agency"),
        (None, 401, None),
        (None, 401, None),
    ]
    assert not [text for text in (ALL, BOUND, "secret", "wrong-") if text in str(log)]


async def test_every_audited_request_is_logged(client: httpx.AsyncClient) -> None:
    """The access log is sampled; with tokens it is the audit and has every request, however many there are."""
    with structlog.testing.capture_logs() as log:
        for _ in range(250):
            assert (await client.get("/openapi.json", headers=bearer(ALL))).status_code == 200
    lines = [line for line in log if line["event"] == "request"]
    assert [(line["token"], line["sampled"]) for line in lines] == [("analyst", 1)] * 250
