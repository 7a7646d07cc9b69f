"""A misspelt setting is seen: every program of ours says at its start which variables nothing reads."""

from __future__ import annotations

import json
import os
import sys
from asyncio.subprocess import PIPE, create_subprocess_exec

import pytest

from tests.support.processes import ROOT
from tests.support.waiting import in_time

SERVICES = {
    "gateway": ["gateway"],
    "collector": ["collector", "--source", "tiktok"],
    "reporter": ["reporter"],
    "migrate": ["core.migrate"],
}
# A name, a setting that ends the start right after, and one that is known.
WRONG = {"GATEWAY_WORKER": "secret", "GATEWAY_HOST": "a b", "COLLECTOR_HOST": "a b", "REPORTER_HOST": "a b"}


async def run(*arguments: str) -> tuple[int | None, bytes, bytes]:
    process = await create_subprocess_exec(
        *(sys.executable, "-m", *arguments),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **WRONG},
        stdout=PIPE,
        stderr=PIPE,
    )
    said, errors = await in_time(process.communicate())
    return process.returncode, said, errors


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_warns_in_one_line(service: str) -> None:
    """A JSON line with the nearest name and without the value; what else is wrong ends the start as always."""
    code, said, errors = await run(*SERVICES[service])
    (line,) = [line for line in map(json.loads, said.splitlines()) if line["event"] == "variables that are no settings"]
    assert (code, line["level"], line["variables"]) == (2, "warning", {"GATEWAY_WORKER": "GATEWAY_WORKERS"})
    assert b"secret" not in said + errors


async def test_a_command_warns_on_stderr() -> None:
    """Standard output stays what it is, for programs."""
    code, said, errors = await run("ops", "partitions", "list", "--format", "json")
    assert (code, said) == (2, b"")
    assert errors.startswith(b"sluice: GATEWAY_WORKER is no setting: GATEWAY_WORKERS is the nearest one\n")
