"""The scope of one request to POST /events: origin, span, stage times and access log line.

    arrived --done(RECEIVE)--> --done(DECODE)--> --start_publish_span, done(PUBLISH)--> --answer--> the response
        \\--any error------------------------------------------------------------> the response for that error
    the response --> counted, timed; logged if it failed or is in the sample

Invariant: each request is answered, counted and timed once. Exception: CancelledError is raised to the caller, and a
cancelled request has no response.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import structlog

from core import faults, tracing
from core.access_log import Sampler
from core.errors import RetryableError
from gateway import answer, metrics
from gateway.answer import Answer
from gateway.batch import Batch
from gateway.correlation import Origin, origin
from gateway.faults import Point
from gateway.metrics import BufferedHistogram, Stages
from gateway.rejection import Rejected

if TYPE_CHECKING:
    from core.spans import Span

log = structlog.get_logger()


class Stage(NamedTuple):
    """A stage of a request: its histogram of seconds, and the fault point at its end."""

    histogram: BufferedHistogram
    fault_point: Point


RECEIVE: Final = Stage(Stages.RECEIVE, Point.READ)
DECODE: Final = Stage(Stages.DECODE, Point.DECODED)
PUBLISH: Final = Stage(Stages.PUBLISH, Point.ACKED)


class AccessLog:
    """The access log: one line for each failed request, and for a sample of the others."""

    def __init__(self) -> None:
        self._sampler = Sampler()
        self._log = log.bind()  # `log` itself reads structlog's configuration again for each line

    def write(self, correlation_id: str, status: int, milliseconds: float, fields: Mapping[str, object]) -> None:
        """Log an answered request if it failed or is in the sample."""
        if represented := 1 if status >= 400 else self._sampler.sample():
            self._log.info(
                "request",
                correlation_id=correlation_id,
                status=status,
                **fields,
                milliseconds=milliseconds,
                sampled=represented,  # how many requests this line represents
            )


class RequestScope:
    """One request, as a context manager that turns an error into a response. `response` exists after the block."""

    __slots__ = ("_access_log", "_began", "_log_fields", "_publish_span", "_span", "_stage_began", "origin", "response")

    response: Answer

    def __init__(self, headers: Mapping[str, str], body_bytes: int, access_log: AccessLog) -> None:
        self.origin = origin(headers)
        self._access_log = access_log
        spans = tracing.spans
        self._span = spans.start("POST /events", self.origin.traceparent, "SERVER") if spans else None
        self._publish_span: Span | None = None
        self._log_fields: dict[str, object] = {"bytes": body_bytes}
        self._began = self._stage_began = time.perf_counter()

    def done(self, stage: Stage) -> None:
        """Record the duration of the stage that ends now. Raises Injected if a test armed its fault point."""
        if self._publish_span is not None:
            self._publish_span.end()
            self._publish_span = None
        self._observe(stage.histogram)
        if faults.ARMED:
            faults.reached(stage.fault_point)

    def start_publish_span(self) -> Origin:
        """Start the publish span, if tracing is on. Return the origin for the messages, with that span as parent."""
        if self._span is None:
            return self.origin
        self._publish_span = self._span.child("publish", "PRODUCER")
        return self.origin._replace(traceparent=self._publish_span.traceparent)

    def answer(self, batch: Batch) -> None:
        """Set the response to a decoded batch: 202 or 422, with its counts."""
        self.response = answer.batch(batch, self.origin.correlation_id)
        if self._span is not None:
            self._span.set_attributes(
                {"sluice.accepted": batch.accepted_events, "sluice.rejected": batch.rejected_events}
            )
        self._log_fields |= {"accepted": batch.accepted_events, "rejected": batch.rejected_events}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if self._publish_span is not None:
            self._publish_span.end(failed=True)
        if error is not None:
            if not isinstance(error, Exception):
                return False
            self._fail(error)
        self._finish()
        return True

    def _fail(self, error: Exception) -> None:
        correlation_id = self.origin.correlation_id
        if isinstance(error, Rejected):
            self._log_fields["rejection"] = error.rejection.value
            self.response = reject(error, correlation_id)
        elif isinstance(error, RetryableError):
            self._log_fields["error"] = repr(error)
            self.response = answer.retryable(error, correlation_id)
        else:
            log.error("request failed", correlation_id=correlation_id, exc_info=error)
            self.response = answer.failed(correlation_id)

    def _observe(self, histogram: BufferedHistogram) -> None:
        """Add the time since the previous stage ended to a histogram."""
        now = time.perf_counter()
        histogram.observe(now - self._stage_began)
        self._stage_began = now

    def _finish(self) -> None:
        status, correlation_id = self.response.status, self.origin.correlation_id
        metrics.requests[status].inc()
        self._observe(Stages.ANSWER)
        self._access_log.write(
            correlation_id, status, round((self._stage_began - self._began) * 1000, 1), self._log_fields
        )
        if self._span is not None:
            self._span.set_attributes({"http.response.status_code": status, "sluice.correlation_id": correlation_id})
            self._span.end(failed=status >= 500)


def reject(error: Rejected, correlation_id: str, **headers: str) -> Answer:
    """Count a request that is rejected as a whole and return its response."""
    metrics.rejections[error.rejection].inc()
    return answer.rejected(error, correlation_id, **headers)
