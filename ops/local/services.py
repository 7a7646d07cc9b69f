"""The services as programs of the local stack: the commands of the containers with the addresses of the stack."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from collector.settings import CollectorSettings
from core import listen
from core.events.subjects import REJECTED
from core.settings import Settings, load, nats_variables
from core.sources import SOURCES
from gateway.settings import GatewaySettings
from ops.local import ports, ready
from ops.local.program import Program
from ops.local.servers import Servers
from ops.settings import OperatorSettings
from reporter.settings import ReporterSettings

SETTINGS: Final[dict[str, type[Settings]]] = {
    "gateway": GatewaySettings,
    "collector": CollectorSettings,
    "reporter": ReporterSettings,
}
COLLECTORS: Final = {source.collector: name for name, source in SOURCES.items()} | {"rejected-collector": REJECTED}
GATEWAY_PORT: Final = 8080
REPORTER_PORT: Final = 8081


@dataclass(frozen=True)
class Services:
    """The port and address of each service."""

    ports: dict[str, int]
    hosts: dict[str, str] = field(default_factory=dict)  # 127.0.0.1 unless named
    reporter_token: str | None = None  # REPORTER_TOKEN; needed if the reporter has REPORTER_TOKENS

    def host_and_port(self, name: str) -> str:
        """Return host and port of a service in the form of a URL."""
        return listen.host_and_port(self.hosts.get(name, ports.LOOPBACK), self.ports[name])

    @property
    def endpoint(self) -> str:
        """URL to which publishers post events."""
        return f"http://{self.host_and_port('gateway')}/events"

    @property
    def reports(self) -> str:
        """Base URL of the reporter."""
        return f"http://{self.host_and_port('reporter')}"

    async def get(self, name: str, path: str, seconds: float = ready.ANSWER_TIMEOUT_SECONDS) -> tuple[int, bytes]:
        """GET a page of a service as (status, body). Raises OSError if there is no complete response in time."""
        token = self.reporter_token if name == "reporter" else None
        return await ready.get(self.ports[name], path, self.hosts.get(name, ports.LOOPBACK), seconds, token)


def well_known_ports(environ: Mapping[str, str]) -> dict[str, str]:
    """Return `environ` with the default ports of gateway and reporter."""
    return {"GATEWAY_PORT": str(GATEWAY_PORT), "REPORTER_PORT": str(REPORTER_PORT), **environ}


async def start_services(servers: Servers, environ: Mapping[str, str] = os.environ) -> Services:
    """Start all services on the supervisor of the stack, the reporter first; return when all are ready.

    Settings are those of `environ`, laid over our own environment; ports too (GATEWAY_PORT, REPORTER_PORT,
    FB_COLLECTOR_PORT, …), or free ones. Raises StackError.
    """
    services = Services({}, {}, _reporter_token({**os.environ, **environ}))
    shared = {
        **environ,
        **nats_variables(servers.nats_url),
        "COLLECTOR_DSN": servers.collector_dsn,
        "REPORTER_DSN": servers.reporter_dsn,
    }
    commands = {
        "reporter": ["reporter"],
        **{name: ["collector", "--source", source] for name, source in COLLECTORS.items()},
        "gateway": ["gateway"],
    }
    for name, (module, *arguments) in commands.items():
        address = _address(module, {**os.environ, **environ})
        port = ports.choose(f"{name.upper().replace('-', '_')}_PORT", environ, address)
        host = listen.reachable(address)
        services.ports[name], services.hosts[name] = port, host
        settings = {**shared, f"{module.upper()}_PORT": str(port)}
        if module == "reporter":  # it starts first and applies the migrations, as the owner
            settings["SLUICE_MIGRATE_DSN"] = servers.owner_dsn
        await servers.supervisor.start(
            Program(
                name=name,
                argv=[sys.executable, "-m", module, *arguments],
                env=settings,
                is_ready=partial(ready.answers_ok, port, "/health/ready", host),
                drain_seconds=25,
            )
        )
    return services


def _reporter_token(environ: Mapping[str, str]) -> str | None:
    """Return the token that the stack's own commands send to its reporter. Raises Misconfigured."""
    named = {name: environ[name] for name in ("REPORTER_TOKEN", "REPORTER_TOKEN_FILE") if name in environ}
    return load(OperatorSettings, named).reporter_token


def _address(module: str, environ: Mapping[str, str]) -> str:
    """Return the address on which a service listens. Raises Misconfigured."""
    variable = f"{module.upper()}_HOST"
    named = {name: environ[name] for name in (variable, f"{variable}_FILE") if name in environ}
    return listen.resolve(variable, getattr(load(SETTINGS[module], named), variable.lower()))


def publisher(endpoint: str, *options: str) -> Program:
    """Return the stand-in publisher as a program that posts to this endpoint."""
    return Program(
        name="publisher",
        argv=[sys.executable, "-m", "bench.publisher", *options],
        env={"EVENT_ENDPOINT": endpoint},
        drain_seconds=35,
    )
