"""Run a collector: `python -m collector --source facebook|tiktok|refused [--parser auto|native|python]`."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

from collector import ledger, maintain, metrics, parsers
from collector.collect import Collect
from collector.fetch import Fetcher
from collector.source import Source
from collector.sources import SOURCES
from collector.store import Store
from collector.stranded import free_stranded
from collector.watermark import keep_watermark
from core import health, jetstream, lifecycle, logs, postgres, settings, tracing
from core.errors import OurFault
from core.events.contract import Contract
from core.metrics import tell_build
from core.settings import CollectorSettings

log = structlog.get_logger()


def main() -> None:
    """Parse the command line and run until SIGTERM or SIGINT."""
    arguments = argparse.ArgumentParser(
        prog="python -m collector",
        description="Store the events of one source. Any number may run per source. Settings: see .env.example.",
    )
    arguments.add_argument("--source", required=True, choices=sorted(SOURCES), help="whose stream to collect")
    arguments.add_argument(
        "--parser", default="auto", choices=parsers.CHOICES,
        help="who reads the events: auto takes the native one where it is built and knows the source",
    )  # fmt: skip
    given = arguments.parse_args()
    lifecycle.keep_freed_pages()
    lifecycle.run(lambda stop: collect(SOURCES[given.source], given.parser, stop))


async def collect(source: Source, choice: parsers.Choice, stop: asyncio.Event) -> None:
    """Start everything, collect until told to stop, end everything."""
    chosen = settings.load(CollectorSettings)
    maintain.check_retention(chosen)
    logs.configure(f"collector-{source.name}", chosen.log_level)
    tracing.start(f"collector-{source.name}", chosen)
    tell_build()
    contract = Contract(max_age_days=chosen.max_event_age_days, max_ahead_seconds=chosen.max_event_ahead_seconds)
    parser, parse = parsers.choose(choice, source, contract)
    metrics.parser_in_use.labels(source.name, parser).set(1)
    log.info("parser chosen", parser=parser, asked_for=choice)
    metrics.begin(source.name)

    readiness = health.Readiness("postgres", "nats", "collecting")
    port, stop_serving = health.serve(chosen.collector_host, chosen.collector_port, readiness)
    log.info("serving health and metrics", port=port)

    migrated = postgres.prepare_schema(chosen.collector_dsn, chosen.sluice_migrate_dsn, stop)
    await lifecycle.unless_stopped(stop, migrated)
    readiness.fine("postgres")
    connected = jetstream.connect(chosen.nats_url, name=f"collector-{source.name}", readiness=readiness)
    client = await lifecycle.unless_stopped(stop, connected)
    await lifecycle.unless_stopped(stop, jetstream.ensure_streams_when_up(client, chosen))
    readiness.fine("nats")

    store = Store(chosen.collector_dsn, source, parse)
    fetcher = Fetcher(
        client, source.stream, source.name,
        ack_wait_seconds=chosen.collector_ack_wait_seconds, batch_rows=chosen.collector_batch_rows,
    )  # fmt: skip
    flow = Collect(
        source.name, fetcher, parse, store, readiness,
        batch_rows=chosen.collector_batch_rows, linger_seconds=chosen.collector_batch_milliseconds / 1000,
    )  # fmt: skip
    await fetcher.start()
    beside = [
        _beside(
            "watermark",
            keep_watermark(client, chosen.collector_dsn, source, lambda: readiness.reason("collecting")),
            readiness,
        ),
        _beside("stranded", free_stranded(client, source), readiness),
        _beside("ledger", ledger.watch(client, chosen.collector_dsn, source), readiness),
        _beside("maintenance", maintain.maintain(client, source, chosen), readiness),
    ]
    readiness.fine("collecting")
    log.info("collecting", source=source.name, stream=source.stream, parser=parser)
    try:
        await _until_stopped(asyncio.create_task(flow.run(stop)), stop, chosen.collector_drain_seconds)
    except OurFault as fault:
        log.critical("stopped: nothing is confirmed until this is mended", error=str(fault))
        readiness.missing("collecting", str(fault))
        metrics.stopped.labels(source.name).set(1)
        await fetcher.stop()
        await stop.wait()
    except Exception as error:  # the process ends, and whoever watches it starts another one
        log.critical("failed: the process ends", error=repr(error))
        readiness.missing("collecting", repr(error))
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


def _beside(name: str, work: Coroutine[Any, Any, None], readiness: health.Readiness) -> asyncio.Task[None]:
    """Run beside the flow. It never ends by itself: if it fails, the collector says so and is not ready."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            readiness.missing(name, repr(error))
            log.critical("failed beside the flow", task=name, error=repr(error))

    task = asyncio.create_task(work, name=name)
    task.add_done_callback(ended)
    return task


if __name__ == "__main__":
    main()
