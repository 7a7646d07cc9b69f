"""Every command of the runbooks and guides runs as it stands, against a running system, and succeeds."""

import asyncio
import os
import re
import sys
from pathlib import Path

from ops.local.postgres import find_binaries
from ops.up import variables
from tests.support.collecting import publish
from tests.support.events import facebook, message, tiktok
from tests.support.processes import ROOT
from tests.support.prometheus import watched
from tests.support.system import System, running
from tests.support.tools import require_tool

PAGES = sorted([*(ROOT / "ops" / "runbooks").glob("*.md"), ROOT / "docs" / "upgrade.md", ROOT / "docs" / "capacity.md"])
FENCED = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`(python -m ops [^`]+)`")
SECONDS = 60


def commands() -> dict[str, str]:
    """Every command, each once, with the page where it stands: fenced lines, and spans that call our command line."""
    found: dict[str, str] = {}
    for page in PAGES:
        text = page.read_text()
        for block in FENCED.findall(text):
            for line in block.splitlines():
                found.setdefault(line, page.name)
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
    wanted = (0, 1) if "ops doctor" in command else (0,)  # 1: it ran, and found the dead letter below
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


async def test_every_command_of_the_runbooks_runs() -> None:
    """None fails, whatever page it stands on."""
    for tool in ("prometheus", "promtool", "curl"):
        require_tool(tool)
    found = commands()
    assert len(found) > 60
    async with running(GATEWAY_WORKERS="1") as system, watched(system) as prometheus:
        await prometheus.scrapes_everything()
        await system.post([facebook(), tiktok(), b'{"eventId": "broken"}'])
        await publish(system.client, "tiktok", message(tiktok(), b'{"eventId": "past the door"}'))
        await system.until_stored()
        around = environment(system, prometheus.url)
        for command, page in found.items():
            await run(command, around, page)
