"""A DSN with several hosts: a host that is dead, mute or not the primary does not keep us from the next one."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg
import pytest

from core import pg_hosts, postgres
from core.errors import Misconfigured
from core.pg_hosts import hosts_of
from ops.local.ports import LOOPBACK, free_port
from tests.support.stack import Database


@pytest.mark.parametrize(
    ("dsn", "hosts"),
    [
        ("postgresql://u:p%40@h1/d", ["postgresql://u:p%40@h1/d"]),
        ("postgresql://u@h1:1,h2:2/d?x=a@b,c", ["postgresql://u@h1:1/d?x=a@b,c", "postgresql://u@h2:2/d?x=a@b,c"]),
        ("postgres://[::1]:1,h2?x=y", ["postgres://[::1]:1?x=y", "postgres://h2?x=y"]),
    ],
)
def test_each_host_gets_a_dsn_of_its_own(dsn: str, hosts: list[str]) -> None:
    """With the same user, database and options."""
    assert hosts_of(dsn) == hosts


def also_on(dsn: str, *ports: int, attributes: str = "read-write") -> str:
    """The DSN with these ports before its own."""
    login, at, rest = dsn.rpartition("@")
    first = ",".join(f"{LOOPBACK}:{port}" for port in ports)
    return f"{login}{at}{first},{rest}?target_session_attrs={attributes}"


@contextmanager
def mute_port() -> Iterator[int]:
    """A port that takes connections and never answers."""
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("attributes", ["any", "primary", "read-write", "prefer-standby"])
async def test_a_mute_host_is_passed_by(database: Database, attributes: str) -> None:
    """Its time limit is its own. A dead host costs nothing at all."""
    with mute_port() as mute:
        dsn = also_on(database.owner_dsn, mute, free_port(), attributes=attributes)
        began = time.monotonic()
        connection = await postgres.connect(dsn, name="tests", patience_seconds=0)
        seconds = time.monotonic() - began
        await connection.close()
    assert seconds < postgres.CONNECT_SECONDS + (postgres.CONNECT_SECONDS if attributes == "prefer-standby" else 0) - 1


async def test_the_last_primary_comes_first(database: Database) -> None:
    """So a mute host costs only the first connect its pause."""
    with mute_port() as mute:
        dsn = also_on(database.owner_dsn, mute)
        for _ in range(2):
            connection = await postgres.connect(dsn, name="tests", patience_seconds=0)
            await connection.close()
        assert pg_hosts._last_used[dsn] == hosts_of(dsn)[1]


async def test_where_no_host_accepts_the_error_of_one_that_answered_is_raised(database: Database) -> None:
    """A wrong password is a wrong password, whatever the other hosts do."""
    user_and_password, _, rest = database.owner_dsn.rpartition("@")
    wrong = f"{user_and_password.rpartition(':')[0]}:wrong@{rest}"
    with pytest.raises(Misconfigured):
        await postgres.connect(also_on(wrong, free_port()), name="tests", patience_seconds=0)
    with pytest.raises(asyncpg.TargetServerAttributeNotMatched):
        await pg_hosts.connect(also_on(database.owner_dsn, attributes="standby").replace("@,", "@"))


async def test_the_kernel_ends_a_connection_whose_host_is_gone(database: Database) -> None:
    """Idle or not: what is sent and not confirmed, and keepalives, have their limits."""
    connection = await postgres.connect(database.owner_dsn, name="tests")
    found = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]
    limit = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
    assert limit == pg_hosts.DEAD_SECONDS * 1000
    assert found.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    await connection.close()
