"""A synchronous standby: a batch counts as stored only after a commit that the standby has confirmed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from collector.store import store as storing_module
from collector.store.store import NotReplicated, TooSlow
from core import postgres
from core.pg_errors import ErrorClass, classify
from core.postgres import Connection
from ops.local import Servers
from tests.support.collecting import storing
from tests.support.events import facebook, message
from tests.support.stack import Database
from tests.support.waiting import eventually, in_time

WAITING = """
    SELECT pid FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'sluice-collector-facebook' AND wait_event = 'SyncRep'
"""
Switch = Callable[[str], Awaitable[None]]


@pytest.fixture
async def superuser(servers: Servers, database: Database) -> AsyncIterator[Connection]:
    """A connection to the test's database that may do anything."""
    connection = await postgres.connect(servers.dsn("postgres", database.name), name="tests-superuser")
    yield connection
    await connection.close()


@pytest.fixture
async def wait_for(superuser: Connection) -> AsyncIterator[Switch]:
    """Sets which standby commits wait for; none at the end."""

    async def switch(names: str) -> None:
        await superuser.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'")
        await superuser.execute("SELECT pg_reload_conf()")

        async def is_set() -> bool:
            return str(await superuser.fetchval("SHOW synchronous_standby_names")) == names

        await eventually(is_set, what=f"commits wait for {names or 'nothing'}")

    yield switch
    await switch("")


async def cancel_a_waiting_commit(superuser: Connection) -> None:
    async def waiting() -> int | None:
        pid: int | None = await superuser.fetchval(WAITING)
        return pid

    pid = await eventually(waiting, what="a COMMIT waits for the standby")
    await superuser.execute("SELECT pg_cancel_backend($1)", pid)


async def test_a_cancelled_wait_for_the_standby_is_an_error(
    database: Database, superuser: Connection, wait_for: Switch
) -> None:
    """PostgreSQL then commits locally and only warns. The batch is tried again until the standby has confirmed it,
    although its receipts exist."""
    async with storing("facebook", database) as store:
        entry = store.entry(message(facebook()))
        await store.save(message(facebook()))
        await wait_for("absent")
        for _ in range(2):  # the second time its receipt exists
            saving = asyncio.create_task(store.store.save([entry]))
            await cancel_a_waiting_commit(superuser)
            with pytest.raises(NotReplicated) as raised:
                await in_time(saving)
            assert classify(raised.value) is ErrorClass.RETRY
        await wait_for("")
        assert (await store.store.save([entry])).skipped_messages == 1


async def test_a_commit_that_timed_out_is_not_the_end_of_its_batch(
    database: Database, wait_for: Switch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command limit cancels a COMMIT that waits for the standby. The next try finds the receipts, and waits too."""
    monkeypatch.setattr(storing_module, "COMMAND_SECONDS", 1.0)
    async with storing("facebook", database) as store:
        entry = store.entry(message(facebook()))
        await store.save(message(facebook()))
        await wait_for("absent")
        for _ in range(2):
            with pytest.raises(TooSlow):
                await in_time(store.store.save([entry]))
            await store.store.close()
        await wait_for("")
        assert (await store.store.save([entry])).skipped_messages == 1
