"""What most of these tests look at the servers with."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from nats.aio.client import Client

from core import postgres
from core.postgres import Connection
from tests.support.collecting import connected
from tests.support.stack import Database, FreshNats


@pytest.fixture
async def connection(database: Database) -> AsyncIterator[Connection]:
    """A connection of the owner's."""
    connection = await postgres.connect(database.owner_dsn, name="tests")
    yield connection
    await connection.close()


@pytest.fixture
async def client(fresh_nats: FreshNats) -> AsyncIterator[Client]:
    """A client of a NATS server with all streams."""
    async with connected(fresh_nats) as client:
        yield client
