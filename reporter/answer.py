"""Answer a report: in the format that the client prefers, with how long it keeps; or a problem document (RFC 9457).

Invariant: an answer may be kept for long only where nothing that it counts can still come: its range is closed once
all that was accepted up to MAX_EVENT_AGE after its end is stored. All others are asked for again each time, and the
entity tag, which leaves freshness out, tells whether anything has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import lru_cache
from hashlib import blake2b
from http import HTTPStatus
from typing import Annotated, Final

import asyncpg
import msgspec
from litestar.exceptions import HTTPException
from msgspec import UNSET, Meta, UnsetType

from core.errors import SluiceError
from core.pg_errors import is_transient
from reporter.accept import weights
from reporter.formats import FORMATS, JSON
from reporter.query import BadQuery
from reporter.reports.report import Answer

PROBLEM: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 2
CLOSED_SECONDS: Final = 24 * 3600
"""How long an answer on a closed range may be kept. Not for ever: an operator may replay a dead letter."""
NOT_KEPT: Final = {"Cache-Control": "no-store"}
"""Goes with errors, health and metrics, which are of one moment."""

_FRESHNESS: Final = b'"freshness":'
_PERSON: Final[Mapping[str, bytes]] = {kind: kind[-16:].encode() for kind in FORMATS}


class NotAcceptable(SluiceError):
    """The client accepts none of the formats."""


class Problem(msgspec.Struct, kw_only=True, rename="camel"):
    """What went wrong, as RFC 9457 has it."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    parameter: Annotated[str | UnsetType, Meta(description="The parameter that is wrong")] = UNSET
    allowed: Annotated[list[str] | UnsetType, Meta(description="What is allowed, where the list is closed")] = UNSET
    correlation_id: str | UnsetType = UNSET


@lru_cache(64)
def media_type(accept: str | None) -> str:
    """Which of FORMATS an Accept header prefers; JSON where it does not care. Raises NotAcceptable."""
    if accept is None or not accept.strip():
        return JSON
    ranges = weights(accept)

    def quality(kind: str) -> float:
        # The most specific range that fits decides.
        names = (kind, kind.split("/", maxsplit=1)[0] + "/*", "*/*")
        return next((ranges[name] for name in names if name in ranges), 0.0)

    best = max(FORMATS, key=quality)  # the first of equals
    if quality(best) == 0.0:
        raise NotAcceptable(f"reports come as {', '.join(FORMATS)}; the Accept header takes none of them")
    return best


def entity_tag(kind: str, answer: Answer, encoded: bytes) -> str:
    """What changes whenever the answer does, apart from its freshness: so it is a weak one. The instant until which a
    running comparison counts is a part of the answer. encoded: the answer as JSON."""
    before, _, after = encoded.partition(_FRESHNESS + msgspec.json.encode(answer.freshness))
    digest = blake2b(before, digest_size=12, person=_PERSON[kind])
    digest.update(_FRESHNESS + b"{}" + after)
    return f'W/"{digest.hexdigest()}"'


def is_known(tag: str, if_none_match: str | None) -> bool:
    """Whether the client has this answer already."""
    if if_none_match is None:
        return False
    opaque = tag.removeprefix("W/")
    return any(part.strip().removeprefix("W/") in (opaque, "*") for part in if_none_match.split(","))


def is_closed(answer: Answer, max_event_age: timedelta) -> bool:
    """Whether all that the answer counts has come and is stored, and nothing is missing from it."""
    after = answer.query.end + max_event_age
    untils = [fresh.stored_until for fresh in answer.freshness.values()]
    return not answer.notes and all(until is not None and until >= after for until in untils)


def headers(answer: Answer, tag: str, *, closed: bool, following: str | None) -> dict[str, str]:
    """What goes with every answer; for formats other than JSON also what only the header can tell."""
    until = (
        f"{source}={fresh.stored_until.isoformat() if fresh.stored_until else 'unknown'}"
        for source, fresh in answer.freshness.items()
    )
    told = {
        "Cache-Control": f"private, max-age={CLOSED_SECONDS}" if closed else "no-cache",
        "ETag": tag,
        "Vary": "Accept, Accept-Encoding",
        "Sluice-Stored-Until": ", ".join(until),
    }
    if following is not None:
        told["Link"] = f'<{following}>; rel="next"'
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
        case _ if is_transient(error):
            detail = "the database cannot answer now, or all connections to it are busy: try again later"
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
