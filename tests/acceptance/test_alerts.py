"""Every alert fires for real: its cause is brought about in a running system that a real Prometheus watches.

The expressions are those of production; only their patience (`for`) is taken out, which promtool's tests cover.
"""

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from datetime import timedelta
from functools import partial

from core import postgres
from core.events.subjects import stream_of
from ops.local.ports import free_port
from ops.local.program import Program
from ops.local.ready import answers_ok
from tests.support.collecting import publish
from tests.support.events import NOON, changed, facebook, message, tiktok
from tests.support.gateway import workers_of
from tests.support.processes import standing_still
from tests.support.prometheus import Prometheus, alert_rules, watched
from tests.support.system import System, running
from tests.support.tools import require_tool
from tests.support.waiting import eventually

KEY = "the-key-of-these-tests"
SETTINGS = {
    "GATEWAY_TIKTOK_SCHEME": "key",
    "GATEWAY_TIKTOK_SECRETS": KEY,
    "GATEWAY_WORKERS": "1",
    "GATEWAY_PUBLISH_TIMEOUT_SECONDS": "4",
    "STREAM_MAX_BYTES": str(1024 * 1024),
    "PARTITIONS_AHEAD_DAYS": "1",
    "REPORTER_STATEMENT_TIMEOUT_SECONDS": "0.5",
}
BROKEN = b'{"eventId": "broken"}'


async def test_every_alert_fires() -> None:
    """Each cause below makes its alert fire; all alerts of the rules are among them."""
    require_tool("prometheus")
    async with running(**SETTINGS) as system:
        disk = await full_disk(system)
        async with watched(system, {"disk": disk}) as prometheus, uncounted_breakdowns(system):
            await prometheus.scrapes_everything()
            system.http.headers["X-Api-Key"] = KEY
            await failing_step(system)
            await unsigned_requests(system)
            await slow_publishing(system)
            await rejected_events_not_kept(system)
            await dead_letters(system)
            await invented_countries(system)
            await lost_message(system)
            await failing_reports(system)
            await stopped_collector(system)
            await full_stream(system, prometheus)
            await stale_reports(system)
            await restarting_workers(system)
            silent = set(alert_rules())

            async def all_fired() -> bool:
                silent.difference_update(await prometheus.fired())
                return not silent

            with contextlib.suppress(AssertionError):
                await eventually(all_fired, what="every alert fired", seconds=60, every=0.5)
            assert not silent


async def full_disk(system: System) -> int:
    """DiskFilling: a small file system of its own, filled. The port of the exporter that looks at it."""
    require_tool("unshare")
    port = free_port()
    folder = system.folder / "disk"
    await asyncio.to_thread(folder.mkdir)
    fill = 'mount -t tmpfs -o size=1m sluice "$0" && head -c 1000000 /dev/zero > "$0/full" && exec "$@"'
    exporter = (sys.executable, "-m", "ops.exporter", "--port", str(port), "--disk", str(folder))
    await system.supervisor.start(
        Program(
            name="disk",
            argv=["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", fill, str(folder), *exporter],
            is_ready=partial(answers_ok, port, "/health/ready"),
        )
    )
    return port


async def failing_step(system: System) -> None:
    """StepFailing, a minute from now: a view rests on a day that the retention would drop."""
    owner = await postgres.connect(system.servers.owner_dsn, name="tests")
    try:
        await owner.execute(
            "CREATE TABLE facebook_events_20200101 PARTITION OF facebook_events "
            "FOR VALUES FROM ('2020-01-01') TO ('2020-01-02')"
        )
        await owner.execute("CREATE VIEW mine AS SELECT * FROM facebook_events_20200101")
    finally:
        await owner.close()


async def unsigned_requests(system: System) -> None:
    """SignatureFailures: somebody sends with another key, again and again."""
    for _ in range(60):
        answer = await system.post([tiktok()], {"X-Api-Key": "another", "Content-Type": "application/json"})
        assert answer.status_code == 401, answer.text


async def slow_publishing(system: System) -> None:
    """PublishSlow: NATS stands still for two seconds under a publish. EventsFailing: most events are broken."""
    for _ in range(3):
        await system.post([facebook(), tiktok(), BROKEN, BROKEN])
    async with standing_still(system.supervisor.pid("nats")):
        waiting = asyncio.create_task(system.post([facebook()]))
        await asyncio.sleep(2)  # the cause itself, not a wait
    await waiting
    assert (await system.post([BROKEN] * 10)).status_code == 422
    await system.until_stored()


