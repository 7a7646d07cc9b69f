"""A backup that was taken while events flowed is restored into empty servers, by the guide's own commands."""

import asyncio
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from core import jetstream, postgres
from ops.ledger import read_ledger
from ops.local import Servers
from ops.local.postgres import find_binaries
from ops.local.services import Services, start_services
from ops.local.up import variables
from tests.support.events import facebook, tiktok
from tests.support.oracle import Oracle
from tests.support.processes import ROOT
from tests.support.stack import reachable_folder
from tests.support.system import running

GUIDE = (ROOT / "docs" / "backup.md").read_text()
SECONDS = 60


async def follow(section: str, environment: Mapping[str, str]) -> None:
    """Run the guide's commands of one section; fails with what they said."""
    (block,) = re.findall(rf"^```sh {section}\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)
    shell = await asyncio.create_subprocess_exec(
        *("sh", "-e", "-c", block),
        cwd=ROOT,
        env={**environment},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(shell.communicate(), SECONDS)
    assert shell.returncode == 0, f"{block}\n{said.decode()}"


def environment(servers: Servers, services: Services, backup: Path) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), str(find_binaries()), os.environ["PATH"]])
    return {
        **variables(servers, services, {}),
        "PATH": path,
        "BACKUP": str(backup),
        "SUPERUSER_DSN": servers.dsn("postgres", "postgres"),
    }


async def test_a_backup_is_restored_whole() -> None:
    """What was stored, and what still waited, is there, once and unchanged; the ledger balances."""
    with reachable_folder() as folder:
        backup = folder / "backup"
        async with running(GATEWAY_WORKERS="1") as system:
            await system.post([facebook() for _ in range(300)])
            await system.until_stored()
            await system.supervisor.stop("ttk-collector")  # so that something waits
            await system.post([tiktok() for _ in range(200)])
            await follow("save", environment(system.servers, system.services, backup))
            oracle = system.oracle
        async with Servers(folder / "restored", environ={}) as servers:
            superuser = await postgres.connect(servers.dsn("postgres", "postgres"), name="tests")
            await superuser.execute("DROP DATABASE sluice")
            await superuser.close()
            nowhere = Services({"gateway": 1, "reporter": 1})
            await follow("restore", environment(servers, nowhere, backup))
            services = await start_services(servers, {"GATEWAY_WORKERS": "1"})
            await follow("look", environment(servers, services, backup))
            await judged(servers, oracle)


async def judged(servers: Servers, oracle: Oracle) -> None:
    """Everything that was answered 202 is a row, unchanged, once, and the ledger balances."""
    client = await jetstream.connect(servers.nats_url, name="tests")
    connection = await postgres.connect(servers.reporter_dsn, name="tests")
    try:
        assert not (await read_ledger(client, connection)).problems()
        judgement = await oracle.judge(connection)
        assert not judgement.wrong(), "\n".join(judgement.wrong())
    finally:
        await connection.close()
        await client.close()
