"""Run everything on this machine until Ctrl-C: servers, services and, unless PUBLISHER=0, the publisher."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.live import Live

from core.lifecycle import cancel_on, stopped_within
from core.settings import nats_variables
from core.settings import variables as settings_variables
from ops.cli import output
from ops.cli.connection import FOLDER_VARIABLE, local_folder, published_locally
from ops.cli.documents import UpLine
from ops.local import Servers
from ops.local.flow import Flow, Sample, line, table, up_line
from ops.local.monitoring import PROMETHEUS_PORT, find_prometheus, start_monitoring
from ops.local.ports import LOOPBACK
from ops.local.ready import answers_ok
from ops.local.servers import check_free
from ops.local.services import Services, publisher, start_services, well_known_ports
from ops.settings import EVERY


async def up(
    stop: asyncio.Event, *, with_publisher: bool, publisher_options: Sequence[str] = (), as_json: bool = False
) -> None:
    """Start everything, show the flow until `stop` is set, drain. Raises StackError.

    With as_json, stdout gets one JSON document a line, and everything else goes to stderr.
    """
    console = output.console(stderr=as_json)
    folder = local_folder()
    check_free(folder)
    async with AsyncExitStack() as opened:
        async with cancel_on(stop):
            console.print("starting PostgreSQL and NATS …")
            servers = await opened.enter_async_context(Servers(folder))
            console.print("starting the services …")
            services = await start_services(servers, well_known_ports(os.environ))
            monitoring = await _monitor(console, servers, services)
        addresses = _addresses(servers, services, monitoring)
        if as_json:
            output.print_json_line(UpLine(addresses=addresses))
        else:
            for name, address in addresses.items():
                console.print(f"  {name:<26}{address}", markup=False, soft_wrap=True)
        with published_locally(servers.folder, variables(servers, services)):
            if with_publisher:
                await servers.supervisor.start(publisher(services.endpoint, "--quiet", *publisher_options))
            await show(stop, Flow(servers.supervisor, services, servers), console, as_json=as_json)
        console.print("stopping: collectors store what they fetched, the streams keep the rest until the next start …")
    console.print("stopped")


async def show(stop: asyncio.Event, flow: Flow, console: Console, *, as_json: bool = False) -> None:
    """Show the flow once a second until a stop: as JSON, as a live table on a terminal, or as a line of text."""
    before = await flow.sample()
    with _live(console, shown=not as_json) as live:
        while not await stopped_within(stop, 1.0):
            now = await flow.sample()
            if as_json:
                output.print_json_line(up_line(before, now))
            elif live is None:
                console.print(line(before, now), markup=False, soft_wrap=True)
            else:
                live.update(table(before, now))
            before = now


def variables(servers: Servers, services: Services, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables by which commands find this stack, and the settings with which it was started."""
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
def _live(console: Console, *, shown: bool) -> Iterator[Live | None]:
    if not console.is_terminal or not shown:
        yield None
        return
    empty = Sample(at=0)
    with Live(table(empty, empty), console=console, auto_refresh=True) as live:
        yield live


async def _monitor(console: Console, servers: Servers, services: Services) -> dict[str, str]:
    """If MONITORING=1 and Prometheus is installed, start it; return its addresses."""
    if os.environ.get("MONITORING", "0") in ("", "0"):
        return {}
    if find_prometheus() is None:
        console.print("MONITORING=1: Prometheus is not installed. Install it (Debian: apt-get install prometheus)")
        return {}
    console.print("starting Prometheus …")
    url = await start_monitoring(servers, services, {"PROMETHEUS_PORT": str(PROMETHEUS_PORT), **os.environ})
    # Debian's Prometheus has the classic pages alone.
    pages = url if await answers_ok(urlsplit(url).port or 0, "/alerts") else f"{url}/classic"
    return {"Prometheus": f"{pages}/graph", "alerts": f"{pages}/alerts"}


def _addresses(servers: Servers, services: Services, monitoring: dict[str, str]) -> dict[str, str]:
    """Return the addresses and paths of the stack by what they are for."""
    named_folder = f"{FOLDER_VARIABLE}={folder} " if (folder := os.environ.get(FOLDER_VARIABLE)) else ""
    return {
        "post events to": services.endpoint,
        "read reports at": f"{services.reports}/docs",
        **{f"{name} metrics": f"http://{services.host_and_port(name)}/metrics" for name in services.ports},
        **monitoring,
        "NATS": f"{LOOPBACK}:{servers.nats.port}",
        "PostgreSQL": f"{LOOPBACK}:{servers.postgres.port}",
        "data and logs": os.path.relpath(servers.folder),
        "in another terminal": f"{named_folder}{_sluice()} doctor",
    }


def _sluice() -> str:
    """Return how to call `sluice` in another terminal: by its path if PATH does not contain it."""
    script = Path(sys.executable).with_name("sluice")
    if not script.is_file():
        return f"{os.path.relpath(sys.executable)} -m ops"
    found = shutil.which("sluice")
    return "sluice" if found and Path(found).samefile(script) else os.path.relpath(script)
