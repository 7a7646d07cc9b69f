"""The edge of a test's own: Debian's nginx with ops/edge/nginx.conf, filled in as the official image does it.

async with start_edge(supervisor, [gateway.port], EDGE_BODY_SECONDS="1") as edge:
    await edge.http.post(f"{edge.url}/events", ...)
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import httpx

from ops.local import Program, Supervisor
from ops.local.ports import LOOPBACK, free_port
from tests.support.stack import reachable_folder
from tests.support.tools import require_tool

FOLDER: Final = Path(__file__).parents[2] / "ops" / "edge"


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


def defaults() -> dict[str, str]:
    """What ops/edge/edge.env says."""
    lines = (FOLDER / "edge.env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def filled_in(file: str, settings: dict[str, str]) -> str:
    """A file of ops/edge with its ${SETTINGS} filled in; whatever else has a $ is nginx's own."""
    return re.sub(r"\$\{([A-Z_]+)\}", lambda found: settings[found[1]], (FOLDER / file).read_text(encoding="utf-8"))


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def start_edge(
    supervisor: Supervisor, gateways: Sequence[int], *, include: Sequence[str] = (), tls: bool = False, **settings: str
) -> AsyncIterator[Edge]:
    """An edge before the gateways on these ports, with files of ops/edge to `include` into its server block."""
    nginx = require_tool("nginx")
    port = free_port()
    with reachable_folder() as folder:
        chosen = {
            **defaults(),
            "EDGE_LISTEN": f"{LOOPBACK}:{port}{' ssl' if tls else ''}",
            "EDGE_GATEWAYS": " ".join(f"server {LOOPBACK}:{gateway} max_fails=0;" for gateway in gateways),
            "EDGE_FOLDER": str(folder),
            "EDGE_INCLUDE": f"{folder}/include-*.conf",
            **settings,
        }
        for name in include:
            (folder / f"include-{name}").write_text(filled_in(name, chosen))
        (folder / "nginx.conf").write_text(filled_in("nginx.conf", chosen))
        log = folder / "edge.log"
        await supervisor.start(
            Program(
                name="edge",
                argv=[
                    "sh",
                    "-c",
                    f'exec "$0" "$@" >{log} 2>&1',
                    nginx,
                    "-c",
                    folder / "nginx.conf",
                    "-g",
                    "daemon off;",
                ],
                is_ready=partial(_listens, port),
            )
        )
        try:
            async with httpx.AsyncClient(timeout=60) as http:
                yield Edge(port, supervisor, log, http, "https" if tls else "http")
        finally:
            await supervisor.stop("edge")
