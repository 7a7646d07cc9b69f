"""Run everything under the publisher's load for some seconds, then check that no event is lost.

start -> publish -> wait until all events are stored -> ledger, reports -> .sluice/demo.json -> exit code
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
import orjson
from nats.aio.client import Client
from rich.console import Console
from rich.markup import escape

from core import jetstream, postgres
from core.errors import SluiceError
from core.lifecycle import cancel_on
from core.postgres import Connection
from ops.cli import output
from ops.cli.connection import local_folder
from ops.cli.documents import DemoResult
from ops.ledger import read_ledger, until_stored
from ops.local import Servers
from ops.local.flow import Flow, sample_freshness
from ops.local.outcome import Outcome
from ops.local.servers import check_free
from ops.local.services import Services, publisher, start_services
from ops.local.tables import print_report
from ops.local.up import show

DRAIN_TIMEOUT_SECONDS: Final = 60.0


async def demo(stop: asyncio.Event, seconds: float, publisher_options: Sequence[str], *, as_json: bool) -> int:
    """Run the demonstration; return the exit code. Raises StackError if a program does not start.

    With as_json, stdout gets only the result, and everything else goes to stderr.
    """
    console = output.console(stderr=as_json)
    folder = local_folder()
    check_free(folder)
    async with AsyncExitStack() as opened:
        async with cancel_on(stop):
            console.print("starting PostgreSQL and NATS …")
            servers = await opened.enter_async_context(Servers(folder))
            console.print("starting the services …")
            services = await start_services(servers, os.environ)
        console.print(f"publishing to {services.endpoint} for {seconds:g} s …", highlight=False)
        async with _ledger_sources(servers) as (client, connection):
            outcome = Outcome(before=await read_ledger(client, connection), default_load=not publisher_options)
            began = datetime.now(UTC)
            await _publish(
                stop, servers, services, outcome, ["--seconds", str(seconds), *publisher_options], console=console
            )
            published = time.monotonic()
            outcome.pending = await until_stored(client, DRAIN_TIMEOUT_SECONDS)
            outcome.drain_seconds = time.monotonic() - published
            outcome.after = await read_ledger(client, connection)
        outcome.print(console)
        await _print_reports(console, services, began)
        written = servers.folder / "demo.json"
        written.write_bytes(msgspec.json.format(msgspec.json.encode(outcome.figures()), indent=2) + b"\n")
        console.print(f"figures written to {written}", highlight=False)
    problems = outcome.problems()
    for problem in problems:
        console.print(f"[bold red]problem[/]: {escape(problem)}")
    console.print("[bold red]demo failed[/]" if problems else "[bold green]no event lost, the ledger balances[/]")
    if as_json:
        output.print_json(DemoResult(not problems, problems, outcome.figures()))
    return 1 if problems else 0


@asynccontextmanager
async def _ledger_sources(servers: Servers) -> AsyncIterator[tuple[Client, Connection]]:
    client = await jetstream.connect(servers.nats_url, name="demo")
    connection = await postgres.connect(servers.reporter_dsn, name="demo")
    try:
        yield client, connection
    finally:
        await connection.close()
        await client.close()


async def _publish(
    stop: asyncio.Event,
    servers: Servers,
    services: Services,
    outcome: Outcome,
    options: Sequence[str],
    *,
    console: Console,
) -> None:
    """Run the publisher to its end and show the flow; write the measurements to `outcome`."""
    counts = servers.folder / "publisher.json"
    counts.unlink(missing_ok=True)
    program = publisher(services.endpoint, "--quiet", "--json", str(counts), *options)
    started = time.monotonic()
    process = await asyncio.create_subprocess_exec(
        *program.argv, env={**os.environ, **program.env}, stdout=asyncio.subprocess.DEVNULL
    )
    flow = Flow(servers.supervisor, services, servers)
    over = asyncio.Event()
    sampling = asyncio.create_task(sample_freshness(services, outcome.freshness))
    showing = asyncio.create_task(show(over, flow, console))
    stopping = asyncio.create_task(_stop_publisher(stop, process))
    try:
        if (code := await process.wait()) != 0:
            raise SluiceError(f"the publisher ended with exit code {code}: see its error output above")
    finally:
        if process.returncode is None:
            process.kill()
        sampling.cancel()
        stopping.cancel()
        over.set()
        await asyncio.gather(sampling, stopping, showing, return_exceptions=True)
    outcome.published_seconds = time.monotonic() - started
    outcome.rss_bytes = flow.peak_rss_bytes
    outcome.sent = orjson.loads(await asyncio.to_thread(counts.read_bytes))


async def _stop_publisher(stop: asyncio.Event, process: asyncio.subprocess.Process) -> None:
    await stop.wait()
    process.terminate()


async def _print_reports(console: Console, services: Services, began: datetime) -> None:
    """Print the three reports of the period of the demonstration."""
    since = (began - timedelta(seconds=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    to = (datetime.now(UTC) + timedelta(seconds=5)).strftime("%Y-%m-%dT%H:%M:%SZ")
    for path in (
        f"/reports/events?from={since}&to={to}&groupBy=source,funnelStage,eventType",
        f"/reports/revenue?from={since}&to={to}&groupBy=source",
        f"/reports/demographics?from={since}&to={to}",
    ):
        status, body = await services.get("reporter", path)
        print_report(console, f"GET {services.reports}{path}", status, orjson.loads(body))
