"""The reporter keeps to its OpenAPI document: its examples work, and whatever is made from it gets what it promises."""

import asyncio
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
# A text that is no instant fits the schema's type and is refused all the same.
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


@pytest.mark.parametrize("report", ["events", "revenue", "demographics"])
async def test_every_example_works(client: httpx.AsyncClient, paths: dict[str, Any], report: str) -> None:
    """Each parameter's example, with those of the required ones, is answered 200 and understood."""
    parameters = paths[f"/reports/{report}"]["get"]["parameters"]
    examples = {
        parameter["name"]: example["value"]
        for parameter in parameters
        for example in parameter.get("examples", {}).values()
    }
    required = {parameter["name"]: examples[parameter["name"]] for parameter in parameters if parameter["required"]}
    assert set(required) == {"from", "to"}
    assert len(examples) > 5
    for name, value in examples.items():
        answer = await client.get(f"/reports/{report}", params=required | {name: value})
        assert answer.status_code == 200, answer.text
        understood = answer.json()["query"].get(name)
        if name not in ("from", "to", "limit", "groupBy"):
            assert str(understood) == value


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
    told, _ = await asyncio.wait_for(running.communicate(), 120)
    assert running.returncode == 0, told.decode()
    assert "generated" in told.decode()
