"""PostgreSQL goes silent: what a collector does beside storing waits no longer than it must, says so, and goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import pytest
from nats.aio.client import Client
from structlog.testing import capture_logs

from collector.maintenance import ledger, maintain, watermark
from collector.settings import CollectorSettings
from collector.sources import SOURCES
from core.health import Readiness
from core.lifecycle import cancel_and_wait
from core.postgres import Connection
from ops.local import Servers
from tests.support.proxy import proxy
from tests.support.stack import Database
from tests.support.waiting import eventually

FACEBOOK = SOURCES["facebook"]
Begin = Callable[[Client, str], Coroutine[Any, Any, None]]


def _maintain(client: Client, dsn: str) -> Coroutine[Any, Any, None]:
    return maintain.maintain(client, FACEBOOK, CollectorSettings(collector_dsn=dsn), Readiness())


def _watch(client: Client, dsn: str) -> Coroutine[Any, Any, None]:
    return ledger.watch(client, dsn, FACEBOOK, Readiness())


def _keep_watermark(client: Client, dsn: str) -> Coroutine[Any, Any, None]:
    return watermark.advance_watermark(client, dsn, FACEBOOK, Readiness())


@pytest.mark.parametrize(
    ("module", "begin", "session", "table", "step"),
    [
        (maintain, _maintain, "sluice-maintenance", "dead_letters", "dead_letters"),
        (ledger, _watch, "sluice-ledger", "receipts", "ledger"),
        (watermark, _keep_watermark, "sluice-watermark", "watermarks", "watermark"),
    ],
    ids=["maintenance", "ledger", "watermark"],
)
async def test_an_answer_that_never_comes(
    servers: Servers, database: Database, connection: Connection, client: Client,
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, begin: Begin, session: str, table: str, step: str,
) -> None:  # fmt: skip
    """The line goes silent while it waits for an answer: it gives up, reports, and works again over a new line."""
    limit = module.COMMAND_SECONDS
    assert limit <= {"sluice-maintenance": 60, "sluice-ledger": 300, "sluice-watermark": 20}[session]
    monkeypatch.setattr(module, "COMMAND_SECONDS", 1.0)
    monkeypatch.setattr(module, "EVERY_SECONDS", 0.1)
    monkeypatch.setattr(ledger, "AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(watermark, "AGAIN_SECONDS", 0.1)

    async def stands() -> bool:
        await connection.execute("SELECT pg_stat_clear_snapshot()")  # or it stays as it was when the transaction began
        waiting = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted"
        return bool(await connection.fetchval(f"{waiting} AND application_name = $1", session))

    @asynccontextmanager
    async def locked() -> AsyncIterator[None]:
        async with connection.transaction():
            await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
            yield

    async with proxy(servers.postgres.port) as line:
        through = database.collector_dsn.replace(f":{servers.postgres.port}/", f":{line.port}/")
        assert through != database.collector_dsn
        with capture_logs() as reported:

            async def reports() -> bool:
                return any(entry.get("step") == step and "TimeoutError" in entry.get("error", "") for entry in reported)

            task = asyncio.create_task(begin(client, through))
            try:
                async with locked():
                    await eventually(stands, what="it waits for an answer")
                    line.half_open()
                await eventually(reports, what="it reports that no answer came", seconds=10)
                line.reset()  # what it left behind may hold locks as long as the server knows of no end
                line.release()
                async with locked():
                    await eventually(stands, what="it works again")
            finally:
                await cancel_and_wait([task])
