"""A cluster for each test: what a test leaves behind is no other one's. It starts within some 5 s."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support import network
from tests.support.cluster import HOSTS, Cluster, running
from tests.support.stack import reachable_folder
from tests.support.tools import require


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    """A running cluster."""
    require(network.can_make_hosts(), "root, and the programs ip and setpriv, for hosts as network namespaces")
    with reachable_folder() as folder, network.network(HOSTS) as hosts:
        async with running(folder, hosts) as cluster:
            yield cluster
