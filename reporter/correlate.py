"""One correlation ID for each request: in its log lines and in the header of its answer."""

from __future__ import annotations

from typing import Final

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from core.correlation import HEADER, names

_HEADER: Final = HEADER.lower().encode()


def correlated(app: ASGIApp) -> ASGIApp:
    """The same app, each request under the correlation ID that it brought, or else under a new one."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await app(scope, receive, send)
            return
        correlation_id = _correlation_id(scope)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (_HEADER, correlation_id.encode())]
            await send(message)

        with structlog.contextvars.bound_contextvars(correlation_id=correlation_id):
            await app(scope, receive, send_with_id)

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
    return names(given, traceparent).correlation_id
