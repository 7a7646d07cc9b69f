"""Promise 12: any one host may vanish at any instant, and all is well within 30 s of a quorum. For `make cluster`."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest

from tests.support.cluster import NATS_HOSTS, WELL_AGAIN_SECONDS, Cluster, goes_on, load
from tests.support.events import facebook
from tests.support.host_faults import FAULTS, killed, started
from tests.support.tally import Tally
from tests.support.waiting import eventually

FAULT_SECONDS = 30.0  # past the limit of a collector's command


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_nats_host(cluster: Cluster, tally: Tally, fault: str) -> None:
    """The leader of a stream, under load. A quorum stays: events are accepted and reported again in time."""
    begin, end = FAULTS[fault]
    async with load(cluster):
        await goes_on(cluster, tally)
        leader = await cluster.leader("facebook")
        assert leader is not None
        await begin(cluster, leader)
        tally.count(kills=1)
        await goes_on(cluster, tally)
        await end(cluster, leader)
        await goes_on(cluster, tally)
    await cluster.judge(tally)


async def test_two_nats_hosts(cluster: Cluster, tally: Tally) -> None:
    """Nothing is accepted without a quorum, and freshness stands still. Both recover in time once it exists again."""
    async with load(cluster) as watched:
        await goes_on(cluster, tally)
        for host in NATS_HOSTS[:2]:
            await killed(cluster, host)
        tally.count(kills=2)
        lost = datetime.now(UTC)

        async def nothing_is_accepted() -> bool:
            return await cluster.post([facebook()]) in (503, None)

        await eventually(nothing_is_accepted, what="requests are turned away", seconds=WELL_AGAIN_SECONDS)
        assert all(until < lost for until in watched.until.values())
        await asyncio.gather(*(started(cluster, host) for host in NATS_HOSTS[:2]))
        await goes_on(cluster, tally)
    await cluster.judge(tally)


async def test_the_standbys_host(cluster: Cluster, tally: Tally) -> None:
    """Nothing is acknowledged while the standby is away for longer than a command may take, and nothing is lost."""
    async with load(cluster):
        await goes_on(cluster, tally)
        cluster.network.unplug("p2")
        await asyncio.sleep(FAULT_SECONDS)  # the cause itself, not a wait
        async with cluster.database() as primary:
            sessions = await primary.fetchval("SELECT count(*) FROM pg_stat_activity WHERE usename LIKE 'sluice%'")
        cluster.network.plug("p2")
        await goes_on(cluster, tally)
    assert sessions < 40
    await cluster.judge(tally)
