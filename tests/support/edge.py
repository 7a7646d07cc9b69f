"""The edge of a test's own: Debian's nginx with ops/edge/nginx.conf.

async with start_edge(supervisor, [gateway.port], EDGE_BODY_SECONDS="1") as edge:
    await edge.http.post(f"{edge.url}/events", ...)
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from ops.local import Supervisor
from ops.local.edge import LARGE_BODIES, SMALL_BODIES, before
from ops.local.edge import edge as program
from ops.local.ports import LOOPBACK, free_port
from tests.support.stack import reachable_folder
from tests.support.tools import require_tool


@dataclass(frozen=True)
class Edge:
    """A running edge. It is "edge" on `supervisor`, and writes its access log to `log`."""

    port: int
    supervisor: Supervisor
    log: Path
    http: httpx.AsyncClient
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{LOOPBACK}:{self.port}"


@asynccontextmanager
async def start_edge(
    supervisor: Supervisor,
    gateways: Sequence[int],
    *,
    include: Sequence[str] = (),
    tls: bool = False,
    small_bodies: int = SMALL_BODIES,
    large_bodies: int = LARGE_BODIES,
    **settings: str,
) -> AsyncIterator[Edge]:
    """An edge before the gateways on these ports, with files of ops/edge to `include` into its server block."""
    nginx = require_tool("nginx")
    port = free_port()
    with reachable_folder() as folder:
        edge_settings = before(gateways, port, folder, small=small_bodies, large=large_bodies)
        if tls:
            edge_settings["EDGE_LISTEN"] += " ssl"
        await supervisor.start(program(nginx, port, {**edge_settings, **settings}, include))
        try:
            async with httpx.AsyncClient(timeout=60) as http:
                yield Edge(port, supervisor, folder / "edge.log", http, "https" if tls else "http")
        finally:
            await supervisor.stop("edge")
