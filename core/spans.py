"""OpenTelemetry spans, exported over OTLP/HTTP. `core.tracing` imports this module only if tracing is on.

The OpenTelemetry SDK also reads environment variables: the exporter's headers, certificates and time-out
(OTEL_EXPORTER_OTLP_*), its queue and batches (OTEL_BSP_*), OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Literal, Self

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, TraceIdRatioBased
from opentelemetry.trace import SpanKind
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from core import metrics
from core.correlation import is_sampled
from core.settings import TracesSampler
from core.steps import Steps

SpanKindName = Literal["INTERNAL", "SERVER", "PRODUCER", "CONSUMER"]
Attributes = Mapping[str, str | int]

_PARENT_BASED: Final = "parentbased_"
_extract: Final = TraceContextTextMapPropagator().extract


class Spans:
    """Creates the spans of one process. A standard sampler name and a ratio decide which traces are sampled."""

    def __init__(self, service: str, endpoint: str, sampler: TracesSampler, ratio: float) -> None:
        shares = {"always_on": 1.0, "always_off": 0.0, "traceidratio": ratio}
        self._share = shares[sampler.removeprefix(_PARENT_BASED)]
        self._parent_based = sampler.startswith(_PARENT_BASED)
        ours = {"service.name": service, "service.namespace": "sluice", "service.version": metrics.VERSION}
        self._provider = TracerProvider(
            sampler=ParentBased(ALWAYS_ON) if self._parent_based else TraceIdRatioBased(self._share),
            resource=Resource.create(ours).merge(OTELResourceDetector().detect()),  # the environment takes precedence
            shutdown_on_exit=False,  # it waits up to 30 s; see `core.tracing.flush`
        )
        self._provider.add_span_processor(_Counting(_Exporter(f"{endpoint.rstrip('/')}/v1/traces")))
        self._tracer = self._provider.get_tracer("sluice")

    def start(
        self, name: str, traceparent: str | None, span_kind: SpanKindName, *, started: int | None = None
    ) -> Span | None:
        """Start a child span of a traceparent, or a root span. Return None if it is not sampled."""
        if self._parent_based and not self._samples(traceparent):
            return None
        context = Context() if traceparent is None else _extract({"traceparent": traceparent}, Context())
        span = self._tracer.start_span(
            name, context, SpanKind[span_kind], start_time=started
        )  # never in the context of the thread
        return Span(self._tracer, span) if span.is_recording() else None

    def record(
        self,
        name: str,
        traceparent: str | None,
        span_kind: SpanKindName,
        steps: Steps,
        attributes: Attributes,
        *,
        failed: bool = False,
    ) -> None:
        """Record a finished operation: one span until its last step or failure, and a child span for each step."""
        if (span := self.start(name, traceparent, span_kind, started=steps.began)) is None:
            return
        started = steps.began
        for step, ended in steps.ended:
            span.child(step, started=started).end(at=ended)
            started = ended
        span.set_attributes(attributes)
        span.end(failed=failed, at=None if failed else started)

    def count_skipped(self, spans: int) -> None:
        """Count sampled spans that are not recorded because there are too many."""
        metrics.spans_sampled.inc(spans)

    def close(self) -> None:
        """Export all queued spans, without a time limit."""
        self._provider.shutdown()

    def _samples(self, traceparent: str | None) -> bool:
        """Return the decision of a parent-based sampler, at a fraction of the SDK's cost for unsampled spans."""
        return random.random() < self._share if traceparent is None else is_sampled(traceparent)  # noqa: S311


class Span:
    """A started, sampled span. As a context manager it ends with its block, as failed after an exception."""

    __slots__ = ("_span", "_tracer")

    def __init__(self, tracer: trace.Tracer, span: trace.Span) -> None:
        self._tracer = tracer
        self._span = span

    @property
    def traceparent(self) -> str:
        """The traceparent that identifies this span to child spans in other services."""
        context = self._span.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def child(self, name: str, span_kind: SpanKindName = "INTERNAL", *, started: int | None = None) -> Span:
        """Start a child span, now or at `started`."""
        inside = trace.set_span_in_context(self._span, Context())
        return Span(self._tracer, self._tracer.start_span(name, inside, SpanKind[span_kind], start_time=started))

    def set_attributes(self, attributes: Attributes) -> None:
        """Add attributes."""
        self._span.set_attributes(attributes)

    def end(self, *, failed: bool = False, at: int | None = None) -> None:
        """End the span, now or at `at`."""
        if failed:
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end(at)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end(failed=error is not None)


class _Counting(BatchSpanProcessor):
    """Counts the spans to export. The queue is bounded: if it is full, the oldest span is lost."""

    def on_end(self, span: ReadableSpan) -> None:
        metrics.spans_sampled.inc()
        super().on_end(span)


class _Exporter(OTLPSpanExporter):
    """Counts the exported spans."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        if result is SpanExportResult.SUCCESS:
            metrics.spans_exported.inc(len(spans))
        return result
