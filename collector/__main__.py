"""Run a collector: `python -m collector --source SOURCE|rejected [--parser auto|native|python]`."""

from __future__ import annotations

import argparse
import asyncio

import structlog

from collector import metrics
from collector.collect import Collector
from collector.fetch import Fetcher
from collector.maintenance import ledger, maintain
from collector.maintenance.breakdowns import count_breakdowns
from collector.maintenance.stranded import recover_stranded
from collector.maintenance.watermark import advance_watermark
from collector.parse.choose import PARSER_CHOICES, ParserChoice, select_parser
from collector.settings import CollectorSettings
from collector.sources import SOURCES
from collector.sources.source import Source
from collector.store.store import Store
from core import health, health_server, jetstream, lifecycle, listen, logs, postgres, tracing
from core.events.contract import Contract
from core.fence import Fence
from core.metrics import record_build_info
from core.settings import load, warn_of_unknown

log = structlog.get_logger()


def main() -> None:
    """Parse the command line and run until SIGTERM or SIGINT."""
    arguments = argparse.ArgumentParser(
        prog="python -m collector",
        description="Store the events of one source. Several may run per source. Settings: see .env.example.",
    )
    arguments.add_argument("--source", required=True, choices=sorted(SOURCES), help="the source to collect")
    arguments.add_argument(
        "--parser", default="auto", choices=PARSER_CHOICES,
        help="the parser; auto selects the native one if it is built and supports the source",
    )  # fmt: skip
    options = arguments.parse_args()
    lifecycle.keep_freed_pages()
    lifecycle.run(lambda stop: collect(SOURCES[options.source], options.parser, stop))


async def collect(source: Source, choice: ParserChoice, stop: asyncio.Event) -> None:
    """Start the collector's tasks, collect until `stop` is set, then end them."""
    settings = load(CollectorSettings)
    maintain.check_retention(settings)
    logs.configure(f"collector-{source.name}", settings.log_level)
    warn_of_unknown(CollectorSettings)
    tracing.start(f"collector-{source.name}", settings)
    record_build_info()
    parser, parse = select_parser(
        choice,
        source,
        Contract(max_age_days=settings.max_event_age_days, max_ahead_seconds=settings.max_event_ahead_seconds),
    )
    metrics.parser_in_use.labels(source.name, parser).set(1)
    log.info("parser selected", parser=parser, requested=choice)
    metrics.initialize(source.name)

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

    fence = Fence(client, settings.stream_replicas)
    store = Store(settings.collector_dsn, source, parse, fence)
    fetcher = Fetcher(
        client, source.stream, source.name,
        ack_wait_seconds=settings.collector_ack_wait_seconds, batch_rows=settings.collector_batch_rows,
    )  # fmt: skip
    collector = Collector(
        source.name, fetcher, parse, store, readiness,
        batch_rows=settings.collector_batch_rows, linger_seconds=settings.collector_batch_milliseconds / 1000,
    )  # fmt: skip
    await fetcher.start()
    background = [
        asyncio.create_task(advance_watermark(client, settings.collector_dsn, source, readiness, fence)),
        asyncio.create_task(recover_stranded(client, source, readiness)),
        asyncio.create_task(ledger.watch(client, settings.collector_dsn, source, readiness, fence)),
        asyncio.create_task(maintain.maintain(client, source, settings, readiness, fence)),
    ]
    if source.table is not None:
        background.append(asyncio.create_task(count_breakdowns(settings.collector_dsn, source, readiness)))
    readiness.set_ready("collecting")
    log.info("collector started", source=source.name, stream=source.stream, parser=parser)
    try:
        await _until_stopped(asyncio.create_task(collector.run(stop)), stop, settings.collector_drain_seconds)
    except Exception as error:  # the process ends; its supervisor restarts it
        log.critical("collector failed", error=repr(error))
        readiness.set_not_ready("collecting", repr(error))
        raise
    finally:
        await lifecycle.cancel_and_wait(background)
        await fetcher.stop()
        await store.close()
        await client.close()
        await tracing.flush()
        stop_serving()
        log.info("collector stopped")


async def _until_stopped(running: asyncio.Task[None], stop: asyncio.Event, drain_seconds: float) -> None:
    """Wait until `running` ends, after a stop at most `drain_seconds`. JetStream redelivers what is not stored."""
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait((running, stopping), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    try:
        await asyncio.wait_for(running, drain_seconds)
    except TimeoutError:
        log.warning("drain timed out", drain_seconds=drain_seconds)


if __name__ == "__main__":
    main()
