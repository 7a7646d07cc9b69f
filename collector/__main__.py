"""Run a collector: `python -m collector --source SOURCE|rejected [--parser auto|native|python]`."""

from __future__ import annotations

import argparse
import asyncio

import structlog

from collector import metrics
from collector.collect import Collector
from collector.fetch import Fetcher
from collector.maintenance import ledger, maintain
from collector.maintenance.stranded import free_stranded
from collector.maintenance.watermark import keep_watermark
from collector.parse.choose import CHOICES, Choice, choose
from collector.settings import CollectorSettings
from collector.sources import SOURCES
from collector.sources.source import Source
from collector.store.store import Store
from core import health, health_server, jetstream, lifecycle, listen, logs, postgres, tracing
from core.events.contract import Contract
from core.metrics import record_build_info
from core.settings import load, warn_of_unknown

log = structlog.get_logger()


def main() -> None:
    """Parse the command line and run until SIGTERM or SIGINT."""
    arguments = argparse.ArgumentParser(
        prog="python -m collector",
        description="Store the events of one source. Any number may run per source. Settings: see .env.example.",
    )
    arguments.add_argument("--source", required=True, choices=sorted(SOURCES), help="whose stream to collect")
    arguments.add_argument(
        "--parser", default="auto", choices=CHOICES,
        help="who reads the events: auto takes the native one where it is built and knows the source",
    )  # fmt: skip
    given = arguments.parse_args()
    lifecycle.keep_freed_pages()
    lifecycle.run(lambda stop: collect(SOURCES[given.source], given.parser, stop))


async def collect(source: Source, choice: Choice, stop: asyncio.Event) -> None:
    """Start everything, collect until told to stop, end everything."""
    settings = load(CollectorSettings)
    maintain.check_retention(settings)
    logs.configure(f"collector-{source.name}", settings.log_level)
    warn_of_unknown(CollectorSettings)
    tracing.start(f"collector-{source.name}", settings)
    record_build_info()
    parser, parse = choose(
        choice,
        source,
        Contract(max_age_days=settings.max_event_age_days, max_ahead_seconds=settings.max_event_ahead_seconds),
    )
    metrics.parser_in_use.labels(source.name, parser).set(1)
    log.info("parser selected", parser=parser, asked_for=choice)
    metrics.begin(source.name)

    readiness = health.Readiness("postgres", "nats", "collecting")
    port, stop_serving = health_server.serve(
        listen.resolve("COLLECTOR_HOST", settings.collector_host), settings.collector_port, readiness
    )
    log.info("serving health and metrics", port=port)

    migrated = postgres.prepare_schema(settings.collector_dsn, settings.sluice_migrate_dsn, stop)
    await lifecycle.unless_stopped(stop, migrated)
    readiness.set_ready("postgres")
    connected = jetstream.connect(settings, name=f"collector-{source.name}", readiness=readiness)
    client = await lifecycle.unless_stopped(stop, connected)
    await lifecycle.unless_stopped(stop, jetstream.ensure_streams_when_up(client, settings))
    readiness.set_ready("nats")

    store = Store(settings.collector_dsn, source, parse)
    fetcher = Fetcher(
        client, source.stream, source.name,
        ack_wait_seconds=settings.collector_ack_wait_seconds, batch_rows=settings.collector_batch_rows,
    )  # fmt: skip
    flow = Collector(
        source.name, fetcher, parse, store, readiness,
        batch_rows=settings.collector_batch_rows, linger_seconds=settings.collector_batch_milliseconds / 1000,
    )  # fmt: skip
    await fetcher.start()
    beside = [
        asyncio.create_task(keep_watermark(client, settings.collector_dsn, source, readiness)),
        asyncio.create_task(free_stranded(client, source, readiness)),
        asyncio.create_task(ledger.watch(client, settings.collector_dsn, source, readiness)),
        asyncio.create_task(maintain.maintain(client, source, settings, readiness)),
    ]
    readiness.set_ready("collecting")
    log.info("collecting", source=source.name, stream=source.stream, parser=parser)
    try:
        await _until_stopped(asyncio.create_task(flow.run(stop)), stop, settings.collector_drain_seconds)
    except Exception as error:  # the process ends, and whoever watches it starts another one
        log.critical("failed: the process ends", error=repr(error))
        readiness.set_not_ready("collecting", repr(error))
        raise
    finally:
        await lifecycle.cancelled(beside)
        await fetcher.stop()
        await store.close()
        await client.close()
        await tracing.flush()
        stop_serving()
        log.info("stopped")


async def _until_stopped(running: asyncio.Task[None], stop: asyncio.Event, drain_seconds: float) -> None:
    """Wait for the flow; once told to stop, at most so long. What is then not stored is delivered again."""
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    try:
        await asyncio.wait_for(running, drain_seconds)
    except TimeoutError:
        log.warning("the batch at hand was not stored in time and will be delivered again")


if __name__ == "__main__":
    main()
