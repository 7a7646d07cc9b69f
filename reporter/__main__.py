"""Start the reporter: schema -> pool -> serve, until SIGTERM; then answer what was asked and exit 0."""

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
from reporter.read import open_pool
from reporter.settings import ReporterSettings

# How long reports have to answer that they were cut off.
LAST_WORDS_SECONDS = 1.0
# granian accepts no connection over its limit, so idle ones must not hold it for long. Below 1,024 open files.
MAX_CONNECTIONS = 512
# For the whole header of a request, and for an idle connection. Not under HTTP/2, which is off therefore.
HEADER_MILLISECONDS = 5_000

log = structlog.get_logger()


async def main(stop: asyncio.Event) -> None:
    """Run until told to stop. Raises Misconfigured where the address cannot be listened on."""
    settings = load(ReporterSettings)
    logs.configure("reporter", settings.log_level)
    warn_of_unknown(ReporterSettings)
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
            http1_settings=HTTP1Settings(header_read_timeout=HEADER_MILLISECONDS),
            backlog=MAX_CONNECTIONS,
            backpressure=MAX_CONNECTIONS,
            websockets=False,
            log_enabled=False,
        )
        server.on_startup(lambda: log.info("serving", host=address, port=settings.reporter_port))
        gc.collect()
        gc.freeze()  # the program itself stays: looking through it would hold up reports for tens of milliseconds
        serving = asyncio.create_task(server.serve())
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
        if serving.done():
            raise Misconfigured(f"REPORTER_HOST, REPORTER_PORT: {_first_line(serving.exception())}")
        server.stop()  # type: ignore[no-untyped-call]
        await asyncio.wait((serving,), timeout=settings.reporter_drain_seconds)
        if not serving.done():
            log.warning("reports are cut off", after_seconds=settings.reporter_drain_seconds)
            pool.terminate()
            await asyncio.wait((serving,), timeout=LAST_WORDS_SECONDS)
    await tracing.flush()


def _first_line(error: BaseException | None) -> str:
    return str(error).partition("\n")[0]


if __name__ == "__main__":
    lifecycle.run(main)
