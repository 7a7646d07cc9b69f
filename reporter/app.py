"""The reporter's HTTP side: the reports, the pages, the documentation, the pipeline's state, health and metrics.

Every answer carries an X-Correlation-Id, and every error is a problem document.
"""

from __future__ import annotations

from typing import Any

from litestar import Litestar, Request, Response, get
from litestar.datastructures import State
from litestar.enums import HttpMethod, ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from core.health import LIVE, Readiness
from core.metrics import CONTENT_TYPE, exposition
from reporter import answer, formats, metrics, openapi, page
from reporter.compress import compressed
from reporter.correlate import correlated
from reporter.endpoint import Endpoint, Reading
from reporter.failure import failure
from reporter.pipeline import Pipeline, read_pipeline
from reporter.query import QueryParams
from reporter.read import Pool, check, read_again
from reporter.reports import FILES, REPORTS
from reporter.settings import ReporterSettings
from reporter.share import SingleFlight

Asking = Request[Any, Any, State]


def create_app(pool: Pool, settings: ReporterSettings) -> ASGIApp:
    """The ASGI application over a pool of connections that can only read."""
    metrics.watch(pool)
    readings = SingleFlight[Reading]()
    app = Litestar(
        route_handlers=[
            *(Endpoint(report, pool, settings, readings).route() for report in (*REPORTS, *FILES)),
            *(pipeline, page.router(), document, live, ready, scrape),
        ],
        state=State({"pool": pool, "readiness": Readiness("postgres", "schema"), "document": openapi.document()}),
        openapi_config=None,  # ours comes from the reports' declarations
        exception_handlers={Exception: failed},
        logging_config=None,  # its own would take the place of ours: lines that are not JSON
    )
    return correlated(compressed(head_as_get(app)))


def head_as_get(app: ASGIApp) -> ASGIApp:
    """The same app, where HEAD is answered as GET: the server leaves the body out."""

    async def answer_head(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["method"] == HttpMethod.HEAD:
            scope["method"] = HttpMethod.GET
        await app(scope, receive, send)

    return answer_head


def failed(_: Asking, error: Exception) -> Response[bytes]:
    """The problem document of an error."""
    problem, headers = failure(error)
    return Response(answer.encode(problem), status_code=problem.status, media_type=answer.PROBLEM, headers=headers)


@get("/pipeline")
async def pipeline(request: Asking) -> Response[Pipeline]:
    QueryParams(request.scope["query_string"], ())
    state = await read_again(lambda: read_pipeline(request.app.state.pool))
    return Response(state, headers=answer.NOT_KEPT)


@get("/openapi.json")
async def document(request: Asking) -> Response[Any]:
    return page.file(request, request.app.state.document, openapi.MEDIA_TYPE)


@get("/health/live", media_type=formats.JSON)
async def live() -> Response[bytes]:
    return Response(LIVE, headers=answer.NOT_KEPT)


@get("/health/ready")
async def ready(request: Asking) -> Response[bytes]:
    readiness = request.app.state.readiness
    await check(request.app.state.pool, readiness)
    status, body = readiness.answer()
    return Response(body, status_code=status, media_type=formats.JSON, headers=answer.NOT_KEPT)


@get("/metrics")
async def scrape(request: Asking) -> Response[bytes]:
    await metrics.read_database(request.app.state.pool)
    return Response(exposition(), headers={"Content-Type": CONTENT_TYPE, "Vary": "Accept-Encoding", **answer.NOT_KEPT})
