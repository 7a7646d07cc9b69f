"""One correlation ID for each request: in its log lines and in the header of its answer. And one log line for each."""

from __future__ import annotations

from time import perf_counter
from typing import Final

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from core.access_log import Sampler
from core.correlation import HEADER, request_ids

UNLOGGED: Final = frozenset({"/health/live", "/health/ready", "/metrics"})
log = structlog.get_logger()

_HEADER: Final = HEADER.lower().encode()


def correlated(app: ASGIApp) -> ASGIApp:
    """The same app, each request under the correlation ID that it brought, or else under a new one, and logged.

    The line has bytes and time of the whole answer. Status 0: the client disconnected before it began.
    """
    sampler = Sampler()

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        correlation_id = _correlation_id(scope)
        began = perf_counter()
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
                seconds = perf_counter() - began
                failed = not 0 < status < 400
                path = scope["path"] if status != 404 else None  # a path of ours, or else the client's own words
                if path not in UNLOGGED and (sampled := 1 if failed else sampler.sample()):
                    milliseconds = round(seconds * 1000, 1)
                    log.info(
                        "request", path=path, status=status, bytes=size, milliseconds=milliseconds, sampled=sampled
                    )

    return answer


def current() -> str | None:
    """The correlation ID of the request that is being answered."""
    found = structlog.contextvars.get_contextvars().get("correlation_id")
    return found if found is None else str(found)


def _correlation_id(scope: HTTPScope) -> str:
    headers = dict(scope["headers"])
    given, traceparent = (
        None if (value := headers.get(name)) is None else value.decode("latin-1") for name in (_HEADER, b"traceparent")
    )
    return request_ids(given, traceparent).correlation_id
