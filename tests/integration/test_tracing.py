"""Tracing costs no event: off, nothing of it is there; without anybody who takes spans, everything else goes on."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from nats.aio.client import Client

from collector.trace import MAX_REQUESTS
from core.events import wire
from core.postgres import Connection
from ops.local.ports import LOOPBACK, free_port
from tests.support.collecting import balanced, drained, publish
from tests.support.collector_process import collector_process
from tests.support.events import facebook, message, rfc3339
from tests.support.gateway import Gateway, start_gateway
from tests.support.otlp import Receiver, receiving
from tests.support.processes import ROOT
from tests.support.stack import Database, FreshNats
from tests.support.waiting import eventually

NEVER = {"OTEL_BSP_SCHEDULE_DELAY": "3600000"}  # milliseconds: nothing is exported before the end
SPANS_OF_A_REQUEST = 5  # a collector's: process, parse, wait, store, ack


def traceparent(trace_id: str | None = None) -> str:
    return f"00-{trace_id or uuid4().hex}-00f067aa0ba902b7-01"


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver of spans for this test alone."""
    async with receiving() as receiver:
        yield receiver


@asynccontextmanager
async def silent() -> AsyncIterator[int]:
    """The port of a server that takes connections and never answers."""
    taken: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: taken.append(writer), LOOPBACK, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        for writer in taken:
            writer.close()
        server.close()


@asynccontextmanager
async def no_one() -> AsyncIterator[int]:
    """A port that no one listens on."""
    yield free_port()


async def lost(gateway: Gateway) -> float:
    """Spans that were to be exported and are not."""
    return await gateway.metric("sluice_spans_sampled_total") - await gateway.metric("sluice_spans_exported_total")


def holds_opentelemetry(pid: int) -> bool:
    """Whether a process has loaded protobuf's native module, which comes with OpenTelemetry alone."""
    return "google/_upb" in Path(f"/proc/{pid}/maps").read_text()


async def test_off_nothing_of_it_is_loaded(fresh_nats: FreshNats, receiver: Receiver) -> None:
    """A gateway without an endpoint loads no module of it and sends nothing."""
    elsewhere: dict[str, Any] = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": receiver.settings["OTEL_EXPORTER_OTLP_ENDPOINT"]}
    async with start_gateway(fresh_nats, **elsewhere) as gateway:
        assert (await gateway.post([facebook()], traceparent=traceparent())).status_code == 202
        assert not any(holds_opentelemetry(worker.pid) for worker in gateway.workers())
        (stored,) = await gateway.published("facebook")
        assert await gateway.metric("sluice_spans_sampled_total") == 0
    assert receiver.spans == []
    assert stored.parts[0].traceparent is not None


@pytest.mark.parametrize("service", ["gateway.app", "gateway.workers", "collector.__main__", "reporter.__main__"])
def test_off_no_service_imports_it(service: str) -> None:
    """With default settings a service and `tracing.start` import no module of OpenTelemetry's."""
    said = (
        f"import sys, {service}; from core import settings, tracing; tracing.start('any', settings.Settings());"
        "assert tracing.spans is None; print([name for name in sys.modules if 'opentelemetry' in name])"
    )
    ran = subprocess.run([sys.executable, "-c", said], cwd=ROOT, capture_output=True, text=True, check=True)
    assert ran.stdout == "[]\n"


@pytest.mark.parametrize("dead", [silent, no_one])
async def test_a_dead_endpoint_costs_no_event(fresh_nats: FreshNats, tmp_path: Path, dead: Any) -> None:
    """Every request is answered 202 and stored, the lost spans are counted, and SIGTERM ends the gateway with 0. The
    queue is so short that it overflows as well."""
    async with dead() as port:
        endpoint: dict[str, Any] = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{LOOPBACK}:{port}",
            "OTEL_BSP_MAX_QUEUE_SIZE": "4",
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "2",
        }
        async with start_gateway(fresh_nats, **endpoint) as gateway:
            for _ in range(20):
                answer = await gateway.post([facebook()], traceparent=traceparent())
                assert answer.status_code == 202

            async def counted() -> bool:  # metrics of a request are handed on within a quarter of a second
                return await lost(gateway) == 40

            await eventually(counted, what="two spans of each request are counted as lost")
            assert len(await gateway.lines("facebook")) == 20
            await fresh_nats.supervisor.stop("gateway")
    (*_, last) = gateway.log().splitlines()
    assert (json.loads(last)["event"], json.loads(last)["clean"]) == ("gateway stopped", True)


async def test_sigterm_exports_what_waits(fresh_nats: FreshNats, receiver: Receiver) -> None:
    """Spans that were not due yet arrive when the gateway ends."""
    trace_id = uuid4().hex
    settings: dict[str, Any] = receiver.settings | NEVER
    async with start_gateway(fresh_nats, **settings) as gateway:
        await gateway.post([facebook()], traceparent=traceparent(trace_id))
        assert receiver.spans == []
        assert all(holds_opentelemetry(worker.pid) for worker in gateway.workers())  # it can be seen
    assert {span.name for span in receiver.of(trace_id)} == {"POST /events", "publish"}


async def test_a_batch_reports_of_a_bounded_number_of_requests(
    database: Database, connection: Connection, client: Client, fresh_nats: FreshNats, receiver: Receiver
) -> None:
    """Of more sampled requests than that all events are stored, and the spans that are not made are counted. What
    waits is exported at SIGTERM. A foreign sender's traceparent that is none does no harm."""
    now = rfc3339(datetime.now(UTC))
    requests = [wire.Part(f"r-{number}", traceparent(), now, 1) for number in range(MAX_REQUESTS + 20)]
    foreign = [wire.Part(f"f-{number}", given, now, 1) for number, given in enumerate(("", "x" * 54 + "1"))]
    parts = [*foreign, *requests]
    async with collector_process(
        collector_dsn=database.collector_dsn,
        nats_url=fresh_nats.url,
        **{name.lower(): value for name, value in (receiver.settings | NEVER).items()},
    ) as collector:
        await collector.is_ready()
        await publish(client, "facebook", message(*(facebook() for _ in parts), parts=parts))
        await drained(client, "facebook")

        async def counted() -> bool:
            return await collector.metric("sluice_spans_sampled_total") == SPANS_OF_A_REQUEST * len(requests)

        await eventually(counted, what="all spans are counted")
        assert await collector.terminate() == 0
    assert len(receiver.spans) == SPANS_OF_A_REQUEST * MAX_REQUESTS
    assert await connection.fetchval("SELECT count(*) FROM facebook_events") == len(parts)
    await balanced(connection, client)
