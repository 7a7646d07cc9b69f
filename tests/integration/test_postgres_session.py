"""Settings of a role, a database, a DSN or the environment do not reach Sluice's sessions unasked."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest
from nats.aio.client import Client

from core import postgres
from core.errors import Misconfigured
from core.pg_errors import is_transient
from core.postgres import Connection
from ops.local import Servers
from reporter.database import open_pool
from reporter.settings import ReporterSettings
from tests.support.collecting import balanced, collecting, drained, publish, storing
from tests.support.events import facebook, message
from tests.support.stack import Database, reachable_folder
from tests.support.waiting import eventually

HOSTILE = {
    "synchronous_commit": "off",
    "default_transaction_isolation": "serializable",
    "search_path": "pg_catalog",
    "TimeZone": "Asia/Kathmandu",
    "DateStyle": "German",
    "statement_timeout": "5s",
    "lock_timeout": "5s",
    "transaction_timeout": "5s",
    "idle_in_transaction_session_timeout": "5s",
    "idle_session_timeout": "5s",
}
OURS = {**postgres.SESSION, "default_transaction_read_only": "off"}


@pytest.fixture
async def superuser(servers: Servers, database: Database) -> AsyncIterator[Connection]:
    """A superuser's connection to the test's database."""
    connection = await postgres.connect(servers.dsn("postgres", database.name), name="tests")
    yield connection
    await connection.close()


async def shown(connection: Connection, names: dict[str, str]) -> dict[str, str]:
    return {name: await connection.fetchval("SELECT current_setting($1)", name) for name in names}


@pytest.fixture(params=["role", "database", "dsn", "service"])
async def hostile(
    request: pytest.FixtureRequest, superuser: Connection, database: Database, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], Awaitable[str]]:  # fmt: skip
    """Make every setting hostile for a role in the test's database; the DSN to use."""

    async def make(dsn: str) -> str:
        role = dsn.partition("//")[2].partition(":")[0]
        options = " ".join(f"-c {name}={value}" for name, value in HOSTILE.items())
        match request.param:
            case "role" | "database":
                of = f"ROLE {role} IN DATABASE" if request.param == "role" else "DATABASE"
                for name, value in HOSTILE.items():
                    await superuser.execute(f"ALTER {of} {database.name} SET {name} = '{value}'")
            case "dsn":
                return f"{dsn}?options={options.replace(' ', '%20').replace('=', '%3D')}"
            case _:
                service = tmp_path / "service.conf"
                service.write_text(f"[hostile]\nhost=192.0.2.1\nuser=postgres\noptions={options}\n")
                monkeypatch.setenv("PGSERVICEFILE", str(service))
                monkeypatch.setenv("PGSERVICE", "hostile")
                monkeypatch.setenv("PGOPTIONS", options)
        return dsn

    return make


async def test_the_session_that_writes_has_our_settings(
    database: Database, connection: Connection, hostile: Callable[[str], Awaitable[str]]
) -> None:
    """The collector's own connection commits to disk and sees what others committed, and events are stored."""
    dsn = await hostile(database.collector_dsn)
    async with storing("facebook", database) as storage:
        storage.store._dsn = dsn
        event = facebook()
        assert (await storage.save(message(event, facebook()))).stored == 2
        assert (await storage.save(message(event, facebook()))).stored == 1
        writer = storage.store._connection
        assert writer is not None
        assert await shown(writer, OURS) == {**OURS, "TimeZone": "UTC"}
    await balanced(connection)


async def test_reports_have_our_settings(database: Database, hostile: Callable[[str], Awaitable[str]]) -> None:
    """A report's time limit and zone are the reporter's own."""
    dsn = await hostile(database.reporter_dsn)
    ours = {
        **OURS,
        "default_transaction_read_only": "on",
        "statement_timeout": "10s",
        "plan_cache_mode": "force_generic_plan",
    }
    async with await open_pool(ReporterSettings(reporter_dsn=dsn)) as pool, pool.acquire() as reader:
        assert await shown(reader, ours) == ours  # type: ignore[arg-type]


async def test_what_promises_more_stays(superuser: Connection, database: Database) -> None:
    """With remote_apply a commit waits for a standby to show it, too."""
    await superuser.execute(f"ALTER DATABASE {database.name} SET synchronous_commit = remote_apply")
    connection = await postgres.connect(database.collector_dsn, name="tests")
    assert await connection.fetchval("SHOW synchronous_commit") == "remote_apply"
    await connection.close()