async def rejected_events_not_kept(system: System) -> None:
    """RejectedNotKept: NATS stands still until the gateway gives up keeping a copy of what it rejected."""
    async with standing_still(system.supervisor.pid("nats")):
        assert (await system.post([BROKEN])).status_code == 422


async def dead_letters(system: System) -> None:
    """DeadLetters: a message that came to its stream past the gateway holds a broken event."""
    await publish(system.client, "tiktok", message(tiktok(), BROKEN))
    await system.until_stored()


async def invented_countries(system: System) -> None:
    """CountriesNearlyFull: a sender invents 900 countries."""
    invented = [changed(facebook(), "data.user.location.country", f"Invented {number}") for number in range(900)]
    assert (await system.post(invented)).status_code == 202
    await system.until_stored()


@contextlib.asynccontextmanager
async def uncounted_breakdowns(system: System) -> AsyncIterator[None]:
    """BreakdownsBehind: events of a hundred quarter-hours, and another session holds the lock of those that count."""
    holder = await postgres.connect(system.servers.owner_dsn, name="tests")
    try:
        await holder.execute("SELECT pg_advisory_lock(hashtext('sluice.breakdowns'), hashtext('facebook'))")
        events = [facebook(at=NOON - timedelta(minutes=15 * number)) for number in range(100)]
        assert (await system.post(events)).status_code == 202
        await system.until_stored()
        yield
    finally:
        await holder.close()


async def lost_message(system: System) -> None:
    """LedgerUnbalanced: somebody deletes a message that no collector has stored. TargetDown meanwhile."""
    await system.supervisor.stop("rejected-collector")
    await system.post([BROKEN])
    stream = stream_of("rejected")
    js = system.client.jetstream()
    await js.delete_msg(stream, (await js.stream_info(stream)).state.last_seq)
    await system.supervisor.start_again("rejected-collector")


async def failing_reports(system: System) -> None:
    """ReportsFailing: a lock on the rollups keeps reports waiting past their time."""
    holder = await postgres.connect(system.servers.dsn("postgres"), name="tests")
    try:
        async with holder.transaction():
            await holder.execute("LOCK TABLE event_counts IN ACCESS EXCLUSIVE MODE")
            for _ in range(2):
                answer = await system.get("/reports/events", **{"from": "2026-01-01", "to": "2026-01-02"})
                assert answer.status_code == 504, answer.text
    finally:
        await holder.close()


async def stopped_collector(system: System) -> None:
    """CollectorStopped, then CollectorLag: the role of the collectors may no longer write facebook's rows."""
    owner = await postgres.connect(system.servers.owner_dsn, name="tests")
    try:
        for row in await owner.fetch(
            "SELECT inhrelid::regclass::text AS leaf FROM pg_inherits WHERE inhparent = 'facebook_events'::regclass"
        ):
            await owner.execute(f"REVOKE INSERT ON {row['leaf']} FROM sluice_collector")
    finally:
        await owner.close()
    assert (await system.post([facebook()])).status_code == 202


async def full_stream(system: System, prometheus: Prometheus) -> None:
    """StreamNearLimit, then RequestsTurnedAway: no one collects tiktok's events until their stream is full."""
    await system.supervisor.stop("ttk-collector")
    for _ in range(40):
        if (await system.post([tiktok() for _ in range(200)])).status_code == 503:
            break

    async def reported() -> object:
        return await prometheus.query('gateway_requests_total{status="503"} > 0')

    # The worker hands its counts on now and then, and is killed below.
    await eventually(reported, what="a 503 is counted", seconds=30)


async def stale_reports(system: System) -> None:
    """ReportsStale: tiktok's watermark is minutes old, and no one moves it."""
    owner = await postgres.connect(system.servers.owner_dsn, name="tests")
    try:
        await owner.execute("UPDATE watermarks SET stored_until = now() - interval '5 min' WHERE source = 'tiktok'")
    finally:
        await owner.close()


async def restarting_workers(system: System) -> None:
    """RestartLoop: the gateway's worker is killed again and again."""
    for _ in range(4):
        (worker,) = workers_of(system.supervisor.pid("gateway"))
        worker.kill()

        async def another(old: int = worker.pid) -> bool:
            pids = {serving.pid for serving in workers_of(system.supervisor.pid("gateway"))}
            return bool(pids - {old}) and await answers_ok(system.services.ports["gateway"], "/health/live")

        await eventually(another, what="the next worker serves", seconds=30)
