"""NATS's, PostgreSQL's and the disk's own figures for one machine: `python -m ops.exporter`.

They bear the names that prometheus-nats-exporter (-varz -jsz=all), postgres_exporter and node_exporter give them, so
that the same rules and dashboards serve here, where those are not installed, and in a deployment that has them. Only
what rules and dashboards ask for is there.

Invariant: nothing is remembered. Every scrape asks the servers; what does not answer has no figures in it, and its
`up` figure is 0.
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

# What /varz says -> gnatsd_varz_<name>.
_VARZ: Final = (
    *("mem", "cpu", "connections", "total_connections", "slow_consumers"),
    *("in_msgs", "out_msgs", "in_bytes", "out_bytes"),
)
# jetstream_server_<name> -> where /jsz says it.
_SERVER: Final = {
    "total_streams": ("streams",),
    "total_consumers": ("consumers",),
    "total_messages": ("messages",),
    "total_message_bytes": ("bytes",),
    "max_storage": ("config", "max_storage"),
}
# jetstream_stream_<name> -> where a stream of /jsz?config=true says it.
_STREAM: Final = {
    "total_messages": ("state", "messages"),
    "total_bytes": ("state", "bytes"),
    "first_seq": ("state", "first_seq"),
    "last_seq": ("state", "last_seq"),
    "consumer_count": ("state", "consumer_count"),
    "limit_bytes": ("config", "max_bytes"),
}
# jetstream_consumer_<name> -> where a consumer of /jsz?consumers=true says it.
_CONSUMER: Final = {
    "num_pending": ("num_pending",),
    "num_ack_pending": ("num_ack_pending",),
    "num_redelivered": ("num_redelivered",),
    "num_waiting": ("num_waiting",),
    "delivered_stream_seq": ("delivered", "stream_seq"),
}


class NatsFigures(Collector):
    """What a server's monitoring pages say."""

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
            raise OSError(f"{page} answered {status}")
        found: dict[str, Any] = json.loads(body)
        return found


class PostgresFigures(Collector):
    """What a database says of itself, over one connection a scrape."""

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
                family = families[row["name"]] = Metric(row["name"], row["help"], row["kind"])
            # As the exporter names them: without `_total`, though they are counters.
            family.add_sample(row["name"], labels, float(row["value"]))
        yield from families.values()

    async def _read(self) -> list[asyncpg.Record]:
        connection = await postgres.connect(self._dsn, name="sluice-exporter", patience_seconds=ANSWER_SECONDS)
        try:
            return await connection.fetch(_SQL["figures"])
        finally:
            connection.terminate()


class DiskFigures(Collector):
    """The room of the file system that holds a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        found = os.statvfs(self._folder)
        labels = ("mountpoint",)
        for name, blocks in (("avail", found.f_bavail), ("size", found.f_blocks)):
            family = GaugeMetricFamily(
                f"node_filesystem_{name}_bytes", f"Bytes of the file system: {name}", labels=labels
            )
            family.add_metric([str(self._folder)], blocks * found.f_frsize)
            yield family


def _gauges(
    prefix: str, figures: Mapping[str, tuple[str, ...]], things: list[tuple[dict[str, str], dict[str, Any]]]
) -> Iterator[Metric]:
    """One family for each figure, with a sample for each thing (its labels, what the server says of it)."""
    for name, path in figures.items():
        family = Metric(f"{prefix}_{name}", "/".join(path), "gauge")
        for labels, said in things:
            value: Any = said
            for step in path:
                value = value.get(step, {}) if isinstance(value, dict) else {}
            if isinstance(value, int | float):
                family.add_sample(family.name, labels, float(value))
        yield family


def main() -> None:
    """Parse the command line and serve /metrics until SIGTERM or SIGINT."""
    arguments = argparse.ArgumentParser(prog="python -m ops.exporter", description=__doc__)
    arguments.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 picks one")
    arguments.add_argument("--nats", metavar="URL", help="a NATS server's monitoring address")
    arguments.add_argument("--disk", metavar="FOLDER", type=Path, help="a folder on the disk that holds the data")
    given = arguments.parse_args()
    for ours in (PROCESS_COLLECTOR, PLATFORM_COLLECTOR, GC_COLLECTOR):  # nobody asks for this program's own figures
        REGISTRY.unregister(ours)
    if given.nats:
        REGISTRY.register(NatsFigures(given.nats))
    if dsn := os.environ.get("EXPORTER_DSN"):  # not an argument: it holds a password
        REGISTRY.register(PostgresFigures(dsn))
    if given.disk:
        REGISTRY.register(DiskFigures(given.disk))
    _, stop_serving = health_server.serve("127.0.0.1", given.port, Readiness())
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    ended.wait()
    stop_serving()


if __name__ == "__main__":
    main()
