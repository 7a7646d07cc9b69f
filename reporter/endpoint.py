"""Answer one report over HTTP: query -> read -> answer.

Litestar routes to each report as to an ASGI application. A handler with a signature and a response model takes 12 to
15 % more CPU for a small report: 53 µs instead of 32 in a tight loop around a reading that is there already, 470 µs
instead of 420 with the reading.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from time import perf_counter
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

from litestar import asgi
from litestar.enums import ScopeType
from litestar.exceptions import MethodNotAllowedException
from litestar.handlers import ASGIRouteHandler
from litestar.response.base import ASGIResponse
from litestar.response.streaming import ASGIStreamingResponse
from litestar.types import HTTPScope, Receive, Scope, Send

from core import tracing
from core.steps import Steps
from reporter import answer, formats, metrics
from reporter.correlate import current
from reporter.failure import failure
from reporter.parameters import AFTER, BOM
from reporter.query import QueryParams
from reporter.read import Pool, read_again, snapshot, statement
from reporter.reports.report import Answer, AnyReport
from reporter.settings import ReporterSettings
from reporter.share import SingleFlight

KEPT_QUERIES = 64  # of dashboards, that ask the same again and again; the largest take a megabyte
ALLOWED = {"Allow": "GET, OPTIONS"}


class Reading(NamedTuple):
    """An answer as all who asked for it at once get it. A CSV is written as it is sent: `body` is its form."""

    answer: Answer
    headers: Mapping[str, str]
    body: bytes | formats.CsvForm


@dataclass(frozen=True)
class Endpoint:
    """Answers one report. Requests that come together share a reading of `readings`."""

    report: AnyReport
    pool: Pool
    settings: ReporterSettings
    readings: SingleFlight[Reading]

    def route(self) -> ASGIRouteHandler:
        """The route to it."""

        @asgi(self.report.path, copy_scope=False)
        async def answer_report(scope: Scope, receive: Receive, send: Send) -> None:
            assert scope["type"] == ScopeType.HTTP
            response = await self.respond(scope)
            await response(scope, receive, send)

        return answer_report

    async def respond(self, scope: HTTPScope) -> ASGIResponse:
        """Answer whatever comes: in the format that the client accepts, or as a CSV file. Raises
        MethodNotAllowedException."""
        if scope["method"] == "OPTIONS":
            return ASGIResponse(status_code=204, headers=ALLOWED)
        if scope["method"] != "GET":
            raise MethodNotAllowedException(headers=ALLOWED)
        began = perf_counter()
        sent = dict(scope["headers"])  # a tenth of what a Headers object costs
        steps = Steps()
        try:
            kind = formats.CSV if self.report.is_file else answer.media_type(_text(sent.get(b"accept")))
            params = scope["query_string"]
            reading = await self.readings.read(
                (self.report.path, kind, params), lambda: self._read(kind, params, steps)
            )
            if not steps.ended:
                steps.done("shared")  # the reading of another request
            response = _response(kind, reading, _text(sent.get(b"if-none-match")))
            steps.done("answer")
        except Exception as error:
            problem, headers = failure(error)
            response = ASGIResponse(
                body=answer.encode(problem), status_code=problem.status, media_type=answer.PROBLEM, headers=headers
            )
        seconds, status = perf_counter() - began, response.status_code
        response.headers["Server-Timing"] = f"report;dur={seconds * 1000:.2f}"
        metrics.duration.labels(self.report.name).observe(seconds)
        metrics.reports.labels(self.report.name, status).inc()
        if tracing.spans:
            attributes: dict[str, str | int] = {
                "http.response.status_code": status,
                "sluice.correlation_id": current() or "",
            }
            traceparent = _text(sent.get(b"traceparent"))
            tracing.spans.record(f"GET {scope['path']}", traceparent, "SERVER", steps, attributes, failed=status >= 500)
        return response

    async def _read(self, kind: str, params: bytes, steps: Steps) -> Reading:
        """query -> read -> answer. Raises what `answer.problem` explains."""
        query, with_bom = _parse(self.report, params, self.settings)
        steps.done("query")
        moment = statement if query.in_one_statement else snapshot

        async def read() -> Answer:
            async with moment(self.pool, query.sources) as seen:
                return await self.report.read(seen, query)

        found = await read_again(read)
        steps.done("read")
        closed = answer.is_closed(found, timedelta(days=self.settings.max_event_age_days))
        following = f"{self.report.path}?{_next(params, found.next)}" if found.next else None
        encoded = formats.json(found)  # of every format: the entity tag comes from it
        headers = answer.headers(found, answer.entity_tag(kind, found, encoded), closed=closed, following=following)
        if kind != formats.CSV:
            return Reading(found, headers, formats.arrow(found) if kind == formats.ARROW else encoded)
        if not self.report.is_file:
            return Reading(found, headers, formats.CsvForm.PROGRAM)
        headers["Content-Disposition"] = f'attachment; filename="{formats.file_name(self.report.name, found)}"'
        return Reading(found, headers, formats.CsvForm.FILE_WITH_BOM if with_bom else formats.CsvForm.FILE)


@lru_cache(KEPT_QUERIES)
def _parse(report: AnyReport, query_string: bytes, settings: ReporterSettings) -> tuple[Any, bool]:
    """The query of a URL, and whether a byte order mark is asked for. It means the same whenever it is asked; only what
    is cheapest to read may change with the hour, and what was cheapest once stays exact. Raises BadQuery."""
    given = QueryParams(query_string, report.parameters)
    return report.ask(given, settings), given.get(BOM) or False


def _response(kind: str, reading: Reading, known: str | None) -> ASGIResponse:
    """The answer, or 304 where the client has it already."""
    headers = dict(reading.headers)
    if answer.is_known(headers["ETag"], known):
        return ASGIResponse(status_code=304, headers=headers)
    if isinstance(reading.body, bytes):
        return ASGIResponse(body=reading.body, media_type=kind, headers=headers)
    return ASGIStreamingResponse(iterator=formats.csv(reading.answer, reading.body), media_type=kind, headers=headers)


def _text(header: bytes | None) -> str | None:
    return None if header is None else header.decode("latin-1")


def _next(params: bytes, after: str) -> str:
    kept = [(name, value) for name, value in parse_qsl(params.decode(), keep_blank_values=True) if name != AFTER.name]
    return urlencode([*kept, (AFTER.name, after)])
