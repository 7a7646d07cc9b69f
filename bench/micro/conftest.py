"""Real servers for microbenchmarks, started once per session."""

import asyncio
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench.store import NOON, SOURCE, Load
from core import postgres
from ops.local import Servers


@dataclass(frozen=True)
class Stack:
    """NATS and PostgreSQL with a migrated database, their event loop, and batches of encoded rows."""

    runner: asyncio.Runner
    servers: Servers
    load: Load


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """Run the servers in a temporary folder."""
    with asyncio.Runner() as runner, tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        Path(folder).chmod(0o711)  # PostgreSQL may have to run as another user
        servers = Servers(Path(folder) / "stack", environ={})
        runner.run(servers.__aenter__())
        try:
            runner.run(_prepare(servers))
            yield Stack(runner, servers, Load("micro"))
        finally:
            runner.run(servers.__aexit__(None, None, None))


async def _prepare(servers: Servers) -> None:
    await postgres.migrate(servers.owner_dsn)
    owner = await postgres.connect(servers.owner_dsn, name="bench")
    await owner.execute("SELECT ensure_partition($1, $2)", SOURCE.table, NOON.date())
    await owner.close()