async def test_a_setting_that_only_a_superuser_changes_is_rejected(superuser: Connection, database: Database) -> None:
    """Without triggers the totals would be wrong: no session writes, and the error says what to do."""
    await superuser.execute(
        f"ALTER ROLE sluice_collector IN DATABASE {database.name} SET session_replication_role = replica"
    )
    with pytest.raises(Misconfigured, match=r"session_replication_role is replica .* must be origin: .* RESET"):
        await postgres.connect(database.collector_dsn, name="tests")


async def test_a_running_collector_says_why_it_stopped(
    superuser: Connection, database: Database, connection: Connection, client: Client
) -> None:
    """Its next session has a setting that must not be: readiness says so in one sentence, and it goes on afterwards."""
    of = f"ROLE sluice_collector IN DATABASE {database.name}"
    async with collecting(database, client) as collector:
        await publish(client, "facebook", message(facebook()))
        await drained(client, "facebook")
        await superuser.execute(f"ALTER {of} SET session_replication_role = replica")
        await superuser.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'sluice-collector-facebook' AND datname = current_database()"
        )
        await publish(client, "facebook", message(facebook()))

        async def named() -> bool:
            return b"session_replication_role is replica" in collector.readiness.answer()[1]

        await eventually(named, what="readiness names the setting")
        await superuser.execute(f"ALTER {of} RESET ALL")
        await drained(client, "facebook")
        assert collector.readiness.ready
    await balanced(connection, client)


async def test_a_database_that_is_frozen_stays_so(superuser: Connection, database: Database) -> None:
    """An operator who sets default_transaction_read_only wants no more rows: writers wait, and write afterwards."""
    await superuser.execute(f"ALTER DATABASE {database.name} SET default_transaction_read_only = on")
    async with storing("facebook", database) as storage:
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError) as caught:
            await storage.save(message(facebook()))
        assert is_transient(caught.value)
        await superuser.execute("SET default_transaction_read_only = off")
        await superuser.execute(f"ALTER DATABASE {database.name} RESET default_transaction_read_only")
        await storage.store.close()
        assert (await storage.save(message(facebook()))).stored == 1


async def test_what_is_stored_survives_a_kill_of_the_server() -> None:
    """ALTER ROLE … SET synchronous_commit = off, and a server that is killed before its log writer runs: every batch
    that was stored is there."""
    with reachable_folder() as folder:
        async with Servers(folder / "stack", environ={}) as own:
            await postgres.migrate(own.owner_dsn)
            superuser = await postgres.connect(own.dsn("postgres"), name="tests")
            await superuser.execute("ALTER ROLE sluice_collector SET synchronous_commit = off")
            for setting in ("wal_writer_delay = '10s'", "wal_writer_flush_after = '100MB'"):
                await superuser.execute(f"ALTER SYSTEM SET {setting}")
            await superuser.execute("SELECT pg_reload_conf()")
            own_database = Database("sluice", own.owner_dsn, own.collector_dsn, own.reporter_dsn, own.dsn("sluice_bi"))
            async with storing("facebook", own_database) as storage:
                for _ in range(5):
                    await storage.save(message(facebook()))
                pid = own.supervisor.kill("postgres", signal.SIGKILL)
                await own.supervisor.wait_ready("postgres", after=pid)
            connection = await postgres.connect(own.owner_dsn, name="tests")
            assert await connection.fetchval("SELECT count(*) FROM facebook_events") == 5
            await balanced(connection)
            await connection.close()


async def test_the_local_stack_makes_its_roles_on_its_own_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service of libpq in the environment sends neither roles nor passwords to another server."""
    service = tmp_path / "service.conf"
    service.write_text("[other]\nhost=127.0.0.1\nport=1\n")
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    monkeypatch.setenv("PGSERVICE", "other")
    monkeypatch.setenv("PGHOSTADDR", "127.0.0.2")
    with reachable_folder() as folder:
        async with Servers(folder / "stack", environ={}) as own:
            connection = await postgres.connect(own.owner_dsn, name="tests")
            assert await connection.fetchval("SELECT current_user") == "sluice_owner"
            await connection.close()
