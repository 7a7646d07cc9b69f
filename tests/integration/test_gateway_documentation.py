"""The documentation that a gateway serves, and the commands in the documents: pasted into a shell, they work."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import pytest
from playwright.async_api import async_playwright, expect

from core.events.contract import Reason
from core.events.examples import EXAMPLES
from core.events.reference import schema
from gateway.rejection import Rejection
from tests.support.gateway import Gateway
from tests.support.tools import require_tool

ROOT = Path(__file__).parents[2]
COMMAND = re.compile(r"```sh\n(curl http://127\.0\.0\.1:8080/events .*?)```", re.DOTALL)
PATHS = ("/docs", "/openapi.json", "/events.schema.json")


def commands() -> list[Any]:
    """The commands that post events, as they stand in the documents."""
    return [
        pytest.param(command, id=f"{name}-{number}")
        for name in ("README.md", "docs/events.md")
        for number, command in enumerate(COMMAND.findall((ROOT / name).read_text()))
    ]


def test_there_are_commands() -> None:
    """README has one, docs/events.md one for each source and stage."""
    assert len(commands()) == 1 + len(EXAMPLES)


@pytest.mark.parametrize("command", commands())
async def test_a_command_of_the_documents_posts_its_event(gateway: Gateway, command: str) -> None:
    """Pasted as it stands, with another port, it is answered 202 with the event accepted."""
    require_tool("curl")
    here = command.replace("http://127.0.0.1:8080", gateway.url)
    running = await asyncio.create_subprocess_exec("bash", "-c", here, stdout=PIPE, stderr=PIPE)
    out, said = await running.communicate()
    assert running.returncode == 0, said.decode()
    answer = json.loads(out)
    assert (answer["accepted"], answer["rejected"], answer["errors"]) == (1, 0, [])


async def test_the_answer_of_the_documents(gateway: Gateway) -> None:
    """docs/events.md shows the entry of an event with two violations, as the gateway answers it."""
    (shown,) = re.findall(r"```json\n(\{.*?)```", (ROOT / "docs/events.md").read_text(), re.DOTALL)
    event = (await _examples(gateway))["facebook bottom"]
    event["data"]["user"]["age"] = -1
    event["data"]["engagement"]["device"] = "tablet"
    assert (await gateway.post([event])).json()["errors"] == [json.loads(shown)]


async def test_its_examples_can_be_posted_as_they_are(gateway: Gateway) -> None:
    """Their instants are the present."""
    examples = await _examples(gateway)
    assert set(examples) == set(EXAMPLES)
    assert (await gateway.post(list(examples.values()))).json()["accepted"] == len(EXAMPLES)


@pytest.mark.parametrize("path", PATHS)
async def test_it_is_static_and_public(gateway: Gateway, path: str) -> None:
    """GET and HEAD are answered 200, other methods 405 with Allow; nothing is loaded from elsewhere."""
    answer = await gateway.http.get(gateway.url + path)
    assert answer.status_code == (await gateway.http.head(gateway.url + path)).status_code == 200
    assert answer.headers["x-content-type-options"] == "nosniff"
    rejected = await gateway.http.post(gateway.url + path, content=b"{}")
    assert (rejected.status_code, rejected.headers["allow"]) == (405, "GET, HEAD")
    assert not re.search(r"(src|href)=.?(https?:)?//", answer.text)


async def test_the_page_shows_every_field_reason_and_status(gateway: Gateway) -> None:
    """/docs is whole without its script, and its policy allows nothing but itself."""
    page = await gateway.http.get(f"{gateway.url}/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    assert "unsafe" not in page.headers["content-security-policy"]
    for reason in Reason:
        assert f"<code>{reason}</code>" in page.text
    for rejection in set(Rejection) - {Rejection.UNKNOWN_PATH, Rejection.WRONG_METHOD}:
        assert f"<code>{rejection}</code>" in page.text
    for path in ("data.user.location.city", "data.engagement.percentageWatched", "funnelStage"):
        assert f"<code>{path}</code>" in page.text


async def test_the_form_posts_an_example(gateway: Gateway) -> None:
    """In a browser: an example is chosen, posted and accepted; the policy stops nothing of the page."""
    chromium = require_tool("chromium")
    stopped: list[str] = []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium)
        page = await browser.new_page()
        page.on("console", lambda said: stopped.append(said.text))
        await page.goto(f"{gateway.url}/docs")
        await page.get_by_role("button", name="tiktok bottom").click()
        await page.get_by_role("button", name="Post").click()
        await expect(page.locator("#answer")).to_contain_text('"accepted": 1')
        await browser.close()
    assert stopped == []


async def test_the_schema_is_the_contracts(gateway: Gateway) -> None:
    """/events.schema.json is the JSON Schema, and the document holds the same."""
    assert (await gateway.http.get(f"{gateway.url}/events.schema.json")).json() == schema()
    document = (await gateway.http.get(f"{gateway.url}/openapi.json")).json()
    whole = {"$ref": "#/components/schemas/Event", "components": document["components"]}
    validator = jsonschema_rs.validator_for(whole)
    for event in (await _examples(gateway)).values():
        validator.validate(event)


async def test_schemathesis_finds_nothing(gateway: Gateway, tmp_path: Path) -> None:
    """Requests made from the document, right and wrong ones, get the statuses, types and bodies that it declares."""
    running = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{gateway.url}/openapi.json", "--max-examples", "30"),
        *("--phases", "examples,fuzzing", "--seed", "1", "--generation-deterministic", "--no-color"),
        *("--exclude-checks", "positive_data_acceptance,negative_data_rejection,ignored_auth"),
        *("--suppress-health-check", "all"),
        cwd=tmp_path,  # it leaves a folder of its own
        stdout=PIPE,
        stderr=STDOUT,
    )
    said, _ = await asyncio.wait_for(running.communicate(), 120)
    assert running.returncode == 0, said.decode()
    assert "generated" in said.decode()


async def _examples(gateway: Gateway) -> dict[str, Any]:
    answer: httpx.Response = await gateway.http.get(f"{gateway.url}/openapi.json")
    content = answer.json()["paths"]["/events"]["post"]["requestBody"]["content"]
    return {name: example["value"] for name, example in content["application/json"]["examples"].items()}
