"""The reporter keeps to its OpenAPI document: its examples work, and whatever is made from it gets what it promises."""

import asyncio
import json
import sys
from asyncio.subprocess import PIPE, STDOUT
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ops.local import Servers
from tests.acceptance.test_reports import process
from tests.support.stack import fresh_database

EXAMPLES = 20  # requests made for each report, beside those of the document's own examples
# A text that is no instant fits the schema's type and is rejected all the same.
LEFT_OUT = "positive_data_acceptance"


@pytest.fixture(scope="module")
async def client(servers: Servers, template: None) -> AsyncIterator[httpx.AsyncClient]:
    async with fresh_database(servers) as database, process(database.reporter_dsn) as (_, client):
        yield client


@pytest.fixture(scope="module")
async def paths(client: httpx.AsyncClient) -> dict[str, Any]:
    document = (await client.get("/openapi.json")).json()
    found: dict[str, Any] = document["paths"]
    return found


@pytest.mark.parametrize("report", ["events", "revenue", "funnel", "demographics"])
async def test_every_example_works(client: httpx.AsyncClient, paths: dict[str, Any], report: str) -> None:
    """Each parameter's example, with those of from and to, is answered 200 and understood; so is range alone."""
    parameters = paths[f"/v1/reports/{report}"]["get"]["parameters"]
    examples = {
        parameter["name"]: example["value"]
        for parameter in parameters
        for example in parameter.get("examples", {}).values()
    }
    bounds = {name: examples[name] for name in ("from", "to")}
    assert len(examples) > 5
    for name, value in examples.items():
        params = {name: value} if name == "range" else bounds | {name: value}
        answer = await client.get(f"/v1/reports/{report}", params=params)
        assert answer.status_code == 200, answer.text
        resolved = answer.json()["query"].get(name)
        if name == "steps":
            assert value in resolved.values()
        elif name not in ("from", "to", "limit"):
            assert resolved == (value[0] if name == "source" else value)


async def test_closed_lists_have_one_name(client: httpx.AsyncClient) -> None:
    """Operations and closed lists have plain names, parameters and answers refer to the same ones, and a list is sent
    as generated clients do: one parameter for each value."""
    document = (await client.get("/openapi.json")).json()
    operations = {item["get"]["operationId"] for item in document["paths"].values()}
    assert operations == {
        *("getEventsReport", "getRevenueReport", "getFunnelReport", "getDemographicsReport", "getPipeline"),
        *("downloadEventsReport", "downloadRevenueReport", "downloadFunnelReport", "downloadDemographicsReport"),
    }
    schemas = document["components"]["schemas"]
    lists = {
        "Source",
        "FunnelStage",
        "EventType",
        "Interval",
        "Compare",
        "EventsMetrics",
        "RevenueMetrics",
        "DemographicsMetrics",
    }
    lists |= {"EventsGroupBy", "RevenueGroupBy", "DemographicsGroupBy", "Level", "CheckName"}
    assert {name for name, schema in schemas.items() if "enum" in schema} == lists
    assert json.dumps(document).count('"enum"') == len(lists)
    assert "/v1/reports/events" in document["paths"]
    for item in document["paths"].values():
        for parameter in item["get"].get("parameters", ()):
            if parameter["schema"].get("type") == "array":
                assert (parameter["style"], parameter["explode"]) == ("form", True)
    elsewhere = await client.get("/docs/openapi.json")
    assert elsewhere.status_code == 404


async def test_schemathesis_finds_nothing(client: httpx.AsyncClient, tmp_path: Path) -> None:
    """Requests made from the document, right and wrong ones, get the statuses, types and bodies that it declares."""
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{client.base_url}/openapi.json"),
        *("--max-examples", str(EXAMPLES), "--phases", "examples,fuzzing", "--seed", "1", "--generation-deterministic"),
        *(
            "--exclude-checks",
            LEFT_OUT,
            "--suppress-health-check",
            "all",
            "--no-color",
        ),
        cwd=tmp_path,  # it leaves a folder of its own
        stdout=PIPE,
        stderr=STDOUT,
    )
    reported, _ = await asyncio.wait_for(running.communicate(), 120)
    assert running.returncode == 0, reported.decode()
    assert "generated" in reported.decode()
