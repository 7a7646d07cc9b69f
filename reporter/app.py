"""The reporter's HTTP side: reports (query -> read -> answer), the page, the documentation, health and metrics.

Every answer carries an X-Correlation-Id, and every error is a problem document.
"""

from __future__ import annotations

import dataclasses
from datetime import timedelta
from functools import lru_cache
from time import perf_counter
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

import structlog
from litestar import Litestar, Request, Response, get
from litestar.datastructures import State
from litestar.enums import HttpMethod, ScopeType
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream
from litestar.types import ASGIApp, Receive, Scope, Send

from core import tracing
from core.health import LIVE, Readiness
from core.metrics import CONTENT_TYPE, exposition
from core.settings import ReporterSettings
from core.steps import Steps
from reporter import answer, formats, metrics, openapi, page
from reporter.compress import compressed
from reporter.correlate import correlated, current
from reporter.pipeline import Pipeline, read_pipeline
from reporter.query import AFTER, BOM, Asked
from reporter.read import Pool, check, read_again, snapshot, statement
from reporter.reports.demographics import AUDIENCES, DEMOGRAPHICS, DemographicsAnswer
from reporter.reports.events import EVENTS, EventsAnswer
from reporter.reports.report import Answer, AnyReport
from reporter.reports.revenue import PURCHASES, REVENUE, RevenueAnswer
from reporter.share import Shared

log = structlog.get_logger()
Asking = Request[Any, Any, State]
KEPT_QUERIES = 64  # of dashboards, that ask the same again and again; the largest take a megabyte
_BY_PATH = {f"/reports/{report.name}": report for report in (EVENTS, REVENUE, DEMOGRAPHICS)}
_FILES = {
    f"{path}.csv": dataclasses.replace(report, parameters=(*report.parameters, BOM))
    for path, report in _BY_PATH.items()
}


def create_app(pool: Pool, settings: ReporterSettings) -> ASGIApp:
    """The ASGI application over a pool of connections that can only read."""
    metrics.watch(pool)
    app = Litestar(
        route_handlers=[
            *(events, revenue, demographics, pipeline),
            *(_file(path, asked) for path, asked in _FILES.items()),
            *(page.router(), document, live, ready, scrape),
        ],
        state=State(
            {
                "pool": pool,
                "settings": settings,
                "readiness": Readiness("postgres", "schema"),
                "readings": Shared[Reading](),
            }
        ),
        openapi_config=openapi.config(),
        exception_handlers={Exception: failed},
        logging_config=None,  # its own would take the place of ours: lines that are not JSON
    )
    app.state["document"] = openapi.document(app.openapi_schema, _BY_PATH.values())
    return correlated(compressed(straight(app)))


