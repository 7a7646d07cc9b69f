"""Tracing: whether spans are made of what happens to requests.

    gateway    POST /events -> publish                  publish's traceparent goes on in the message
    collector  process -> parse, wait, store, ack       of each sampled request that a batch holds
    reporter   GET /reports/... -> query, read, answer

Off, `spans` is None, nothing of OpenTelemetry is imported, and a flow pays its `if`. On, spans go out over OTLP/HTTP
from a thread of their own (`core.spans`).
Invariant: no span delays or fails what it tells of. One that cannot be exported is lost, and the metrics show it.
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
"""What makes and exports spans; None where tracing is off."""


def start(service: str, settings: Settings) -> None:
    """Trace this process, as this service, if the settings say where to."""
    global spans  # noqa: PLW0603
    if (endpoint := settings.otel_exporter_otlp_endpoint) is not None:
        from core.spans import Spans  # noqa: PLC0415 - off, nobody pays for it

        spans = Spans(service, endpoint, settings.otel_traces_sampler, settings.otel_traces_sampler_arg)


async def flush(seconds: float = FLUSH_SECONDS) -> None:
    """Export what waits, at most so long; nothing is exported from then on."""
    if spans is not None:
        ending = threading.Thread(target=spans.close, daemon=True)
        ending.start()
        await asyncio.to_thread(ending.join, max(0.0, seconds))
