"""The commands of the runbooks and guides: read from their pages, and run unchanged."""

import asyncio
import os
import re
import sys
from pathlib import Path

from ops.local.postgres import find_binaries
from ops.local.up import variables
from tests.support.processes import ROOT
from tests.support.system import System

GUIDES = ("README.md", "docs/capacity.md", "docs/reports-api.md", "docs/upgrade.md")
"""Pages beside the runbooks whose commands run. docs/backup.md has a test of its own."""
PAGES = sorted([*(ROOT / "ops" / "runbooks").glob("*.md"), *(ROOT / name for name in GUIDES)])
FENCED = re.compile(r"^ *```sh\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`((?:sluice|python -m ops) [^`]+)`")
HERE_DOCUMENT = "<<END"  # posts an event: tests/integration/test_gateway_documentation.py
REPORTER = "http://127.0.0.1:8081"
SECONDS = 60


def commands() -> dict[str, str]:
    """Every command, each once, with its page: fenced lines, and in runbooks also spans that call `sluice`."""
    found: dict[str, str] = {}
    for page in PAGES:
        text = page.read_text()
        for block in FENCED.findall(text):
            for line in block.splitlines() if HERE_DOCUMENT not in block else ():
                found.setdefault(line.strip().replace(REPORTER, "$REPORTER_URL"), page.name)
        if page.parent.name == "runbooks":
            for span in SPAN.findall(FENCED.sub("", text)):
                found.setdefault(span.replace("NAME", "dead-1"), page.name)
    return found


async def run(command: str, environment: dict[str, str], where: str) -> None:
    """Run one command in a shell; fails with what it said."""
    process = await asyncio.create_subprocess_shell(
        command,
        cwd=ROOT,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    wanted = (0, 1) if re.match("(sluice|python -m ops) doctor", command) else (0,)  # 1: it ran, and found something
    assert process.returncode in wanted, f"{where}: {command}\n{said.decode()}"
    assert "curl" not in command or said, f"{where}: {command} said nothing"


def environment(system: System, prometheus_url: str) -> dict[str, str]:
    """What the runbooks' README asks for."""
    path = os.pathsep.join([str(Path(sys.executable).parent), str(find_binaries()), os.environ["PATH"]])
    return {
        **variables(system.servers, system.services, {}),
        "PATH": path,
        "PROMETHEUS_URL": prometheus_url,
        "COLUMNS": "140",
    }
