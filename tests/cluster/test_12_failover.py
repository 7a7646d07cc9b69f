"""Promise 12: the primary's host may vanish. Services use the promoted standby within 30 s, and only the standby."""

from __future__ import annotations

import asyncio

from tests.support.cluster import Cluster, goes_on
from tests.support.events import facebook
from tests.support.tally import Tally


async def test_the_primarys_host_vanishes(cluster: Cluster, tally: Tally) -> None:
    """No packet comes back from it, not even an error. Services reach the promoted standby by the DSN's second host."""
    await goes_on(cluster, tally)
    cluster.network.vanish("p1")
    await cluster.promote("p2")
    await goes_on(cluster, tally)
    await cluster.judge(tally)


async def test_the_old_primary_comes_back(cluster: Cluster, tally: Tally) -> None:
    """It accepts writes, and no operator has fenced it. Collectors find it first in their DSN, and skip it."""
    await goes_on(cluster, tally)
    if cluster.primary == "p1":
        await cluster.kill("p1")
        await cluster.promote("p2")
        await goes_on(cluster, tally)
    else:
        await cluster.kill("p1")
    await cluster.start_database("p1")
    cluster.network.come_back("p1")
    for name in ("facebook-1", "facebook-2", "tiktok-1"):
        await cluster.supervisor.stop(name)
    await asyncio.gather(*map(cluster.supervisor.start_again, ("facebook-1", "facebook-2", "tiktok-1")))
    assert await cluster.post([facebook() for _ in range(40)]) == 202
    await goes_on(cluster, tally)
    await cluster.judge(tally)
