"""The edge as a program: nginx with ops/edge/nginx.conf, whose variables are replaced as in the official image."""

from __future__ import annotations

import asyncio
import re
import resource
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

from ops.local.ports import LOOPBACK
from ops.local.program import Program

FOLDER: Final = Path(__file__).parents[1] / "edge"
SMALL_BODIES: Final = 256
LARGE_BODIES: Final = 8


def defaults() -> dict[str, str]:
    """Return the variables of ops/edge/edge.env."""
    lines = (FOLDER / "edge.env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def before(
    gateways: Sequence[int], port: int, folder: Path, *, small: int = SMALL_BODIES, large: int = LARGE_BODIES
) -> dict[str, str]:
    """Return the settings of an edge on `port` for these gateways, with limits of concurrent bodies per gateway."""
    return {
        **defaults(),
        "EDGE_LISTEN": f"{LOOPBACK}:{port}",
        "EDGE_GATEWAYS": _servers(gateways, "max_fails=0"),
        "EDGE_GATEWAYS_SMALL": _servers(gateways, f"max_fails=0 max_conns={small}"),
        "EDGE_GATEWAYS_LARGE": _servers(gateways, f"max_fails=0 max_conns={large}"),
        "EDGE_FOLDER": str(folder),
        "EDGE_OPEN_FILES": str(min(65536, resource.getrlimit(resource.RLIMIT_NOFILE)[1])),
        "EDGE_INCLUDE": f"{folder}/include-*.conf",
    }


def edge(nginx: str, port: int, settings: dict[str, str], include: Sequence[str] = ()) -> Program:
    """Return the edge with these settings; `include` names files of ops/edge for its server block.

    It writes its files, and its access log edge.log, to EDGE_FOLDER.
    """
    folder = Path(settings["EDGE_FOLDER"])
    for name in include:
        (folder / f"include-{name}").write_text(_substituted(name, settings))
    (folder / "nginx.conf").write_text(_substituted("nginx.conf", settings))
    run = f'exec "$0" "$@" >{folder / "edge.log"} 2>&1'
    return Program(
        name="edge",
        argv=["sh", "-c", run, nginx, "-c", folder / "nginx.conf", "-g", "daemon off;"],
        is_ready=partial(_listens, port),
    )


def _servers(ports: Sequence[int], parameters: str) -> str:
    return " ".join(f"server {LOOPBACK}:{port} {parameters};" for port in ports)


def _substituted(file: str, settings: dict[str, str]) -> str:
    """Return a file of ops/edge with its ${SETTINGS} replaced. Every other $ belongs to nginx."""
    return re.sub(r"\$\{([A-Z_]+)\}", lambda match: settings[match[1]], (FOLDER / file).read_text(encoding="utf-8"))


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError:
        return False
    writer.close()
    return True
