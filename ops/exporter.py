"""Export metrics of NATS, PostgreSQL and the disk, for one machine: `python -m ops.exporter`.

The metric names are those of prometheus-nats-exporter (-varz -jsz=all), postgres_exporter and node_exporter. The same
rules and dashboards therefore work here, without those exporters, and in a deployment that has them. Only metrics that
rules and dashboards use are exported.

Invariant: no state. Every scrape queries the servers. A server that does not answer has no metrics except `up`, which
is 0.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import asyncpg
from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, PROCESS_COLLECTOR, REGISTRY
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from core import health_server, http_client, postgres
from core.errors import Misconfigured
from core.health import Readiness
from sql import statements

ANSWER_SECONDS: Final = 3.0
_SQL: Final = statements("exporter")

# Fields of /varz, exported as gnatsd_varz_<name>.
_VARZ: Final = (
    *("mem", "cpu", "connections", "total_connections", "slow_consumers"),
    *("in_msgs", "out_msgs", "in_bytes", "out_bytes"),
)
# jetstream_server_<name> -> path in /jsz.
_SERVER: Final = {
    "total_streams": ("streams",),
    "total_consumers": ("consumers",),
    "total_messages": ("messages",),
    "total_message_bytes": ("bytes",),
    "max_storage": ("config", "max_storage"),
}
# jetstream_stream_<name> -> path in a stream of /jsz?config=true.
_STREAM: Final = {
    "total_messages": ("state", "messages"),
    "total_bytes": ("state", "bytes"),
    "first_seq": ("state", "first_seq"),
    "last_seq": ("state", "last_seq"),
    "consumer_count": ("state", "consumer_count"),
    "limit_bytes": ("config", "max_bytes"),
}
# jetstream_consumer_<name> -> path in a consumer of /jsz?consumers=true.
_CONSUMER: Final = {
    "num_pending": ("num_pending",),
    "num_ack_pending": ("num_ack_pending",),
    "num_redelivered": ("num_redelivered",),
    "num_waiting": ("num_waiting",),
    "delivered_stream_seq": ("delivered", "stream_seq"),
}


class NatsMetrics(Collector):
    """Metrics of a NATS server, from its monitoring endpoints."""

    def __init__(self, monitor_url: str) -> None:
        self._url = monitor_url.rstrip("/")

    def collect(self) -> Iterator[Metric]:
        try:
            varz, jsz = self._get("/varz"), self._get("/jsz?consumers=true&config=true")
        except (OSError, ValueError):
            return
        server = {"server_id": self._url, "server_name": str(varz["server_name"])}
        streams = [stream for account in jsz.get("account_details", []) for stream in account.get("stream_detail", [])]
        yield from _gauges("gnatsd_varz", {name: (name,) for name in _VARZ}, [(server, varz)])
        yield from _gauges("jetstream_server", _SERVER, [(server, jsz)])
        yield from _gauges(
            "jetstream_stream", _STREAM, [({**server, "stream_name": stream["name"]}, stream) for stream in streams]
        )
        consumers = [
            ({**server, "stream_name": stream["name"], "consumer_name": consumer["name"]}, consumer)
            for stream in streams
            for consumer in stream.get("consumer_detail", [])
        ]
        yield from _gauges("jetstream_consumer", _CONSUMER, consumers)

    def _get(self, page: str) -> dict[str, Any]:
        status, body = http_client.get(self._url + page, seconds=ANSWER_SECONDS)
        if status != 200:
            raise OSError(f"{page} returned {status}")
        document: dict[str, Any] = json.loads(body)
        return document


class PostgresMetrics(Collector):
    """Metrics of a database, over one connection per scrape."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def collect(self) -> Iterator[Metric]:
        rows: list[asyncpg.Record] = []
        with contextlib.suppress(OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, Misconfigured):
            rows = asyncio.run(self._read())
        yield GaugeMetricFamily("pg_up", "Whether PostgreSQL answered", value=float(bool(rows)))
        families: dict[str, Metric] = {}
        for row in rows:
            labels = json.loads(row["labels"])
            family = families.get(row["name"])
            if family is None:
                family = families[row["name"]] = Metric(row["name"], row["help"], row["type"])
            # The names of postgres_exporter: without `_total`, although they are counters.
            family.add_sample(row["name"], labels, float(row["value"]))
        yield from families.values()

    async def _read(self) -> list[asyncpg.Record]:
        connection = await postgres.connect(self._dsn, name="sluice-exporter", patience_seconds=ANSWER_SECONDS)
        try:
            return await connection.fetch(_SQL["metrics"])
        finally:
            connection.terminate()


class DiskMetrics(Collector):
    """Size and free space of the file system that holds a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        status = os.statvfs(self._folder)
        labels = ("mountpoint",)
        for name, blocks in (("avail", status.f_bavail), ("size", status.f_blocks)):
            family = GaugeMetricFamily(
                f"node_filesystem_{name}_bytes", f"Bytes of the file system: {name}", labels=labels
            )
            family.add_metric([str(self._folder)], blocks * status.f_frsize)
            yield family


def _gauges(
    prefix: str, paths: Mapping[str, tuple[str, ...]], objects: list[tuple[dict[str, str], dict[str, Any]]]
) -> Iterator[Metric]:
    """Yield one family for each path, with one sample for each object (its labels, its JSON document)."""
    for name, path in paths.items():
        family = Metric(f"{prefix}_{name}", "/".join(path), "gauge")
        for labels, document in objects:
            value: Any = document
            for step in path:
                value = value.get(step, {}) if isinstance(value, dict) else {}
            if isinstance(value, int | float):
                family.add_sample(family.name, labels, float(value))
        yield family


def main() -> None:
    """Parse the command line and serve /metrics until SIGTERM or SIGINT."""
    arguments = argparse.ArgumentParser(prog="python -m ops.exporter", description=__doc__)
    arguments.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0: any free port")
    arguments.add_argument("--nats", metavar="URL", help="monitoring URL of a NATS server")
    arguments.add_argument("--disk", metavar="FOLDER", type=Path, help="a folder on the disk that holds the data")
    options = arguments.parse_args()
    for own in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):  # do not export metrics of this process itself
        REGISTRY.unregister(own)
    if options.nats:
        REGISTRY.register(NatsMetrics(options.nats))
    if dsn := os.environ.get("EXPORTER_DSN"):  # not an argument: it holds a password
        REGISTRY.register(PostgresMetrics(dsn))
    if options.disk:
        REGISTRY.register(DiskMetrics(options.disk))
    _, stop_serving = health_server.serve("127.0.0.1", options.port, Readiness())
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
    stop_serving()


if __name__ == "__main__":
    main()
