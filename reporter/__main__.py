"""Run the reporter: schema -> pool -> serve until SIGTERM -> finish open requests -> exit 0."""

from __future__ import annotations

import asyncio
import gc

import structlog
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from core import lifecycle, listen, logs, tracing
from core.errors import Misconfigured
from core.metrics import record_build_info
from core.postgres import prepare_schema
from core.settings import load, warn_of_unknown
from reporter.app import create_app
from reporter.database import open_pool
from reporter.settings import ReporterSettings
from reporter.tokens import parse_tokens

# Time for open requests to send a 503 after the pool is terminated.
ABORT_TIMEOUT_SECONDS = 1.0
# granian accepts no connection over this limit, and idle connections count. Below the usual 1,024 open files.
MAX_CONNECTIONS = 512
# Time-out of a request header and of an idle connection. granian ignores it under HTTP/2, so HTTP/2 is off.
HEADER_TIMEOUT_MILLISECONDS = 5_000

log = structlog.get_logger()


async def main(stop: asyncio.Event) -> None:
    """Run until `stop` is set. Raises Misconfigured if the reporter cannot listen on its address."""
    settings = load(ReporterSettings)
    logs.configure("reporter", settings.log_level)
    warn_of_unknown(ReporterSettings)
    parse_tokens(settings.reporter_tokens)  # an invalid entry ends the start before the wait for the schema
    tracing.start("reporter", settings)
    record_build_info()
    address = listen.resolve("REPORTER_HOST", settings.reporter_host)
    await prepare_schema(settings.reporter_dsn, settings.sluice_migrate_dsn, stop)
    if stop.is_set():
        return
    async with await open_pool(settings) as pool:
        server = Server(
            create_app(pool, settings),
            address=address,
            port=settings.reporter_port,
            interface=Interfaces.ASGINL,
            http=HTTPModes.http1,
            http1_settings=HTTP1Settings(header_read_timeout=HEADER_TIMEOUT_MILLISECONDS),
            backlog=MAX_CONNECTIONS,
            backpressure=MAX_CONNECTIONS,
            websockets=False,
            log_enabled=False,
        )
        server.on_startup(lambda: log.info("serving", host=address, port=settings.reporter_port))
        gc.collect()
        gc.freeze()  # a full collection over the program's own objects would pause reports for tens of milliseconds
        serving = asyncio.create_task(server.serve())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            raise Misconfigured(f"REPORTER_HOST, REPORTER_PORT: {_first_line(serving.exception())}")
        server.stop()  # type: ignore[no-untyped-call]
        await asyncio.wait((serving,), timeout=settings.reporter_drain_seconds)
        if not serving.done():
            log.warning("drain timed out, reports aborted", after_seconds=settings.reporter_drain_seconds)
            pool.terminate()
            await asyncio.wait((serving,), timeout=ABORT_TIMEOUT_SECONDS)
    await tracing.flush()


def _first_line(error: BaseException | None) -> str:
    return str(error).partition("\n")[0]


if __name__ == "__main__":
    lifecycle.run(main)
