"""The reporter's HTTP application: reports, web pages, API documentation, pipeline state, health and metrics.

Every response has an X-Correlation-Id, and every error is a problem document.
"""

from __future__ import annotations

from typing import Any

import structlog
from litestar import Litestar, Request, Response, get
from litestar.datastructures import State
from litestar.enums import HttpMethod, ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from core.health import LIVE, Readiness
from core.metrics import CONTENT_TYPE, exposition
from reporter import answer, formats, metrics, openapi, page
from reporter.authentication import with_tokens
from reporter.compress import with_gzip
from reporter.correlation import with_correlation_id
from reporter.database import Pool, check_readiness, retry_once
from reporter.endpoint import Endpoint, RenderedAnswer
from reporter.error_responses import problem_for
from reporter.pipeline import Pipeline, of_sources, read_pipeline
from reporter.query_params import QueryParams
from reporter.reports import FILES, REPORTS
from reporter.settings import ReporterSettings
from reporter.single_flight import SingleFlight
from reporter.tokens import parse_tokens, token_of

log = structlog.get_logger()

AppRequest = Request[Any, Any, State]


def create_app(pool: Pool, settings: ReporterSettings) -> ASGIApp:
    """Return the ASGI application over a pool of read-only connections. Raises Misconfigured for invalid tokens."""
    tokens = parse_tokens(settings.reporter_tokens)
    if tokens is None:
        log.warning("reports are open to every client", fix="set REPORTER_TOKENS_FILE")
    else:
        log.info("reports need a token", names=tokens.names)
    metrics.watch(pool)
    single_flight = SingleFlight[RenderedAnswer]()
    app = Litestar(
        route_handlers=[
            *(Endpoint(report, pool, settings, single_flight).route() for report in (*REPORTS, *FILES)),
            *(pipeline, page.router(), document, live, ready, scrape),
        ],
        state=State({"pool": pool, "readiness": Readiness("postgres", "schema"), "document": openapi.document()}),
        openapi_config=None,  # `reporter.openapi` writes the document from the declarations of the reports
        exception_handlers={Exception: error_response},
        logging_config=None,  # Litestar would replace our JSON logging by its own
    )
    return with_correlation_id(with_tokens(with_gzip(with_head(app)), tokens))


def with_head(app: ASGIApp) -> ASGIApp:
    """Wrap an app so that it handles HEAD as GET; the server leaves the body out."""

    async def answer_head(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["method"] == HttpMethod.HEAD:
            scope["method"] = HttpMethod.GET
        await app(scope, receive, send)

    return answer_head


def error_response(_: AppRequest, error: Exception) -> Response[bytes]:
    """Return the problem document of an error as a response."""
    problem, headers = problem_for(error)
    return Response(answer.encode(problem), status_code=problem.status, media_type=answer.PROBLEM, headers=headers)


@get("/pipeline")
async def pipeline(request: AppRequest) -> Response[Pipeline]:
    QueryParams(request.scope["query_string"], ())
    state = await retry_once(lambda: read_pipeline(request.app.state.pool))
    if (token := token_of(request.scope)) is not None and token.sources is not None:
        state = of_sources(state, token.sources)
    return Response(state, headers=answer.NO_STORE)


@get("/openapi.json")
async def document(request: AppRequest) -> Response[Any]:
    return page.file(request, request.app.state.document, openapi.MEDIA_TYPE)


@get("/health/live", media_type=formats.JSON)
async def live() -> Response[bytes]:
    return Response(LIVE, headers=answer.NO_STORE)


@get("/health/ready")
async def ready(request: AppRequest) -> Response[bytes]:
    readiness = request.app.state.readiness
    await check_readiness(request.app.state.pool, readiness)
    status, body = readiness.answer()
    return Response(body, status_code=status, media_type=formats.JSON, headers=answer.NO_STORE)


@get("/metrics")
async def scrape(request: AppRequest) -> Response[bytes]:
    await metrics.read_database(request.app.state.pool)
    return Response(exposition(), headers={"Content-Type": CONTENT_TYPE, "Vary": "Accept-Encoding", **answer.NO_STORE})
