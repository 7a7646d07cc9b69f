"""Our services as programs of the local stack: the same commands that a container runs, with this stack's addresses."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from core.events.subjects import REFUSED
from core.sources import SOURCES
from ops.local import ports
from ops.local.program import Program
from ops.local.ready import answers_ok
from ops.local.servers import Servers

COLLECTORS: Final = {source.collector: name for name, source in SOURCES.items()} | {"refused-collector": REFUSED}
GATEWAY_PORT: Final = 8080
REPORTER_PORT: Final = 8081


@dataclass(frozen=True)
class Services:
    """The services and the port of each, where its health, metrics and pages are served."""

    ports: dict[str, int]

    @property
    def endpoint(self) -> str:
        """Where a publisher posts."""
        return f"http://{ports.LOOPBACK}:{self.ports['gateway']}/events"

    @property
    def reports(self) -> str:
        """The root of the reports."""
        return f"http://{ports.LOOPBACK}:{self.ports['reporter']}"


def well_known_ports(environ: Mapping[str, str]) -> dict[str, str]:
    """The ports that a person expects, where the environment gives no others."""
    return {"GATEWAY_PORT": str(GATEWAY_PORT), "REPORTER_PORT": str(REPORTER_PORT), **environ}


async def start_services(servers: Servers, environ: Mapping[str, str] = os.environ) -> Services:
    """Start all services on the stack's supervisor, the reporter first; return when all are ready.

    Settings are those of `environ`, laid over our own environment; ports too (GATEWAY_PORT, REPORTER_PORT,
    FB_COLLECTOR_PORT, …), or free ones. Raises StackError.
    """
    found: dict[str, int] = {}
    shared = {
        **environ,
        "NATS_URL": servers.nats_url,
        "COLLECTOR_DSN": servers.collector_dsn,
        "REPORTER_DSN": servers.reporter_dsn,
    }
    commands = {
        "reporter": ["reporter"],
        **{name: ["collector", "--source", source] for name, source in COLLECTORS.items()},
        "gateway": ["gateway"],
    }
    for name, (module, *arguments) in commands.items():
        port = found[name] = ports.choose(f"{name.upper().replace('-', '_')}_PORT", environ)
        settings = {**shared, f"{module.upper()}_PORT": str(port)}
        if module == "reporter":  # the first to start brings the schema up to date, as its owner
            settings["SLUICE_MIGRATE_DSN"] = servers.owner_dsn
        await servers.supervisor.start(
            Program(
                name=name,
                argv=[sys.executable, "-m", module, *arguments],
                env=settings,
                is_ready=partial(answers_ok, port, "/health/ready"),
                drain_seconds=25,
            )
        )
    return Services(found)


def publisher(endpoint: str, *options: str) -> Program:
    """The stand-in publisher as a program, posting to this endpoint."""
    return Program(
        name="publisher",
        argv=[sys.executable, "-m", "bench.publisher", *options],
        env={"EVENT_ENDPOINT": endpoint},
        drain_seconds=35,
    )
