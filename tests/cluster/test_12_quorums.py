"""Promise 12: nothing is confirmed or claimed without a quorum of NATS servers and the synchronous standby."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

from tests.support.cluster import NATS_HOSTS, Cluster, goes_on, waiting_in
from tests.support.events import facebook, rfc3339
from tests.support.freshness import Watched
from tests.support.tally import Tally
from tests.support.waiting import eventually

WAITING_COMMITS = """
    SELECT pid FROM pg_stat_activity
    WHERE application_name LIKE 'sluice-collector-%' AND wait_event = 'SyncRep' AND query LIKE 'COMMIT%'
"""


async def test_freshness_in_a_network_partition(cluster: Cluster, tally: Tally) -> None:
    """The leader of a stream loses the other servers while a collector stays connected to it. The majority accepts
    events; no report claims them before they are stored."""
    await goes_on(cluster, tally)
    leader = await cluster.leader("facebook")
    assert leader is not None
    majority = tuple(host for host in NATS_HOSTS if host != leader)
    for name in ("facebook-1", "facebook-2"):
        await cluster.end_service(name)
    alone, others = cluster.nats_url([leader]), cluster.nats_url(majority)
    await cluster.start_service("facebook-3", "c1", "collector", "--source", "facebook", NATS_URL=alone)
    await cluster.start_service("gateway-3", "g1", "gateway", NATS_URL=others)
    await goes_on(cluster, tally)

    watched = Watched()
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)
    query = {"from": rfc3339(at), "to": rfc3339(at + timedelta(seconds=1)), "source": "facebook"}

    async def post_and_ask() -> bool:
        posting = asyncio.create_task(cluster.post([facebook(at=at)], "gateway-3"))
        while not posting.done():
            if report := await cluster.report(**query):
                watched.check("facebook", dict(report))
            await asyncio.sleep(0.02)  # a rate, not a wait
        if await posting == 202:
            watched.answered["facebook"].append(datetime.now(UTC))
        return len(watched.answered["facebook"]) >= 40

    cluster.network.unplug(leader, ["private"])
    await eventually(post_and_ask, what="the majority accepts events", seconds=60)
    assert watched.reports > 40
    assert watched.too_much == []
    cluster.network.plug(leader, ["private"])
    await goes_on(cluster, tally)
    await cluster.judge(tally)


async def test_an_unconfirmed_commit_is_not_acknowledged(cluster: Cluster, tally: Tally) -> None:
    """The standby is cut off, the wait of a COMMIT for it is cancelled as by a time limit, and the primary's host dies:
    the standby's database has every accepted event."""
    await goes_on(cluster, tally)
    cluster.network.unplug("p2", ["private"])
    assert await cluster.post([facebook() for _ in range(40)]) == 202

    async with cluster.database() as primary:

        async def cancelled(times: int) -> bool:
            for row in await primary.fetch(WAITING_COMMITS):
                await primary.execute("SELECT pg_cancel_backend($1)", row["pid"])
                return times > 0 or await waiting_in(cluster, "facebook") == 0
            return False

        await eventually(lambda: cancelled(1), what="a COMMIT waits for the standby")

        async def waits_again_or_is_acknowledged() -> bool:
            return bool(await primary.fetch(WAITING_COMMITS)) or await waiting_in(cluster, "facebook") == 0

        await eventually(waits_again_or_is_acknowledged, what="the batch is tried again")
    await cluster.kill("p1")
    cluster.network.plug("p2", ["private"])
    await cluster.promote("p2")
    await goes_on(cluster, tally)
    await cluster.judge(tally)