def straight(app: Litestar) -> ASGIApp:
    """The same app, where a GET of a report goes straight to `report`, as the app's own handlers do: through routes,
    signatures and middleware a report costs a tenth more."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == ScopeType.HTTP and scope["method"] == HttpMethod.HEAD:
            scope["method"] = HttpMethod.GET  # the server leaves the body out
        asked = _BY_PATH.get(scope["path"]) if scope["type"] == ScopeType.HTTP and scope["method"] == "GET" else None
        if asked is None:
            await app(scope, receive, send)
            return
        scope["litestar_app"] = app
        request: Asking = Request(scope)
        response = await report(request, asked)
        await response.to_asgi_response(None, request)(scope, receive, send)

    return answer


@get(
    "/reports/events",
    operation_id="getEventsReport",
    summary="Counts of events",
    description="Events of a range by bucket, and by source, funnel stage and type where `groupBy` asks for it. "
    "Buckets and groups without events are there, with 0.",
    operation_class=openapi.operation(EVENTS),
    responses=openapi.RESPONSES,
)
async def events(request: Asking) -> Response[EventsAnswer]:
    return await report(request, EVENTS)


@get(
    "/reports/revenue",
    operation_id="getRevenueReport",
    summary="Revenue",
    description=f"Amounts of {PURCHASES}, and of no other event. "
    "**No currency is known**: the events name none, amounts are added as they came, and `currency` is always null.",
    operation_class=openapi.operation(REVENUE),
    responses=openapi.RESPONSES,
)
async def revenue(request: Asking) -> Response[RevenueAnswer]:
    return await report(request, REVENUE)


@get(
    "/reports/demographics",
    operation_id="getDemographicsReport",
    summary="Audience",
    description=f"Events of a range by who caused them: {AUDIENCES}. Ranked dimensions are counted from the events "
    "themselves, for short ranges only.",
    operation_class=openapi.operation(DEMOGRAPHICS),
    responses=openapi.RESPONSES,
)
async def demographics(request: Asking) -> Response[DemographicsAnswer]:
    return await report(request, DEMOGRAPHICS)


def _file(path: str, asked: AnyReport) -> HTTPRouteHandler:
    @get(
        path,
        operation_id=f"download{asked.name.capitalize()}Report",
        summary=f"{asked.name.capitalize()} as a file",
        description="The report's table in CSV for spreadsheets, with a name to save it under. Texts of senders that "
        "would be formulas have a `'` before them.",
        operation_class=openapi.operation(asked, as_file=True),
        responses=openapi.AWAY,
    )
    async def download(request: Asking) -> Response[Any]:
        return await report(request, asked, as_file=True)

    return download


@get(
    "/pipeline",
    operation_id="getPipeline",
    summary="The pipeline",
    description="Its state, as the database knows it: rates, lag, refused and dead events, the ledger of the newest "
    "messages. Cheap: ask every two seconds.",
    responses=openapi.AWAY,
)
async def pipeline(request: Asking) -> Response[Pipeline]:
    try:
        Asked(request.scope["query_string"], ())
        state = await read_again(lambda: read_pipeline(request.app.state.pool))
    except Exception as error:
        return failed(request, error)
    return Response(state, headers=answer.NOT_KEPT)


async def report(request: Asking, asked: AnyReport, *, as_file: bool = False) -> Response[Any]:
    """Answer one report, whatever comes: in the format that the client accepts, or as a CSV file."""
    began = perf_counter()
    sent = dict(request.scope["headers"])  # a tenth of what a Headers object costs
    steps = Steps()
    try:
        kind = formats.CSV if as_file else answer.media_type(_text(sent.get(b"accept")))
        path, asking = request.scope["path"], request.scope["query_string"]
        readings: Shared[Reading] = request.app.state.readings
        reading = await readings.read((path, kind, asking), lambda: _read(request, asked, kind, steps, as_file=as_file))
        if not steps.ended:
            steps.done("shared")  # the reading of another request
        response = answered(kind, reading, _text(sent.get(b"if-none-match")))
        steps.done("answer")
    except Exception as error:
        response = failed(request, error)
    seconds, status = perf_counter() - began, response.status_code or 200
    response.headers["Server-Timing"] = f"report;dur={seconds * 1000:.2f}"
    metrics.duration.labels(asked.name).observe(seconds)
    metrics.reports.labels(asked.name, status).inc()
    if tracing.spans:
        told: dict[str, str | int] = {"http.response.status_code": status, "sluice.correlation_id": current() or ""}
        tracing.spans.tell(
            f"GET {request.url.path}", _text(sent.get(b"traceparent")), "SERVER", steps, told, failed=status >= 500
        )
    return response


class Reading(NamedTuple):
    """An answer as all who asked for it at once get it. A CSV is written as it is sent: `body` is its form."""

    answer: Answer
    headers: dict[str, str]
    body: bytes | formats.CsvForm


async def _read(request: Asking, asked: AnyReport, kind: str, steps: Steps, *, as_file: bool) -> Reading:
    """query -> read -> answer. Raises what `answer.problem` tells."""
    settings: ReporterSettings = request.app.state.settings
    query, with_bom = _understood(asked, request.scope["query_string"], settings)
    steps.done("query")
    moment = statement if query.in_one_statement else snapshot

    async def read() -> Answer:
        async with moment(request.app.state.pool, query.sources) as seen:
            return await asked.read(seen, query)

    found = await read_again(read)
    steps.done("read")
    closed = answer.is_closed(found, timedelta(days=settings.max_event_age_days))
    following = f"{request.url.path}?{_next(request, found.next)}" if found.next else None
    encoded = formats.json(found)  # of every format: the entity tag comes from it
    headers = answer.headers(found, answer.entity_tag(kind, found, encoded), closed=closed, following=following)
    if kind != formats.CSV:
        return Reading(found, headers, formats.arrow(found) if kind == formats.ARROW else encoded)
    if not as_file:
        return Reading(found, headers, formats.CsvForm.PROGRAM)
    headers["Content-Disposition"] = f'attachment; filename="{formats.file_name(asked.name, found)}"'
    return Reading(found, headers, formats.CsvForm.FILE_WITH_BOM if with_bom else formats.CsvForm.FILE)


@lru_cache(KEPT_QUERIES)
def _understood(asked: AnyReport, query_string: bytes, settings: ReporterSettings) -> tuple[Any, bool]:
    """The query of a URL, and whether a byte order mark is asked for. It means the same whenever it is asked; only what
    is cheapest to read may change with the hour, and what was cheapest once stays exact. Raises BadQuery."""
    given = Asked(query_string, asked.parameters)
    return asked.ask(given, settings), given.choice(BOM.name) == "true"


def answered(kind: str, reading: Reading, known: str | None) -> Response[Any]:
    """The answer, or 304 where the client has it already."""
    headers = dict(reading.headers)
    if answer.is_known(headers["ETag"], known):
        return Response(None, status_code=304, headers=headers)
    if isinstance(reading.body, bytes):
        return Response(reading.body, media_type=kind, headers=headers)
    return Stream(formats.csv(reading.answer, reading.body), media_type=kind, headers=headers)


def _text(header: bytes | None) -> str | None:
    return None if header is None else header.decode("latin-1")


def _next(request: Asking, after: str) -> str:
    kept = [(name, value) for name, value in parse_qsl(request.url.query, keep_blank_values=True) if name != AFTER.name]
    return urlencode([*kept, (AFTER.name, after)])


def failed(_: Asking, error: Exception) -> Response[Any]:
    """The problem document of an error; what is not the client's doing is logged."""
    problem, headers = answer.problem(error)
    if problem.status == 500:
        log.error("report failed", exc_info=error)
    elif problem.status > 500:
        log.warning("report failed", error=repr(error))
    problem.correlation_id = current() or problem.correlation_id
    return Response(
        answer.encode(problem),
        status_code=problem.status,
        media_type=answer.PROBLEM,
        headers={**headers, **answer.NOT_KEPT},
    )


@get("/openapi.json", include_in_schema=False)
async def document(request: Asking) -> Response[Any]:
    return page.file(request, request.app.state.document, openapi.MEDIA_TYPE)


@get("/health/live", include_in_schema=False, media_type=formats.JSON)
async def live() -> Response[bytes]:
    return Response(LIVE, headers=answer.NOT_KEPT)


@get("/health/ready", include_in_schema=False)
async def ready(request: Asking) -> Response[bytes]:
    readiness = request.app.state.readiness
    await check(request.app.state.pool, readiness)
    status, body = readiness.answer()
    return Response(body, status_code=status, media_type=formats.JSON, headers=answer.NOT_KEPT)


@get("/metrics", include_in_schema=False)
async def scrape(request: Asking) -> Response[bytes]:
    await metrics.read_database(request.app.state.pool)
    return Response(exposition(), headers={"Content-Type": CONTENT_TYPE, "Vary": "Accept-Encoding", **answer.NOT_KEPT})
