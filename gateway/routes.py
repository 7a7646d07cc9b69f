"""The routes of one worker: POST /events goes to `gateway.receive`; all other paths are handled here.

Invariant: each path has a response for each method: a page, 405 with the allowed methods, or 404.
"""

from __future__ import annotations

import posixpath
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote

import structlog

from core.health import LIVE
from core.metrics import CONTENT_TYPE, exposition
from gateway import answer, metrics
from gateway.admission import Admission
from gateway.answer import Answer
from gateway.correlation import origin
from gateway.documentation import Document, documents
from gateway.link import Link
from gateway.receive import IngestHandler
from gateway.rejection import Rejected, Rejection
from gateway.robyn_api import Request, Response
from gateway.scope import reject
from gateway.signature import Signatures

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
_NO_STORE: Final = {"Cache-Control": "no-store"}  # a value of this process at this moment must not be cached

Handler = Callable[[Request], Awaitable[Response]]
log = structlog.get_logger()


class Route(NamedTuple):
    """The handler of requests with this method to this path."""

    method: str
    path: str
    handler: Handler


class Routes:
    """The routes of one worker."""

    def __init__(self, handler: IngestHandler, admission: Admission, signatures: Signatures, link: Link) -> None:
        self._handler = handler
        self._admission = admission
        self._signatures = signatures
        self._link = link

    def __iter__(self) -> Iterator[Route]:
        events: dict[str, Handler] = {"POST": self._events}
        if self._signatures.answers_challenges:
            events["GET"] = self._challenge
        pages: dict[str, dict[str, Handler]] = {
            "/events": events,
            "/health/live": {"GET": self._live, "HEAD": self._live},
            "/health/ready": {"GET": self._ready, "HEAD": self._ready},
            "/health/capacity": {"GET": self._capacity},
            "/metrics": {"GET": self._metrics},
            **{path: dict.fromkeys(("GET", "HEAD"), _serve(document)) for path, document in documents().items()},
            "/": {},
            "/*elsewhere": {},
        }
        for path, handlers in pages.items():
            for method in METHODS:
                yield Route(method, path, handlers.get(method) or _no_page(method, pages, ", ".join(handlers)))

    async def _events(self, request: Request) -> Response:
        return _response(await self._handler.receive(request.headers.to_dict(), _take_body(request)))

    async def _challenge(self, request: Request) -> Response:
        """Answer Meta's verification request with its challenge."""
        correlation_id = _correlation_id(request)
        query = {name: values[-1] for name, values in request.query_params.to_dict().items()}
        try:
            text = self._signatures.challenge(
                mode=query.get("hub.mode"), token=query.get("hub.verify_token"), challenge=query.get("hub.challenge")
            )
        except Rejected as error:
            return _rejected(error, correlation_id)
        return _response(answer.challenge(text, correlation_id))

    async def _live(self, _: Request) -> Response:
        return Response(200, {"Content-Type": "application/json", **_NO_STORE}, LIVE)

    async def _ready(self, _: Request) -> Response:
        status, body = self._link.health()
        return Response(status, {"Content-Type": "application/json", **_NO_STORE}, body)

    async def _capacity(self, request: Request) -> Response:
        """Return when a body over the limit may be sent again; nginx asks this for requests that it rejects."""
        return _response(answer.capacity(self._admission.wait_seconds(), _correlation_id(request)))

    async def _metrics(self, _: Request) -> Response:
        measure(self._admission)
        return Response(200, {"Content-Type": CONTENT_TYPE, **_NO_STORE}, exposition())


def measure(admission: Admission) -> None:
    """Update all metrics before a scrape."""
    admission.measure()
    metrics.flush()


def _no_page(method: str, pages: Mapping[str, Mapping[str, Handler]], allowed: str = "") -> Handler:
    """Return a handler that answers 405 with the allowed methods, or 404. It serves other spellings of a page's
    path."""

    async def reject_request(request: Request) -> Response:
        if not allowed and (handlers := pages.get(_normalize(request.url.path))):
            handler = handlers.get(method) or _no_page(method, pages, ", ".join(handlers))
            return await handler(request)
        if allowed:
            error = Rejected(Rejection.WRONG_METHOD, f"{request.url.path} allows {allowed}")
            return _rejected(error, _correlation_id(request), Allow=allowed)
        return _rejected(Rejected(Rejection.UNKNOWN_PATH, "send events to POST /events"), _correlation_id(request))

    return reject_request


def _normalize(path: str) -> str:
    """Return a path as nginx compares it: `//events/`, `/%65vents` and `/./events` are `/events`."""
    return "/" + posixpath.normpath(unquote(path)).strip("/")


def _correlation_id(request: Request) -> str:
    return origin(request.headers.to_dict()).correlation_id


def _rejected(error: Rejected, correlation_id: str, **headers: str) -> Response:
    """Count, log and answer a request that is rejected as a whole."""
    response = reject(error, correlation_id, **headers)
    log.info("request", correlation_id=correlation_id, status=response.status, rejection=error.rejection.value)
    return _response(response)


def _take_body(request: Request) -> bytes | str:
    """Return the body and remove it from the request."""
    body: bytes | str = request.body
    request.body = ""
    return body


def _response(response: Answer) -> Response:
    return Response(response.status, response.headers, response.body)


def _serve(document: Document) -> Handler:
    async def serve(_: Request) -> Response:
        return Response(200, dict(document.headers), document.body)

    return serve
