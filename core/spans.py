"""Spans of OpenTelemetry, exported over OTLP/HTTP. Only `core.tracing` imports this module, where tracing is on.

Beside our settings counts what OpenTelemetry's SDK reads from the environment: headers, certificates and time-out of
the exporter (OTEL_EXPORTER_OTLP_*), its queue and batches (OTEL_BSP_*), OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES.
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

Kind = Literal["INTERNAL", "SERVER", "PRODUCER", "CONSUMER"]
Attributes = Mapping[str, str | int]

_PARENT_BASED: Final = "parentbased_"
_extract: Final = TraceContextTextMapPropagator().extract


class Spans:
    """Makes the spans of one process. Which traces are sampled is told by a sampler's standard name, and a share."""

    def __init__(self, service: str, endpoint: str, sampler: TracesSampler, ratio: float) -> None:
        shares = {"always_on": 1.0, "always_off": 0.0, "traceidratio": ratio}
        self._share = shares[sampler.removeprefix(_PARENT_BASED)]
        self._parent_based = sampler.startswith(_PARENT_BASED)
        ours = {"service.name": service, "service.namespace": "sluice", "service.version": metrics.VERSION}
        self._provider = TracerProvider(
            sampler=ParentBased(ALWAYS_ON) if self._parent_based else TraceIdRatioBased(self._share),
            resource=Resource.create(ours).merge(OTELResourceDetector().detect()),  # the environment's word is the last
            shutdown_on_exit=False,  # that waits for up to 30 s; see `core.tracing.flush`
        )
        self._provider.add_span_processor(_Counting(_Exporter(f"{endpoint.rstrip('/')}/v1/traces")))
        self._tracer = self._provider.get_tracer("sluice")

    def begin(self, name: str, traceparent: str | None, kind: Kind, *, began: int | None = None) -> Span | None:
        """A span below the one that a traceparent names, else of a new trace. None where it is not sampled."""
        if self._parent_based and not self._samples(traceparent):
            return None
        context = Context() if traceparent is None else _extract({"traceparent": traceparent}, Context())
        span = self._tracer.start_span(name, context, SpanKind[kind], start_time=began)  # never in the thread's context
        return Span(self._tracer, span) if span.is_recording() else None

    def record(
        self,
        name: str,
        traceparent: str | None,
        kind: Kind,
        steps: Steps,
        attributes: Attributes,
        *,
        failed: bool = False,
    ) -> None:
        """The span of something that is over, since its last step or as failed, and below it one of each step."""
        if (span := self.begin(name, traceparent, kind, began=steps.began)) is None:
            return
        began = steps.began
        for step, ended in steps.ended:
            span.child(step, began=began).end(at=ended)
            began = ended
        span.note(attributes)
        span.end(failed=failed, at=None if failed else began)

    def leave_out(self, spans: int) -> None:
        """So many spans that are sampled are too many to be made."""
        metrics.spans_sampled.inc(spans)

    def close(self) -> None:
        """Export what waits, however long that takes."""
        self._provider.shutdown()

    def _samples(self, traceparent: str | None) -> bool:
        """What a sampler that goes by parents decides, for a fraction of what the SDK takes to say no."""
        return random.random() < self._share if traceparent is None else is_sampled(traceparent)  # noqa: S311


class Span:
    """A span that has begun and is sampled. As a context manager it ends with its block, failed by an exception."""

    __slots__ = ("_span", "_tracer")

    def __init__(self, tracer: trace.Tracer, span: trace.Span) -> None:
        self._tracer = tracer
        self._span = span

    @property
    def traceparent(self) -> str:
        """What names it to whoever goes on with its trace."""
        named = self._span.get_span_context()
        return f"00-{named.trace_id:032x}-{named.span_id:016x}-{named.trace_flags:02x}"

    def child(self, name: str, kind: Kind = "INTERNAL", *, began: int | None = None) -> Span:
        """A span below this one, which begins now or began at an instant."""
        inside = trace.set_span_in_context(self._span, Context())
        return Span(self._tracer, self._tracer.start_span(name, inside, SpanKind[kind], start_time=began))

    def note(self, attributes: Attributes) -> None:
        """Something is known of what it tells of."""
        self._span.set_attributes(attributes)

    def end(self, *, failed: bool = False, at: int | None = None) -> None:
        """What it tells of is over, now or since an instant."""
        if failed:
            self._span.set_status(trace.StatusCode.ERROR)
        self._span.end(at)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end(failed=error is not None)


class _Counting(BatchSpanProcessor):
    """Counts what is to be exported. Its queue is bounded: when it is full, the oldest span is lost."""

    def on_end(self, span: ReadableSpan) -> None:
        metrics.spans_sampled.inc()
        super().on_end(span)


class _Exporter(OTLPSpanExporter):
    """Counts what was exported."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        if result is SpanExportResult.SUCCESS:
            metrics.spans_exported.inc(len(spans))
        return result
