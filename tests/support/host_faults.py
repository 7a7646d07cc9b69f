"""Faults of a host of a cluster: each begins and ends. See tests/support/cluster.py."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Awaitable, Callable
from typing import Final

from tests.support.cluster import Cluster

Fault = Callable[[Cluster, str], Awaitable[None]]


async def killed(cluster: Cluster, host: str) -> None:
    await cluster.kill(host)


async def started(cluster: Cluster, host: str) -> None:
    await cluster.supervisor.start_again(host)


async def wiped(cluster: Cluster, host: str) -> None:
    await cluster.kill(host)
    shutil.rmtree(cluster.folder / host)
    (cluster.folder / host).mkdir(mode=0o700)


async def frozen(cluster: Cluster, host: str) -> None:
    cluster.send(host, signal.SIGSTOP)


async def thawed(cluster: Cluster, host: str) -> None:
    cluster.send(host, signal.SIGCONT)


async def unplugged(cluster: Cluster, host: str) -> None:
    cluster.network.unplug(host)


async def vanished(cluster: Cluster, host: str) -> None:
    cluster.network.vanish(host)


async def without_servers(cluster: Cluster, host: str) -> None:
    cluster.network.unplug(host, ["private"])


async def without_clients(cluster: Cluster, host: str) -> None:
    cluster.network.unplug(host, ["clients"])


async def plugged(cluster: Cluster, host: str) -> None:
    cluster.network.come_back(host)


FAULTS: Final[dict[str, tuple[Fault, Fault]]] = {
    "killed": (killed, started),
    "wiped": (wiped, started),
    "frozen": (frozen, thawed),
    "unplugged": (unplugged, plugged),
    "vanished": (vanished, plugged),
    "without_servers": (without_servers, plugged),
    "without_clients": (without_clients, plugged),
}
