"""Promise 8: NATS or PostgreSQL may be away, slow, full or locked: the gateway waits or rejects, the stream holds what
was accepted, and collectors catch up faster than events arrive."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from bench.publisher.bodies import Bodies
from bench.publisher.sender import Sender, varied_sizes
from core import postgres
from core.events.subjects import COLLECTED, stream_of
from core.jetstream import stream_info
from core.postgres import Connection
from core.sources import SOURCES
from ops.cli.pause import pause, resume
from ops.doctor.checks import nats_health
from tests.support.events import NOON, facebook
from tests.support.faulty import FaultySystem, goes_on, load, rounds
from tests.support.operator import operator
from tests.support.proxy import FROM_CLIENT, FROM_SERVER
from tests.support.tally import Tally
from tests.support.tools import require
from tests.support.waiting import eventually

MEBIBYTE = 1 << 20
Ask = Callable[[], Awaitable[bool]]
WAYS = {"from client": [FROM_CLIENT], "from server": [FROM_SERVER], "both": [FROM_CLIENT, FROM_SERVER]}


@asynccontextmanager
async def superuser(system: FaultySystem) -> AsyncIterator[Connection]:
    """A connection that may do anything."""
    connection = await postgres.connect(system.servers.dsn("postgres"), name="tests-superuser")
    try:
        yield connection
    finally:
        await connection.close()


def messages_wait(system: FaultySystem, least: int) -> Ask:
    """Asks whether so many messages of both sources wait in the streams."""

    async def ask() -> bool:
        infos = [await stream_info(system.client, stream_of(source)) for source in SOURCES]
        return all(info.state.messages >= least for info in infos)

    return ask


def posts_wait(sender: Sender, least: int) -> Ask:
    """Asks whether so many POSTs wait for their answers."""

    async def ask() -> bool:
        return sender.tally.in_flight >= least

    return ask


def answered(sender: Sender, status: int) -> Ask:
    """Asks whether any POST was answered so."""

    async def ask() -> bool:
        return sender.tally.answered[status] > 0

    return ask


@pytest.mark.parametrize("point", ["collector.copying", "collector.merged"])
async def test_the_connection_to_postgres_ends_at_a_step(system: FaultySystem, tally: Tally, point: str) -> None:
    """In the middle of a COPY, and between merge and commit: nothing of the batch is stored, or all, and it is stored
    again over a new connection."""
    async with load(system) as sender:
        for end in rounds(1, 5) * [system.to_postgres.cut, system.to_postgres.reset]:
            with system.armed(point, "stop") as fired:
                stopped = await fired()
            end()
            os.kill(stopped, signal.SIGCONT)
            await goes_on(system, sender, tally)
            with system.armed(point, "raise") as fired:
                await fired()
            await goes_on(system, sender, tally)


@pytest.mark.parametrize("way", WAYS if rounds(0, 1) else ["from server"])
async def test_the_line_to_postgres_is_half_open(system: FaultySystem, tally: Tally, way: str) -> None:
    """Neither end hears of it: the stream holds what comes, and when the line is reset, collectors begin anew."""
    async with load(system) as sender:
        system.to_postgres.hold(*WAYS[way])
        await eventually(messages_wait(system, 5), what="messages wait", seconds=30)
        system.to_postgres.reset()
        system.to_postgres.release()
        await goes_on(system, sender, tally)


async def test_nats_is_out_of_reach(system: FaultySystem, tally: Tally) -> None:
    """The line to NATS is rejected, held and reset in turn: requests wait, none is answered 202 meanwhile, and services
    find back by themselves."""
    line = system.to_nats
    # None that is rejected: a gateway tries to keep those for 5 s, and then counts them as not kept.
    async with load(system, stored=list(SOURCES), corrupt_share=0.0) as sender:
        for _ in range(rounds(1, 5)):
            await line.reject()
            line.reset()
            await eventually(posts_wait(sender, 5), what="requests wait", seconds=30)
            await line.listen()
            await goes_on(system, sender, tally, stored=list(SOURCES))
            line.half_open()
            await eventually(posts_wait(sender, 20), what="requests wait", seconds=30)
            accepted = sender.tally.answered[202]  # those that were confirmed before are answered by now
            await eventually(posts_wait(sender, 40), what="more requests wait", seconds=30)
            assert sender.tally.answered[202] == accepted
            line.reset()
            line.release()
            await goes_on(system, sender, tally, stored=list(SOURCES))


async def test_lines_are_slow(system: FaultySystem) -> None:
    """Both lines lag and are narrow: everything goes on, slower."""
    async with load(system) as sender:
        for line in (system.to_nats, system.to_postgres):
            line.delay_seconds, line.bytes_per_second = 0.02, 4e6
        for _ in range(rounds(2, 10)):
            await goes_on(system, sender)


async def test_a_lock_is_held(system: FaultySystem, tally: Tally) -> None:
    """Somebody holds a lock on what collectors write to: nothing is lost, and when it is let go, they go on."""
    async with load(system) as sender, superuser(system) as holder:
        for table in rounds(1, 5) * ("receipts", "event_counts"):
            async with holder.transaction():
                await holder.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE")
                await eventually(messages_wait(system, 5), what="messages wait", seconds=30)
            await goes_on(system, sender, tally)


async def test_statements_time_out(system: FaultySystem, tally: Tally) -> None:
    """PostgreSQL ends what takes longer than a moment (57014): collectors try again until it lets them."""
    sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'sluice_collector'"
    async with load(system) as sender, superuser(system) as admin:
        await admin.execute("ALTER ROLE sluice_collector SET statement_timeout = '2ms'")
        await admin.execute(sessions)
        await eventually(messages_wait(system, 5), what="messages wait", seconds=30)
        await admin.execute("ALTER ROLE sluice_collector RESET statement_timeout")
        await admin.execute(sessions)
        await goes_on(system, sender, tally)


async def test_the_disk_is_full(system: FaultySystem, folder: Path) -> None:
    """A partition's disk (a small tmpfs) is full: 53100, nothing of the batch is stored and nothing confirmed; with
    room again everything is stored."""
    disk, day, table = folder / "disk", NOON - timedelta(days=2), f"facebook_events_{NOON - timedelta(days=2):%Y%m%d}"
    disk.mkdir()
    require(await run("mount", "-t", "tmpfs", "-o", "size=1m,mode=0700", "none", str(disk)), "the right to mount")
    try:
        os.chown(disk, *_owner(system))
        assert (await system.post([facebook(at=day)])).status_code == 202
        await system.until_stored()
        async with superuser(system) as admin:
            await admin.execute(f"CREATE TABLESPACE small LOCATION '{disk}'")
            await admin.execute(f"ALTER TABLE {table} SET TABLESPACE small")
            for _ in range(4):
                posts = [system.post([facebook(at=day) for _ in range(500)]) for _ in range(4)]
                assert {answer.status_code for answer in await asyncio.gather(*posts)} == {202}

            async def reported() -> bool:
                return any("DiskFull" in line.get("error", "") for line in system.log_lines("fb-collector"))

            await eventually(reported, what="the collector reports that the disk is full", seconds=30)
            waiting = (await stream_info(system.client, stream_of("facebook"))).state.messages
            assert waiting > 0
            assert await run("mount", "-o", "remount,size=64m", str(disk))
            await system.until_stored()
            await system.judge()
            await admin.execute(f"ALTER TABLE {table} SET TABLESPACE pg_default")
            await admin.execute("DROP TABLESPACE small")
    finally:
        assert await run("umount", "--lazy", str(disk))


async def test_the_disk_under_nats_is_full(system: FaultySystem, tally: Tally, folder: Path) -> None:
    """JetStream's disk (a small tmpfs) is full: what it cannot write is not answered 202. A stream that failed to write
    stays so until NATS is restarted, which NATS and the doctor say; with room and a restart all goes on."""
    store, aside, ballast = system.servers.nats.store, folder / "aside", system.servers.nats.store / "ballast"
    settings = operator(
        system.servers.nats.url, system.servers.owner_dsn, nats_monitor_url=system.servers.nats.monitor_url
    )
    await system.judge()
    await system.supervisor.stop("nats")
    store.rename(aside)
    store.mkdir(mode=0o700)
    try:
        require(await run("mount", "-t", "tmpfs", "-o", "size=32m,mode=0700", "none", str(store)), "the right to mount")
        try:
            assert await run("cp", "-a", f"{aside}/.", str(store))
            await system.supervisor.start_again("nats")
            # None that is rejected: REJECTED may be full where a source's stream is not yet, and then it is not kept.
            async with load(system, events=100, stored=list(SOURCES), corrupt_share=0.0) as sender:
                for source in SOURCES:  # else its collector makes room
                    await pause(system.client, source)
                ballast.write_bytes(bytes(shutil.disk_usage(store).free - 2 * MEBIBYTE))
                await eventually(posts_wait(sender, 20), what="nothing is confirmed", seconds=60)
                await eventually(answered(sender, 503), what="requests are answered 503", seconds=60)
                assert (await nats_health(settings)).state == "wrong"
                ballast.unlink()
                await system.restart("nats", signal.SIGTERM)
                assert (await nats_health(settings)).state == "ok"
                for source in SOURCES:
                    await resume(system.client, source)
                await goes_on(system, sender, tally, stored=list(SOURCES))
            await system.judge()
        finally:
            await system.supervisor.stop("nats")
            assert await run("cp", "-a", "--no-target-directory", str(store), str(folder / "after"))
            assert await run("umount", "--lazy", str(store))
    finally:
        store.rmdir()
        (folder / "after" if (folder / "after").exists() else aside).rename(store)
        await system.supervisor.start_again("nats")


async def test_a_collector_stands_still_in_the_middle(system: FaultySystem) -> None:
    """A collector is stopped in the middle of a COPY and stays so: its messages come again to another one, which
    waits for the first one's receipts until maintenance has ended that session."""
    if not rounds(0, 1):
        pytest.skip("half a minute: only with SLUICE_FAULTS=long")
    for source in COLLECTED:  # whichever it is that stops, another one is there
        await system.also(f"{source}-2", "collector", "--source", source)
    async with load(system) as sender:
        with system.armed("collector.copying", "stop") as fired:
            stopped = await fired()
        await goes_on(system, sender)
    await system.until_stored(90)
    os.kill(stopped, signal.SIGCONT)


