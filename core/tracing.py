"""Tracing: whether spans of requests are created.

    gateway    POST /events -> publish                  the message contains the traceparent of publish
    collector  process -> parse, wait, store, ack       for each sampled request in a batch
    reporter   GET /reports/... -> query, read, answer

If tracing is off, `spans` is None, OpenTelemetry is not imported, and a request costs one `if`. If it is on, a separate
thread exports spans over OTLP/HTTP (`core.spans`). Invariant: a span never delays or fails its operation. A span that
cannot be exported is lost, and the metrics show it.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Final

from core.settings import Settings

if TYPE_CHECKING:
    from core.spans import Spans

FLUSH_SECONDS: Final = 2.0

spans: Spans | None = None
"""Creates and exports spans; None if tracing is off."""


def start(service: str, settings: Settings) -> None:
    """Enable tracing for this process if the settings have an endpoint."""
    global spans  # noqa: PLW0603
    if (endpoint := settings.otel_exporter_otlp_endpoint) is not None:
        from core.spans import Spans  # noqa: PLC0415 - only if tracing is on

        spans = Spans(service, endpoint, settings.otel_traces_sampler, settings.otel_traces_sampler_arg)


async def flush(seconds: float = FLUSH_SECONDS) -> None:
    """Export queued spans, for at most `seconds`. Nothing is exported afterwards."""
    if spans is not None:
        ending = threading.Thread(target=spans.close, daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, max(0.0, seconds))
