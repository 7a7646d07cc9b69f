"""The reporter on a hot standby: what is replayed there cancels queries, and a reader gets an answer all the same."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import asyncpg
import pytest

from core import postgres
from core.postgres import Connection
from ops.local import Servers
from reporter.answer import RETRY_AFTER_SECONDS, problem
from reporter.database import Pool, open_snapshot, retry_once
from tests.support.events import NOON, facebook
from tests.support.report_rows import collecting, reporter, reporter_pool
from tests.support.stack import reachable_folder
from tests.support.standby import Standby, standby_of
from tests.support.waiting import eventually

CITIES = {"from": NOON.date().isoformat(), "to": f"{NOON.date()}T23:00:00Z", "groupBy": "city", "source": "facebook"}
CHANGE = "UPDATE watermarks SET pending_messages = pending_messages + 1"


@pytest.fixture(scope="module")
async def own() -> AsyncIterator[tuple[Servers, Standby]]:
    """A server with events, and its standby."""
    with reachable_folder() as folder:
        async with Servers(folder / "stack", environ={}) as servers:
            await postgres.migrate(servers.owner_dsn)
            async with collecting(servers.collector_dsn) as collected:
                await collected.store([facebook() for _ in range(200)])
            owner = await postgres.connect(servers.owner_dsn, name="tests")
            await owner.execute("INSERT INTO watermarks SELECT unnest(enum_range(NULL::source)), now(), 0")
            await owner.close()
            async with standby_of(servers, folder / "standby") as standby:
                yield servers, standby


async def conflict(owner: Connection) -> None:
    """Remove a row version that an older snapshot of the standby still needs."""
    await owner.execute(CHANGE)
    await owner.execute("VACUUM watermarks")


@pytest.mark.parametrize("spoilt", [1, 2])
async def test_a_reading_that_replay_cancels_is_repeated(own: tuple[Servers, Standby], spoilt: int) -> None:
    """The second reading, of a new moment, is the answer. If it is cancelled, too: 503 with Retry-After."""
    servers, standby = own
    owner = await postgres.connect(servers.owner_dsn, name="tests")
    readings = 0
    async with reporter_pool(standby.dsn("sluice_reporter")) as (pool, _):

        async def read() -> int:
            nonlocal readings
            readings += 1
            async with open_snapshot(pool, ["facebook"]) as seen:
                if readings <= spoilt:
                    await spoil(pool, owner)
                count: int = await seen.connection.fetchval("SELECT count(*) FROM facebook_events")
                return count

        if spoilt == 1:
            assert await retry_once(read) == 200
        else:
            with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError)) as caught:
                await retry_once(read)
            document, headers = problem(caught.value)
            assert (document.status, headers) == (503, {"Retry-After": str(RETRY_AFTER_SECONDS)})
    assert readings == 2
    await owner.close()


async def spoil(pool: Pool, owner: Connection) -> None:
    """Let the standby replay what open snapshots must not see gone, and wait until it has cancelled them."""
    count = "SELECT sum(confl_snapshot + confl_lock + confl_bufferpin) FROM pg_stat_database_conflicts"
    before = await pool.fetchval(count)
    await conflict(owner)

    async def cancelled() -> bool:
        return bool(await pool.fetchval(count) > before)

    await eventually(cancelled, what="the standby has cancelled the reading", seconds=20)


async def test_no_report_on_a_standby_is_our_fault(own: tuple[Servers, Standby]) -> None:
    """While the primary server changes and vacuums what reports read: answers are 200, or 503 with Retry-After."""
    servers, standby = own
    owner = await postgres.connect(servers.owner_dsn, name="tests")
    statuses: Counter[int] = Counter()
    changing = True

    async def change() -> None:
        while changing:
            await conflict(owner)
            await asyncio.sleep(0.05)  # a rate, not a wait

    async with reporter(standby.dsn("sluice_reporter"), reporter_connections=4) as client:

        async def ask(path: str, params: dict[str, str]) -> None:
            for _ in range(20):
                answer = await client.get(path, params=params)
                statuses[answer.status_code] += 1
                assert answer.status_code in (200, 503), answer.text
                assert ("Retry-After" in answer.headers) == (answer.status_code == 503)

        task = asyncio.create_task(change())
        await asyncio.gather(
            *(ask("/reports/demographics", CITIES | {"limit": str(9 + n)}) for n in range(6)), ask("/pipeline", {})
        )
        changing = False
        await task
    await owner.close()
    assert statuses[200]


async def test_a_reporter_on_a_standby_is_ready(own: tuple[Servers, Standby]) -> None:
    """Its sessions can have their settings there, and readiness asks nothing that a standby cannot answer."""
    async with reporter(own[1].dsn("sluice_reporter")) as client:
        assert (await client.get("/health/ready")).status_code == 200
        assert (await client.get("/metrics")).status_code == 200
