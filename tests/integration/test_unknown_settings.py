"""A misspelt setting is reported: each program says at its start which variables with its prefixes nothing reads."""

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
# Names that are almost settings, the settings that they resemble, and the program that reads those; migrate reads none.
MISSPELT = {
    "GATEWAY_WORKER": ("GATEWAY_WORKERS", "gateway"),
    "COLLECTOR_DNS": ("COLLECTOR_DSN", "collector"),
    "REPORTER_CONNECTION": ("REPORTER_CONNECTIONS", "reporter"),
    "NATS_URLS": ("NATS_URL", None),  # every program
}
# Known, and each ends the start right after the warning.
WRONG = {
    **dict.fromkeys(MISSPELT, "secret"),
    **{"GATEWAY_HOST": "a b", "COLLECTOR_HOST": "a b", "REPORTER_HOST": "a b"},
}


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
    (line,) = [line for line in map(json.loads, said.splitlines()) if line["event"] == "unknown settings"]
    theirs = {name: setting for name, (setting, reader) in MISSPELT.items() if reader in (service, None)}
    assert (code, line["level"], line["variables"]) == (2, "warning", theirs)
    assert b"secret" not in said + errors


async def test_a_command_warns_on_stderr() -> None:
    """An operator's command checks the settings of all programs. Standard output has its result alone."""
    code, said, errors = await run("ops", "partitions", "list", "--format", "json")
    assert (code, said) == (2, b"")
    for name, (setting, _) in MISSPELT.items():
        assert f"sluice: {name} is not a setting: did you mean {setting}?\n".encode() in errors