async def test_postgres_is_away_under_the_publishers_load(system: FaultySystem, tally: Tally) -> None:
    """Large bodies, one a second: every one is answered 202 while PostgreSQL is away, and when it is back the
    collectors catch up while the load goes on."""
    largest = rounds(2_000, 50_000)
    sender = Sender(
        system.services.endpoint,
        Bodies(time.time()),
        varied_sizes("away", 1_000, largest),
        on_answer=system.remember,
    )
    sending = asyncio.create_task(sender.run())
    try:
        await eventually(messages_seen(system, 1), what="the load has begun", seconds=30)
        await system.supervisor.stop("postgres")
        answered = sender.tally.answered.total()

        async def more_answered() -> bool:
            return sender.tally.answered.total() >= answered + rounds(3, 60)

        await eventually(more_answered, what="more POSTs are answered", seconds=120)
        await system.supervisor.start_again("postgres")
        began = time.monotonic()

        async def caught_up() -> bool:
            # The load takes all cores meanwhile: NATS may let a question wait for seconds.
            infos = [await stream_info(system.client, stream_of(source), timeout_seconds=30) for source in SOURCES]
            return all(info.ts - info.stored_until(info.ts) < timedelta(seconds=1.5) for info in infos)

        await eventually(caught_up, what="collectors have caught up while the load goes on", seconds=120)
        tally.most(recovery_seconds_max=time.monotonic() - began)
        assert not sending.done()
    finally:
        sender.stop()
        await sending
    assert set(sender.tally.answered) == {202}
    await system.until_stored(60)


def messages_seen(system: FaultySystem, least: int) -> Ask:
    """Asks whether both streams took so many messages since now."""
    before: dict[str, int] = {}

    async def ask() -> bool:
        infos = {source: await stream_info(system.client, stream_of(source)) for source in SOURCES}
        last = {source: info.state.last_seq for source, info in infos.items()}
        return all(last[source] >= before.setdefault(source, last[source]) + least for source in SOURCES)

    return ask


async def run(*command: str) -> bool:
    """Whether a command ends well."""
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
    return await process.wait() == 0


def _owner(system: FaultySystem) -> tuple[int, int]:
    """Anyone who PostgreSQL runs as owns its files."""
    status = system.servers.postgres.data.stat()
    return status.st_uid, status.st_gid
