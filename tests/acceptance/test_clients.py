"""Clients generated from the OpenAPI document, in Python and in TypeScript, get from a reporter what it says."""

import asyncio
import json
import shutil
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from ops.local import Servers
from tests.acceptance.test_reports import process
from tests.support.events import NOON, facebook, tiktok
from tests.support.processes import ROOT
from tests.support.report_rows import collecting
from tests.support.stack import fresh_database
from tests.support.tools import require, require_tool

SECONDS = 120
TYPESCRIPT = ROOT / "tests/clients/typescript"
FROM, TO = str(NOON.date()), str((NOON + timedelta(days=1)).date())
ROWS = [("facebook", "top", 1), ("facebook", "bottom", 2), ("tiktok", "top", 1), ("tiktok", "bottom", 2)]

# Uses the client as its own documentation says: lists as lists, enums as enums, instants as datetimes.
PYTHON = """
import json, sys
from reports import Client
from reports.api.default import (
    download_events_report, get_demographics_report, get_events_report, get_pipeline, get_revenue_report
)
from reports.models import Compare, DemographicsGroupBy, EventsAnswer, EventsGroupBy, Interval, Problem, Source

client = Client(base_url=sys.argv[1], raise_on_unexpected_status=True)
asked = {"client": client, "from_": sys.argv[2], "to": sys.argv[3]}
by = [EventsGroupBy.SOURCE, EventsGroupBy.FUNNELSTAGE]
events = get_events_report.sync(**asked, group_by=by, interval=Interval.DAY)
assert isinstance(events, EventsAnswer), events
assert events.rows[0].source is Source.FACEBOOK and events.rows[0].start.utcoffset() is not None
revenue = get_revenue_report.sync(**asked, compare=Compare.PREVIOUS)
wanted = [DemographicsGroupBy.AGEBAND, DemographicsGroupBy.COUNTRY]
audience = get_demographics_report.sync(**asked, group_by=wanted, top=5)
state = get_pipeline.sync(client=client)
file = download_events_report.sync_detailed(**asked, bom=True)
rejected = get_events_report.sync(**{**asked, "to": "tomorrow"})
assert isinstance(rejected, Problem) and rejected.parameter == "to", rejected
print(json.dumps({
    "rows": [row.to_dict() for row in events.rows],
    "previousRevenue": revenue.totals.previous_revenue,
    "countries": [share.to_dict() for share in audience.rows[0].country],
    "stored": state.sources["facebook"].events_stored,
    "file": file.content.decode(),
}))
"""


@pytest.fixture(scope="module")
async def client(servers: Servers, template: None) -> AsyncIterator[httpx.AsyncClient]:
    async with fresh_database(servers) as database:
        async with collecting(database.collector_dsn) as collected:
            await collected.store(
                make(stage, at=NOON) for make in (facebook, tiktok) for stage in ("top", "bottom", "bottom")
            )
        async with process(database.reporter_dsn) as (_, client):
            yield client


@pytest.fixture
async def document(client: httpx.AsyncClient, tmp_path: Path) -> Path:
    """The running reporter's OpenAPI document in a file."""
    path = tmp_path / "openapi.json"
    path.write_bytes((await client.get("/openapi.json")).content)
    return path


async def run(*command: object, folder: Path) -> str:
    """What a command prints; it ends well."""
    running = await asyncio.create_subprocess_exec(*map(str, command), cwd=folder, stdout=PIPE, stderr=STDOUT)
    said, _ = await asyncio.wait_for(running.communicate(), SECONDS)
    assert running.returncode == 0, said.decode()
    return said.decode()


def is_what_was_stored(said: dict[str, Any]) -> None:
    """Every report has its figures; lists and enums arrived as they were given."""
    assert [(row["source"], row["funnelStage"], row["events"]) for row in said["rows"]] == ROWS
    assert said["previousRevenue"] == "0.00"
    assert said["countries"] == [{"value": "Norway", "events": 3}]
    assert said["stored"] == 3
    assert said["file"].lstrip("\ufeff").startswith("start,localStart,")


async def test_a_python_client(client: httpx.AsyncClient, document: Path, tmp_path: Path) -> None:
    """openapi-python-client makes functions and types with plain names, and they work with what it sends by default."""
    config = tmp_path / "config.yml"
    config.write_text("post_hooks: []\n")
    options = ("--meta", "none", "--output-path", tmp_path / "reports", "--config", config, "--fail-on-warning")
    await run(sys.executable, "-m", "openapi_python_client", "generate", "--path", document, *options, folder=tmp_path)
    is_what_was_stored(json.loads(await run(sys.executable, "-c", PYTHON, client.base_url, FROM, TO, folder=tmp_path)))


async def test_a_typescript_client(client: httpx.AsyncClient, document: Path, tmp_path: Path) -> None:
    """openapi-typescript makes types: a client compiles, wrong values do not; openapi-fetch gets answers."""
    node = require_tool("node")
    modules = TYPESCRIPT / "node_modules"
    require((modules / "ready").exists(), "node_modules of tests/clients/typescript, which make setup installs")
    for name in ("client.ts", "package.json", "tsconfig.json"):
        shutil.copy(TYPESCRIPT / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(modules)
    generate = modules / "openapi-typescript/bin/cli.js"
    await run(node, generate, document, "--output", "schema.d.ts", folder=tmp_path)
    await run(node, modules / "typescript/bin/tsc", folder=tmp_path)
    said = json.loads(await run(node, "built/client.js", client.base_url, FROM, TO, folder=tmp_path))
    is_what_was_stored(said)
    assert (said["source"], said["allowed"]) == ("facebook", ["facebook", "tiktok"])
