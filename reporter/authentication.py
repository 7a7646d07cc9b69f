"""ASGI middleware: a valid token for everything but health and metrics.

health, metrics ------------------> the application
valid token  --token in the scope-> the application, which restricts a report to the token's sources
anything else --------------------> 401, a problem document with WWW-Authenticate
"""

from __future__ import annotations

from typing import Final

from litestar.enums import ScopeType
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from reporter import answer
from reporter.correlation import HEALTH_AND_METRICS
from reporter.error_responses import problem_for
from reporter.tokens import CHALLENGE, Tokens, Unauthenticated, keep_token

_VARY: Final = (b"vary", b"Authorization")  # the answer to one URL depends on the token's sources


def with_tokens(app: ASGIApp, tokens: Tokens | None) -> ASGIApp:
    """Wrap an app so that requests need one of the tokens. Without tokens, every request passes."""
    if tokens is None:
        return app

    async def authenticate(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["path"] in HEALTH_AND_METRICS:
            await app(scope, receive, send)
            return

        async def send_with_vary(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], _VARY]
            await send(message)

        try:
            header = dict(scope["headers"]).get(b"authorization")
            token = tokens.authenticate(None if header is None else header.decode("latin-1"))
        except Unauthenticated as error:
            problem, headers = problem_for(error)
            response = ASGIResponse(
                body=answer.encode(problem),
                status_code=problem.status,
                media_type=answer.PROBLEM,
                headers={**headers, "WWW-Authenticate": CHALLENGE},
            )
            await response(scope, receive, send_with_vary)
        else:
            keep_token(scope, token)
            await app(scope, receive, send_with_vary)

    return authenticate
