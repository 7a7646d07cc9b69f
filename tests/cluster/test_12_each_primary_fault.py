"""Promise 12: whatever happens to the primary's host, services use the promoted standby in time. For `make cluster`."""

from __future__ import annotations

import pytest

from core.sources import SOURCES
from tests.support.cluster import Cluster, goes_on, load
from tests.support.host_faults import FAULTS
from tests.support.tally import Tally


@pytest.mark.parametrize("fault", ["killed", "frozen", "unplugged", "vanished"])
async def test_the_primarys_host(fresh_cluster: Cluster, tally: Tally, fault: str) -> None:
    """Under load. The standby is promoted as soon as the host is gone; services work again in time from then on."""
    cluster = fresh_cluster
    begin, _ = FAULTS[fault]
    async with load(cluster) as watched:
        await goes_on(cluster, tally)
        await begin(cluster, "p1")
        tally.count(kills=1)
        await cluster.promote("p2")
        await goes_on(cluster, tally)
        assert set(watched.until) == set(SOURCES)
    await cluster.judge(tally)
