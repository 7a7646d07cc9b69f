"""Run everything on this machine until Ctrl-C: servers, services and, if wanted, the publisher."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from urllib.parse import urlsplit

from rich.console import Console
from rich.live import Live

from core.lifecycle import cancel_on, stopped_within
from core.settings import nats_variables
from core.settings import variables as settings_variables
from ops.cli.connection import FOLDER_VARIABLE, local_folder, told_locally
from ops.local import Servers
from ops.local.flow import Flow, Sample, line, table
from ops.local.monitoring import PROMETHEUS_PORT, find_prometheus, start_monitoring
from ops.local.ports import LOOPBACK
from ops.local.ready import answers_ok
from ops.local.servers import check_free
from ops.local.services import Services, publisher, start_services, well_known_ports
from ops.settings import EVERY


async def up(stop: asyncio.Event, *, with_publisher: bool, publisher_options: Sequence[str] = ()) -> None:
    """Start, show what flows until `stop` is set, drain. Raises StackError."""
    console = Console()
    folder = local_folder()
    check_free(folder)
    async with AsyncExitStack() as opened:
        async with cancel_on(stop):
            console.print("starting PostgreSQL and NATS …")
            servers = await opened.enter_async_context(Servers(folder))
            console.print("starting the services …")
            services = await start_services(servers, well_known_ports(os.environ))
            monitoring = await _monitor(console, servers, services)
        _print_addresses(console, servers, services, monitoring)
        with told_locally(servers.folder, variables(servers, services)):
            if with_publisher:
                await servers.supervisor.start(publisher(services.endpoint, "--quiet", *publisher_options))
            await show(stop, Flow(servers.supervisor, services, servers), console)
        console.print("stopping: what was accepted is stored first, or kept in the streams until the next start …")
    console.print("stopped")


async def show(stop: asyncio.Event, flow: Flow, console: Console) -> None:
    """Show the flow once a second until a stop: a live table on a terminal, else a line."""
    before = await flow.sample()
    with _live(console) as live:
        while not await stopped_within(stop, 1.0):
            now = await flow.sample()
            if live is None:
                print(line(before, now), flush=True)
            else:
                live.update(table(before, now))
            before = now


def variables(servers: Servers, services: Services, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What operators' commands need to find this stack, and the settings that it was started with."""
    return {
        **{name: environ[name] for name in settings_variables(*EVERY) & environ.keys()},
        **nats_variables(servers.nats_url),
        "NATS_MONITOR_URL": servers.nats.monitor_url,
        "SLUICE_MIGRATE_DSN": servers.owner_dsn,
        "COLLECTOR_DSN": servers.collector_dsn,
        "REPORTER_DSN": servers.reporter_dsn,
        "GATEWAY_URL": services.endpoint.removesuffix("/events"),
        "REPORTER_URL": services.reports,
    }


@contextmanager
def _live(console: Console) -> Iterator[Live | None]:
    if not console.is_terminal:
        yield None
        return
    empty = Sample(at=0)
    with Live(table(empty, empty), console=console, auto_refresh=True) as live:
        yield live


async def _monitor(console: Console, servers: Servers, services: Services) -> dict[str, str]:
    """With MONITORING=1: start Prometheus where the machine has one; its addresses."""
    if os.environ.get("MONITORING", "0") in ("", "0"):
        return {}
    if find_prometheus() is None:
        console.print("MONITORING=1, but there is no prometheus on this machine (Debian: apt-get install prometheus)")
        return {}
    console.print("starting Prometheus …")
    url = await start_monitoring(servers, services, {"PROMETHEUS_PORT": str(PROMETHEUS_PORT), **os.environ})
    # Debian's Prometheus has the classic pages alone.
    pages = url if await answers_ok(urlsplit(url).port or 0, "/alerts") else f"{url}/classic"
    return {"Prometheus": f"{pages}/graph", "alerts": f"{pages}/alerts"}


def _print_addresses(console: Console, servers: Servers, services: Services, monitoring: dict[str, str]) -> None:
    elsewhere = f"{FOLDER_VARIABLE}={named} " if (named := os.environ.get(FOLDER_VARIABLE)) else ""
    addresses = {
        "post events to": services.endpoint,
        "read reports at": f"{services.reports}/docs",
        **{f"{name} metrics": f"http://{services.host_and_port(name)}/metrics" for name in services.ports},
        **monitoring,
        "NATS": f"{LOOPBACK}:{servers.nats.port}",
        "PostgreSQL": f"{LOOPBACK}:{servers.postgres.port}",
        "data and logs": os.path.relpath(servers.folder),
        "in another terminal": f"{elsewhere}{os.path.relpath(sys.executable)} -m ops doctor",
    }
    for what, where in addresses.items():
        console.print(f"  {what:<26}{where}", highlight=False)
