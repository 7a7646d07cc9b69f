"""Connect to a database with several hosts, by a DSN like postgresql://user@p1:5432,p2:5432/sluice.

    host 1 --0.3 s later--> host 2 --0.3 s later--> host 3      the first host that accepts is used

asyncpg tries the hosts of a DSN in turn, and a host that vanished takes the whole connect time-out. Here each host has
its own time-out, and no host delays the next one by more than 0.3 s. If a DSN requires the primary, the host that was
the primary last comes first.

The kernel ends an established connection if its host does not answer for DEAD_SECONDS.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from typing import Any, Final, TypeAlias

import asyncpg

from core.errors import SluiceError

NEXT_HOST_SECONDS: Final = 0.3
DEAD_SECONDS: Final = 8
"""Longest time without a TCP acknowledgement, of data or of keepalives."""
_KEEPALIVE: Final = (
    ("TCP_KEEPIDLE", 4),
    ("TCP_KEEPINTVL", 2),
    ("TCP_KEEPCNT", 2),
    ("TCP_USER_TIMEOUT", DEAD_SECONDS * 1000),
)
_PREFER_STANDBY: Final = "prefer-standby"
_ATTRIBUTES: Final = re.compile(r"(?<=[?&])target_session_attrs=([a-z-]+)")
Accept: TypeAlias = "Callable[[asyncpg.Connection[Any]], Awaitable[None]]"
"""Raises an error if a connection must not be used."""
_OF_ONE_HOST: Final = ("primary", "read-write")  # with these the order of the hosts is not a preference
_ANSWERS: Final = (asyncpg.PostgresError, SluiceError)
_last_used: dict[str, str] = {}  # by DSN


def hosts_of(dsn: str) -> list[str]:
    """Return a DSN for each host that this DSN names, in their order."""
    scheme, separator, rest = dsn.partition("://")
    authority = re.split("[/?]", rest, maxsplit=1)[0]
    login, at, hosts = authority.rpartition("@")
    return [f"{scheme}{separator}{login}{at}{host}{rest[len(authority) :]}" for host in hosts.split(",")]


async def connect(
    dsn: str,
    *,
    timeout: float = 5.0,  # noqa: ASYNC109  # a pool passes it
    accept: Accept | None = None,
    **options: Any,
) -> asyncpg.Connection[Any]:
    """Connect like asyncpg.connect, with `timeout` in seconds for each host. Skip a host for which `accept` raises.

    If no host accepts, raises the error of a host that answered, or of the first host.
    """
    hosts = hosts_of(dsn)
    wanted = _ATTRIBUTES.search(dsn)
    attributes = wanted[1] if wanted else "any"
    if attributes == _PREFER_STANDBY and len(hosts) > 1:
        with suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InternalClientError):
            return await _first(
                [_ATTRIBUTES.sub("target_session_attrs=standby", host) for host in hosts], timeout, accept, options
            )
        hosts = [_ATTRIBUTES.sub("target_session_attrs=any", host) for host in hosts]
    if attributes not in _OF_ONE_HOST:
        return await _first(hosts, timeout, accept, options)
    hosts.sort(key=lambda host: host != _last_used.get(dsn))
    return await _first(hosts, timeout, accept, options, use=lambda host: _last_used.update({dsn: host}))


async def _first(
    hosts: list[str],
    seconds: float,
    accept: Accept | None,
    options: dict[str, Any],
    use: Callable[[str], None] = lambda _: None,
) -> asyncpg.Connection[Any]:
    """Return the first connection to any of these hosts, and call `use` with its host."""
    left = list(hosts)
    attempts: dict[asyncio.Task[asyncpg.Connection[Any]], str] = {}
    errors: list[BaseException] = []
    try:
        while left or attempts:
            if left:
                host = left.pop(0)
                attempts[asyncio.create_task(_one(host, seconds, accept, options))] = host
            done, _ = await asyncio.wait(
                attempts, timeout=NEXT_HOST_SECONDS if left else None, return_when=asyncio.FIRST_COMPLETED
            )
            for task in done:
                if error := task.exception():
                    errors.append(error)
                    del attempts[task]
                    continue
                use(attempts.pop(task))
                return task.result()
        raise _best_error(errors)
    finally:
        for task in attempts:
            task.add_done_callback(_let_go)
            task.cancel()


async def _one(host: str, seconds: float, accept: Accept | None, options: dict[str, Any]) -> asyncpg.Connection[Any]:
    connection: asyncpg.Connection[Any] = await asyncpg.connect(host, timeout=seconds, **options)
    notice_death(connection)
    if accept is not None:
        try:
            async with asyncio.timeout(seconds):
                await accept(connection)
        except BaseException:
            connection.terminate()
            raise
    return connection


def notice_death(connection: asyncpg.Connection[Any]) -> None:
    """Let the kernel end this connection if its host does not answer for DEAD_SECONDS."""
    found = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]
    if found is None or found.family == socket.AF_UNIX:
        return
    found.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEPALIVE:
        if hasattr(socket, name):  # not on every system
            found.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _best_error(errors: Iterable[BaseException]) -> BaseException:
    """Return the error of a host that answered, if there is one."""
    return min(errors, key=lambda error: (not isinstance(error, _ANSWERS), isinstance(error, TimeoutError)))


def _let_go(task: asyncio.Task[asyncpg.Connection[Any]]) -> None:
    """End a connection that was established after the one to another host."""
    if not task.cancelled() and not task.exception():
        task.result().terminate()
