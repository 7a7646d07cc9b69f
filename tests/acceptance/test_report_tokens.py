"""A reporter with tokens, as its readers meet it: over HTTP, in a browser, and with `sluice report`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Error, async_playwright, expect

from ops.local import Servers
from tests.acceptance.test_reports import process
from tests.support.events import NOON, facebook, tiktok
from tests.support.processes import ROOT
from tests.support.report_rows import collecting
from tests.support.stack import fresh_database
from tests.support.tools import require_tool
from tests.support.waiting import eventually, in_time

ALL, BOUND = "all-" + "a" * 40, "bound-" + "b" * 40
DAY = {"from": NOON.date().isoformat(), "to": f"{NOON.date()}T18:00:00Z"}


class Reporter:
    """A reporter with a file of tokens, and the lines of its log."""

    def __init__(self, url: str, log: list[dict[str, Any]]) -> None:
        self.url = url
        self.log = log


@pytest.fixture(scope="module")
async def reporter(
    servers: Servers, template: None, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Reporter]:
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text(f"# who reads\nanalyst:{ALL}\nagency:{BOUND}:facebook\n")
    async with fresh_database(servers) as database:
        async with collecting(database.collector_dsn) as collected:
            await collected.store([make(stage, at=NOON) for make in (facebook, tiktok) for stage in ("top", "bottom")])
        async with process(database.reporter_dsn, REPORTER_TOKENS_FILE=str(file)) as (running, client):
            log: list[dict[str, Any]] = []

            async def read() -> None:
                assert running.stdout is not None
                async for line in running.stdout:
                    log.append(json.loads(line))

            reading = asyncio.create_task(read())
            yield Reporter(str(client.base_url).rstrip("/"), log)
            reading.cancel()


async def sluice(reporter: Reporter, *arguments: str, **environment: str) -> tuple[int | None, str, str]:
    """Run `sluice report …` as a program."""
    settings: Mapping[str, str] = {"PATH": os.environ["PATH"], "REPORTER_URL": reporter.url, **environment}
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "ops", "report", *arguments, "--from", DAY["from"], "--to", DAY["to"]),
        cwd=ROOT,
        env=settings,
        stdout=PIPE,
        stderr=PIPE,
    )
    out, errors = await in_time(command.communicate())
    return command.returncode, out.decode(), errors.decode()


async def test_sluice_report_sends_its_token(reporter: Reporter, tmp_path: Path) -> None:
    """From the variable or from its file. Without one, the error names both, and the exit code is 2."""
    code, out, errors = await sluice(reporter, "events", "--format", "json", REPORTER_TOKEN=ALL)
    assert (code, errors) == (0, "")
    assert json.loads(out)["totals"]["events"] == 4
    file = tmp_path / "token"
    file.write_text(BOUND + "\n")
    code, out, _ = await sluice(reporter, "events", "--format", "json", REPORTER_TOKEN_FILE=str(file))
    assert (code, json.loads(out)["totals"]["events"]) == (0, 2)
    code, out, errors = await sluice(reporter, "events", "--source", "tiktok", REPORTER_TOKEN=BOUND)
    assert (code, out) == (2, "")
    assert "allowed: facebook" in errors
    code, out, errors = await sluice(reporter, "events")
    assert (code, out) == (2, "")
    assert "REPORTER_TOKEN" in errors
    code, out, errors = await sluice(reporter, "events", REPORTER_TOKEN="wrong-" + ALL)
    assert (code, out) == (2, "")
    assert ALL not in errors


async def test_the_page_asks_by_basic(reporter: Reporter) -> None:
    """A browser with the name and the token has the whole page; without them it shows nothing of it."""
    chromium = require_tool("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium)
        for name, token, sources in (("analyst", ALL, {"facebook", "tiktok"}), ("agency", BOUND, {"facebook"})):
            context = await browser.new_context(http_credentials={"username": name, "password": token})
            page = await context.new_page()
            async with page.expect_response(lambda answer: "/reports/events" in answer.url) as shown:
                await page.goto(f"{reporter.url}/?from={DAY['from']}&to={DAY['to']}")
            answer = await (await shown.value).json()
            assert set(answer["freshness"]) == sources
            await expect(page.locator("#result table").first).to_be_visible()
            await context.close()
        context = await browser.new_context()
        page = await context.new_page()
        with pytest.raises(Error, match="ERR_INVALID_AUTH_CREDENTIALS"):  # no user answers the browser's prompt
            await page.goto(reporter.url)
        await browser.close()


async def test_the_log_is_the_audit(reporter: Reporter) -> None:
    """The start logs the names; each request logs its token and report; no line has a token."""
    await sluice(reporter, "revenue", REPORTER_TOKEN=BOUND)

    async def logged() -> bool:
        requests = {(str(line.get("path")).removeprefix("/v1"), line.get("token")) for line in reporter.log}
        return ("/reports/revenue", "agency") in requests

    await eventually(logged, what="the request is in the log")
    (start,) = [line for line in reporter.log if line["event"] == "reports need a token"]
    assert start["names"] == ["analyst", "agency"]
    assert not [line for line in reporter.log if ALL in str(line) or BOUND in str(line)]


async def test_an_invalid_file_ends_the_start(servers: Servers) -> None:
    """Exit code 2, and the message has the entry's number but not its text."""
    started = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "reporter"),
        cwd=ROOT,
        env=os.environ | {"REPORTER_DSN": servers.reporter_dsn, "REPORTER_TOKENS": "analyst:short"},
        stdout=PIPE,
        stderr=PIPE,
    )
    out, errors = await in_time(started.communicate())
    assert started.returncode == 2
    assert b"REPORTER_TOKENS: entry 1" in out + errors
    assert b"short" not in out + errors
