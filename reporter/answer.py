"""Write an answer: JSON or CSV as the client accepts, or a problem document (RFC 9457).

Money and other decimals are strings, instants ISO 8601 with an offset. In CSV an empty field is null; empty text is
written as "".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final

import asyncpg
import msgspec
from litestar.exceptions import HTTPException
from msgspec import UNSET, Meta, UnsetType

from core.errors import SluiceError
from reporter.query import BadQuery
from reporter.read import AWAY
from reporter.reports import Answer

JSON: Final = "application/json"
CSV: Final = "text/csv"
PROBLEM: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 2

_NEEDS_QUOTES: Final = re.compile(r'[",\r\n]|^\s|\s$|^$')
_QUALITY: Final = re.compile(r"q\s*=\s*([01](?:\.[0-9]{0,3})?)", re.IGNORECASE)


class NotAcceptable(SluiceError):
    """The client accepts neither JSON nor CSV."""


class Problem(msgspec.Struct, kw_only=True, rename="camel"):
    """What went wrong, as RFC 9457 has it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    parameter: Annotated[str | UnsetType, Meta(description="The parameter that is wrong")] = UNSET
    allowed: Annotated[list[str] | UnsetType, Meta(description="What is allowed, where the list is closed")] = UNSET
    correlation_id: str | UnsetType = UNSET


def media_type(accept: str | None) -> str:
    """Which of JSON and CSV an Accept header prefers; JSON where it does not care. Raises NotAcceptable."""
    if accept is None or not accept.strip():
        return JSON
    ranges: dict[str, float] = {}
    for part in accept.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        weight = next((float(found[1]) for piece in parameters if (found := _QUALITY.fullmatch(piece))), 1.0)
        ranges[name] = max(weight, ranges.get(name, 0.0))

    def quality(kind: str) -> float:
        # The most specific range that fits decides.
        names = (kind, kind.split("/", maxsplit=1)[0] + "/*", "*/*")
        return next((ranges[name] for name in names if name in ranges), 0.0)

    best = max((JSON, CSV), key=quality)  # the first of equals
    if quality(best) == 0.0:
        raise NotAcceptable(f"reports come as {JSON} or {CSV}; the Accept header takes neither")
    return best


def body(kind: str, answer: Answer) -> bytes:
    """The answer as JSON or CSV."""
    return msgspec.json.encode(answer) if kind == JSON else "".join(_csv(*answer.table())).encode()


def headers(answer: Answer) -> dict[str, str]:
    """What a reader of a CSV has to know too: freshness and notes. Told with every answer."""
    until = (
        f"{source}={fresh.stored_until.isoformat() if fresh.stored_until else 'unknown'}"
        for source, fresh in answer.freshness.items()
    )
    told = {"Cache-Control": "no-store", "Vary": "Accept", "Sluice-Stored-Until": ", ".join(until)}
    return {**told, "Sluice-Notes": "; ".join(answer.notes)} if answer.notes else told


def problem(error: Exception) -> tuple[Problem, Mapping[str, str]]:
    """What an error means to the client, and the headers that go with it."""
    again = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    match error:
        case BadQuery():
            named = f"{error.parameter}: {error.detail}" if error.parameter else error.detail
            told = _problem(HTTPStatus.BAD_REQUEST, named)
            told.parameter = error.parameter or UNSET
            told.allowed = list(error.allowed) or UNSET
            return told, {}
        case NotAcceptable():
            return _problem(HTTPStatus.NOT_ACCEPTABLE, str(error)), {}
        case asyncpg.QueryCanceledError():
            detail = "the report took too long: ask for a shorter range, or for bounds on quarter-hours"
            return _problem(HTTPStatus.GATEWAY_TIMEOUT, detail), {}
        case _ if isinstance(error, AWAY):
            detail = "the database does not answer, or all connections to it are busy: try again later"
            return _problem(HTTPStatus.SERVICE_UNAVAILABLE, detail), again
        case HTTPException():
            return _problem(HTTPStatus(error.status_code), error.detail), error.headers or {}
        case _:
            return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "this is our fault; the log holds more under this ID"), {}


def encode(told: Problem) -> bytes:
    """A problem document as JSON."""
    return msgspec.json.encode(told)


def _problem(status: HTTPStatus, detail: str) -> Problem:
    return Problem(title=status.phrase, status=status.value, detail=detail)


def _csv(kind: type[msgspec.Struct], rows: Sequence[msgspec.Struct]) -> Iterator[str]:
    names = [
        field.encode_name
        for field in msgspec.structs.fields(kind)
        if not rows or getattr(rows[0], field.name) is not UNSET
    ]
    yield ",".join(names) + "\r\n"
    for row in rows:
        values: dict[str, Any] = msgspec.to_builtins(row)
        yield ",".join(_field(values[name]) for name in names) + "\r\n"


def _field(value: Any) -> str:
    if value is None:
        return ""
    text = str(value)
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text
