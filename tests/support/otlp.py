"""Where spans go: a server that takes OTLP over HTTP, as an OpenTelemetry Collector does, and keeps what it was sent.

async with receiving() as receiver:
    ... services run with receiver.settings ...
    spans = await receiver.trace(trace_id, 3)     once so many of a trace are there
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2

from ops.local.ports import LOOPBACK
from tests.support.waiting import eventually


@dataclass(frozen=True)
class Span:
    """One span; ids are hexadecimal digits, instants nanoseconds since 1970."""

    service: str
    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    began: int
    ended: int
    failed: bool
    attributes: dict[str, str | int]


@dataclass
class Receiver:
    """What was received so far, in the order in which it came."""

    port: int = 0
    spans: list[Span] = field(default_factory=list)

    @property
    def settings(self) -> dict[str, str]:
        """For a service that sends its spans here, and soon."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{LOOPBACK}:{self.port}",
            "OTEL_BSP_SCHEDULE_DELAY": "50",  # milliseconds
        }

    async def trace(self, trace_id: str, count: int) -> list[Span]:
        """The spans of a trace, each before its children, once so many are there. Fails where there are more."""

        async def complete() -> bool:
            return len(self.of(trace_id)) >= count

        await eventually(complete, what=f"{count} spans of {trace_id}")
        found = self.of(trace_id)
        assert len(found) == count, [span.name for span in found]
        return found

    def of(self, trace_id: str) -> list[Span]:
        """The spans of a trace that are here."""
        return sorted(
            (span for span in self.spans if span.trace_id == trace_id), key=lambda span: (span.began, -span.ended)
        )

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                request, *lines = head.decode().strip().split("\r\n")
                assert request == "POST /v1/traces HTTP/1.1"
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                body = await reader.readexactly(int(headers["content-length"]))
                self._take(ExportTraceServiceRequest.FromString(body))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the service has ended
        finally:
            writer.close()

    def _take(self, request: ExportTraceServiceRequest) -> None:
        for of_resource in request.resource_spans:
            resource = {each.key: each.value.string_value for each in of_resource.resource.attributes}
            for of_scope in of_resource.scope_spans:
                self.spans += [_span(resource["service.name"], span) for span in of_scope.spans]


def _span(service: str, span: trace_pb2.Span) -> Span:
    return Span(
        service=service,
        name=span.name,
        kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        began=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
        attributes={each.key: each.value.string_value or each.value.int_value for each in span.attributes},
    )


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    """A receiver on a free port."""
    receiver = Receiver()
    server = await asyncio.start_server(receiver._serve, LOOPBACK, 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
