"""PgBouncer between Sluice and PostgreSQL: in session mode all works, otherwise no service starts, and says why."""

from __future__ import annotations

import asyncio
import os
import sys

import asyncpg
import pytest
from nats.aio.client import Client

from core import postgres
from core.errors import Misconfigured
from core.postgres import POOLER_FOUND, Connection
from ops.cli.connection import to_database
from ops.local.ports import free_port
from ops.settings import OperatorSettings
from tests.support.collecting import balanced, drained, publish
from tests.support.collector_process import collector_process
from tests.support.events import NOON, facebook, message
from tests.support.pooler import pooled
from tests.support.processes import ROOT
from tests.support.report_rows import reporter
from tests.support.stack import Database, FreshNats
from tests.support.waiting import in_time


async def test_a_pool_of_sessions_works(
    database: Database, connection: Connection, client: Client, fresh_nats: FreshNats
) -> None:
    """Each of our sessions has a server's session of its own, with our settings: events are stored and reported."""
    async with pooled(database, "session") as through:
        async with collector_process(
            "facebook", collector_dsn=through.collector_dsn, nats_url=fresh_nats.url
        ) as collector:
            await collector.is_ready()
            await publish(client, "facebook", message(facebook()))
            await drained(client, "facebook")
            assert await collector.terminate() == 0
        async with reporter(through.reporter_dsn) as http:
            day = {"from": NOON.date().isoformat(), "to": f"{NOON.date()}T23:00:00Z"}
            assert (await http.get("/reports/events", params=day)).json()["rows"][0]["events"] == 1
    await balanced(connection, client)


@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_a_collector_rejects_a_pool_of_transactions(database: Database, fresh_nats: FreshNats, mode: str) -> None:
    """Where sessions are shared, locks, temporary tables and settings would be another's: one sentence, exit code 2."""
    async with (
        pooled(database, mode) as through,
        collector_process("facebook", collector_dsn=through.collector_dsn, nats_url=fresh_nats.url) as collector,
    ):
        assert await collector.end() == 2
    assert collector.errors == f"sluice: sluice-wait: {POOLER_FOUND}\n"


@pytest.mark.parametrize("mode", ["transaction", "statement"])
async def test_a_reporter_rejects_a_pool_of_transactions(database: Database, mode: str) -> None:
    """It ends at its start with the same sentence, also if it migrates."""
    async with pooled(database, mode) as through:
        for migrate in ({}, {"SLUICE_MIGRATE_DSN": database.owner_dsn}):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "reporter"),
                cwd=ROOT,
                env={
                    "PATH": os.environ["PATH"],
                    "REPORTER_DSN": through.reporter_dsn,
                    "REPORTER_PORT": str(free_port()),
                    **migrate,
                },
                stderr=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
            )
            _, said = await in_time(process.communicate())
            assert (process.returncode, said.decode()) == (2, f"sluice: sluice-wait: {POOLER_FOUND}\n")


async def test_a_busy_pool_of_transactions_is_rejected(database: Database) -> None:
    """However many other clients take and return sessions meanwhile."""
    async with pooled(database, "transaction") as through:
        others = [await asyncpg.connect(through.collector_dsn, statement_cache_size=0) for _ in range(4)]

        async def work(other: Connection) -> None:
            while True:
                await other.execute("SELECT pg_sleep(0.001)")

        working = [asyncio.create_task(work(other)) for other in others]
        for _ in range(10):
            with pytest.raises(Misconfigured, match="pooler in transaction mode"):
                await postgres.connect(through.collector_dsn, name="tests")
        for task in working:
            task.cancel()
        await asyncio.wait(working)
        for other in others:
            other.terminate()


async def test_an_operator_is_reported(database: Database) -> None:
    """Commands hold locks in their session, too."""
    async with pooled(database, "transaction") as through:
        with pytest.raises(Misconfigured, match="pooler in transaction mode"):
            async with to_database(OperatorSettings(sluice_migrate_dsn=through.owner_dsn)):
                pass
