"""One cluster for the tests of a file, and one for a test alone. A cluster starts within some 5 s."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support import network
from tests.support.cluster import HOSTS, Cluster, running
from tests.support.faulty import LONG
from tests.support.stack import reachable_folder
from tests.support.tools import require

# `make test` has the four worst faults alone, in the other files.
collect_ignore = [] if LONG else ["test_12_each_fault.py", "test_12_each_primary_fault.py"]


@asynccontextmanager
async def _cluster() -> AsyncIterator[Cluster]:
    require(network.can_make_hosts(), "root, and the programs ip and setpriv, for hosts as network namespaces")
    with reachable_folder() as folder, network.network(HOSTS) as hosts:
        async with running(folder, hosts) as cluster:
            yield cluster


@pytest.fixture(scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    """A running cluster that the tests of a file share."""
    async with _cluster() as cluster:
        yield cluster


@pytest.fixture
async def fresh_cluster() -> AsyncIterator[Cluster]:
    """A running cluster for this test alone. A file uses either this one or `cluster`: they have the same addresses."""
    async with _cluster() as cluster:
        yield cluster
