"""A whole system for a benchmark: servers and services in a temporary folder, and the publisher."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
from nats.aio.client import Client

from bench.processes import cpu_seconds, memory_bytes
from core import jetstream, postgres
from core.postgres import Connection
from ops.ledger import until_stored
from ops.local import Servers
from ops.local.services import COLLECTORS, Services, publisher, start_services
from sql import statements

STORED_WITHIN_SECONDS: Final = 600.0
_SQL: Final = statements("bench_tables")
# The stages in results, and the programs of each.
STAGES: Final[dict[str, tuple[str, ...]]] = {
    "gateway": ("gateway",),
    "nats": ("nats",),
    "collector": tuple(COLLECTORS),
    "postgres": ("postgres",),
}


@dataclass(frozen=True)
class System:
    """A running system. owner is a superuser's connection to its database."""

    servers: Servers
    services: Services
    client: Client
    owner: Connection

    async def publish(self, *options: str, name: str = "publisher", rejections: bool = False) -> dict[str, Any]:
        """Run the publisher until it ends. Return its counts.

        Raises SystemExit if it fails, or if a POST is not answered 202. With `rejections`, 503 is allowed. Concurrent
        publishers need different names.
        """
        counts = self.servers.folder / f"{name}.json"
        program = publisher(self.services.endpoint, "--quiet", "--json", str(counts), *options)
        process = await asyncio.create_subprocess_exec(
            *program.argv, env={**os.environ, **program.env}, stdout=asyncio.subprocess.DEVNULL
        )
        try:
            if await process.wait() != 0:
                raise SystemExit("the publisher failed")
        finally:
            if process.returncode is None:
                process.kill()
        sent: dict[str, Any] = orjson.loads(await asyncio.to_thread(counts.read_bytes))
        if set(sent["answered"]) - ({"202", "503"} if rejections else {"202"}) or sent["unanswered"]:
            raise SystemExit(f"not every POST was answered 202: {sent['answered']} {sent['failures']}")
        return sent

    async def until_stored(self) -> None:
        """Wait until all streams are empty. Raises SystemExit after STORED_WITHIN_SECONDS."""
        if await until_stored(self.client, STORED_WITHIN_SECONDS):
            raise SystemExit("not all events were stored in time")

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU time of each stage, summed over its processes."""
        return {stage: cpu_seconds(self._pids(programs)) for stage, programs in STAGES.items()}

    def memory_bytes(self) -> dict[str, int]:
        """Return the current memory of each program, summed over its processes."""
        return {name: memory_bytes(self.servers.supervisor.pids(name)) for name in self.servers.supervisor.names}

    def _pids(self, programs: tuple[str, ...]) -> list[int]:
        return [pid for name in programs for pid in self.servers.supervisor.pids(name)]


@asynccontextmanager
async def running(settings: Mapping[str, str] | None = None) -> AsyncIterator[System]:
    """Run a system with these settings, on free ports. At the end, stop it and delete its data."""
    with tempfile.TemporaryDirectory(prefix="sluice-bench-") as folder:
        Path(folder).chmod(0o711)  # noqa: ASYNC240 - PostgreSQL may have to run as another user
        async with Servers(Path(folder) / "stack", environ={}) as servers:
            services = await start_services(servers, {"LOG_LEVEL": "warning", **(settings or {})})
            client = await jetstream.connect(servers.nats_url, name="bench")
            owner = await postgres.connect(servers.dsn("postgres", "sluice"), name="bench")
            try:
                yield System(servers, services, client, owner)
            finally:
                await owner.close()
                await client.close()


async def empty_tables(owner: Connection, tables: Iterable[str]) -> None:
    """Empty these tables of events, and all tables that grow with them. The streams must be empty."""
    await owner.execute(_SQL["empty"].format(tables=", ".join(tables)))
    await owner.execute(_SQL["vacuum"])
