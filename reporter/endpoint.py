"""The HTTP endpoint of one report: parse the query -> read -> answer.

Each report is an ASGI application that Litestar routes to, because a Litestar handler with a signature and a response
model takes more CPU (docs/decisions/0018-cheap-reports.md). A small report takes 420 µs instead of 470 µs. If the
database is replaced by a stub, it takes 32 µs instead of 53 µs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from time import perf_counter
from typing import Any, Final, NamedTuple
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
from reporter.correlation import current_correlation_id
from reporter.database import Pool, open_single_statement, open_snapshot, retry_once
from reporter.error_responses import problem_for
from reporter.parameters import AFTER, BOM
from reporter.query_params import QueryParams
from reporter.reports.report import VERSION_PREFIX, Answer, AnyReport
from reporter.settings import ReporterSettings
from reporter.single_flight import SingleFlight
from reporter.tokens import token_of

CACHED_QUERIES = 64  # parsed queries: a dashboard sends the same ones again; the largest takes 1 MB
ALLOW_HEADER = {"Allow": "GET, OPTIONS"}


class RenderedAnswer(NamedTuple):
    """An answer that concurrent requests share.

    body: the encoded answer. For CSV it is only the dialect, because the rows are encoded while they are sent.
    """

    answer: Answer
    headers: Mapping[str, str]
    body: bytes | formats.CsvDialect


@dataclass(frozen=True)
class Endpoint:
    """Answers one report. `single_flight` lets concurrent requests for the same query share one read."""

    report: AnyReport
    pool: Pool
    settings: ReporterSettings
    single_flight: SingleFlight[RenderedAnswer]

    def route(self) -> ASGIRouteHandler:
        """Return the route of the report, with and without the version in its path."""

        @asgi([VERSION_PREFIX + self.report.path, self.report.path], copy_scope=False)
        async def answer_report(scope: Scope, receive: Receive, send: Send) -> None:
            assert scope["type"] == ScopeType.HTTP
            response = await self.respond(scope)
            await response(scope, receive, send)

        return answer_report

    async def respond(self, scope: HTTPScope) -> ASGIResponse:
        """Return the response to one request. An error of the report becomes a problem document.

        Raises MethodNotAllowedException.
        """
        if scope["method"] == "OPTIONS":
            return ASGIResponse(status_code=204, headers=ALLOW_HEADER)
        if scope["method"] != "GET":
            raise MethodNotAllowedException(headers=ALLOW_HEADER)
        started = perf_counter()
        request_headers = dict(scope["headers"])  # ten times as fast as a Headers object
        steps = Steps()
        try:
            media_type = (
                formats.CSV
                if self.report.is_file
                else answer.preferred_media_type(_text(request_headers.get(b"accept")))
            )
            query_string = scope["query_string"]
            if (token := token_of(scope)) is not None:
                query_string = token.restrict(query_string)
            # For the link to the next page. Only the end is compared: a proxy may add a prefix to the path.
            prefix = VERSION_PREFIX if scope["path"].endswith(VERSION_PREFIX + self.report.path) else ""
            rendered = await self.single_flight.run(
                (prefix, self.report.path, media_type, query_string),
                lambda: self._read(prefix, media_type, query_string, steps),
            )
            if not steps.ended:
                steps.done("shared")  # another request has read this answer
            response = _response(media_type, rendered, _text(request_headers.get(b"if-none-match")))
            steps.done("answer")
        except Exception as error:
            problem, headers = problem_for(error)
            response = ASGIResponse(
                body=answer.encode(problem), status_code=problem.status, media_type=answer.PROBLEM, headers=headers
            )
        seconds, status = perf_counter() - started, response.status_code
        response.headers["Server-Timing"] = f"report;dur={seconds * 1000:.2f}"
        metrics.duration.labels(self.report.name).observe(seconds)
        metrics.reports.labels(self.report.name, status).inc()
        if tracing.spans:
            attributes: dict[str, str | int] = {
                "http.response.status_code": status,
                "sluice.correlation_id": current_correlation_id() or "",
            }
            traceparent = _text(request_headers.get(b"traceparent"))
            tracing.spans.record(f"GET {scope['path']}", traceparent, "SERVER", steps, attributes, failed=status >= 500)
        return response

    async def _read(self, prefix: str, media_type: str, query_string: bytes, steps: Steps) -> RenderedAnswer:
        """Parse the query, read the report and encode the answer. `problem_for` handles the errors that it raises."""
        query, with_bom = _parse_cached(self.report, query_string, self.settings)
        if query.period.now is not None:  # a relative range: the cached `now` is that of an earlier request
            query, with_bom = _parse(self.report, query_string, self.settings)
        steps.done("query")
        open_database = open_single_statement if query.in_one_statement else open_snapshot

        async def read() -> Answer:
            async with open_database(self.pool, query.sources) as snapshot:
                return await self.report.read(snapshot, query)

        report_answer = await retry_once(read)
        steps.done("read")
        closed = query.period.now is None and answer.is_closed(
            report_answer, timedelta(days=self.settings.max_event_age_days)
        )
        next_url = (
            f"{prefix}{self.report.path}?{_next_query_string(query_string, report_answer.next)}"
            if report_answer.next
            else None
        )
        encoded = formats.json(report_answer)  # for every format, because the entity tag is computed from it
        headers = answer.headers(
            report_answer, answer.entity_tag(media_type, report_answer, encoded), closed=closed, next_url=next_url
        )
        if media_type != formats.CSV:
            return RenderedAnswer(
                report_answer, headers, formats.arrow(report_answer) if media_type == formats.ARROW else encoded
            )
        if not self.report.is_file:
            return RenderedAnswer(report_answer, headers, formats.CsvDialect.PROGRAM)
        headers["Content-Disposition"] = f'attachment; filename="{formats.file_name(self.report.name, report_answer)}"'
        return RenderedAnswer(
            report_answer, headers, formats.CsvDialect.FILE_WITH_BOM if with_bom else formats.CsvDialect.FILE
        )


def _parse(report: AnyReport, query_string: bytes, settings: ReporterSettings) -> tuple[Any, bool]:
    """Return the query of a URL, and whether its CSV file begins with a byte order mark. Raises BadQuery."""
    query_params = QueryParams(query_string, report.parameters)
    return report.parse_query(query_params, settings), query_params.get(BOM) or False


_parse_cached: Final = lru_cache(CACHED_QUERIES)(_parse)
"""A cached query stays correct unless its range is relative to now. If its read plan is old, only the cost differs."""


def _response(media_type: str, rendered: RenderedAnswer, if_none_match: str | None) -> ASGIResponse:
    """Return the response: the answer, or 304 without a body if the client has cached the same answer."""
    headers = dict(rendered.headers)
    if answer.is_cached(headers["ETag"], if_none_match):
        return ASGIResponse(status_code=304, headers=headers)
    if isinstance(rendered.body, bytes):
        return ASGIResponse(body=rendered.body, media_type=media_type, headers=headers)
    return ASGIStreamingResponse(
        iterator=formats.csv(rendered.answer, rendered.body), media_type=media_type, headers=headers
    )


def _text(header: bytes | None) -> str | None:
    return None if header is None else header.decode("latin-1")


def _next_query_string(query_string: bytes, after: str) -> str:
    """Return the query string of the next page: `after` is the cursor."""
    pairs = [
        (name, value) for name, value in parse_qsl(query_string.decode(), keep_blank_values=True) if name != AFTER.name
    ]
    return urlencode([*pairs, (AFTER.name, after)])
