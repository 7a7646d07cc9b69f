"""ASGI middleware: a correlation ID and an access log line for each request."""

from __future__ import annotations

from time import perf_counter
from typing import Final

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from core.access_log import Sampler
from core.correlation import HEADER, request_ids
from reporter.tokens import token_of

HEALTH_AND_METRICS: Final = frozenset({"/health/live", "/health/ready", "/metrics"})
"""Paths that are not logged and need no token: orchestrators and Prometheus request them, and no figure is in them."""
log = structlog.get_logger()

_HEADER: Final = HEADER.lower().encode()


def with_correlation_id(app: ASGIApp) -> ASGIApp:
    """Wrap an app so that each request has a correlation ID and is logged when its response ends.

    The ID is the request's own if it has a valid one, otherwise a new one. It is in each log line of the request and
    in the header of the response. The access log line has the bytes and the time of the whole response. Status 0 means
    that the client disconnected before the response started.
    """
    sampler = Sampler()

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        correlation_id = _correlation_id(scope)
        started = perf_counter()
        status = size = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (_HEADER, correlation_id.encode())]
            elif message["type"] == "http.response.body":
                size += len(message["body"])
            await send(message)

        with structlog.contextvars.bound_contextvars(correlation_id=correlation_id):
            try:
                await app(scope, receive, send_with_id)
            finally:
                seconds = perf_counter() - started
                failed = not 0 < status < 400
                # An unknown path is text of the client: not logged. Without a token, every path may be unknown.
                path = scope["path"] if status not in (401, 404) else None
                token = token_of(scope)
                audited = failed or token is not None  # with tokens, the log is the audit: it has every request
                if path not in HEALTH_AND_METRICS and (sampled := 1 if audited else sampler.sample()):
                    who = {} if token is None else {"token": token.name}
                    milliseconds = round(seconds * 1000, 1)
                    log.info(
                        "request",
                        path=path,
                        status=status,
                        bytes=size,
                        milliseconds=milliseconds,
                        sampled=sampled,
                        **who,
                    )

    return answer


def current_correlation_id() -> str | None:
    """Return the correlation ID of the current request, None outside of a request."""
    correlation_id = structlog.contextvars.get_contextvars().get("correlation_id")
    return correlation_id if correlation_id is None else str(correlation_id)


def _correlation_id(scope: HTTPScope) -> str:
    headers = dict(scope["headers"])
    header_value, traceparent = (
        None if (value := headers.get(name)) is None else value.decode("latin-1") for name in (_HEADER, b"traceparent")
    )
    return request_ids(header_value, traceparent).correlation_id
