"""HTTP side of an answer: content negotiation, caching headers, entity tags, problem documents (RFC 9457).

Invariant: clients may cache an answer only if its range is closed, that is, if no event can be added to it. A range is
closed when every event accepted up to the maximum event age after its end is stored. Clients revalidate all other
answers on each request. The entity tag leaves freshness out, so it changes only if the figures change.
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
from reporter.accept_header import weights
from reporter.formats import FORMATS, JSON
from reporter.query_params import BadQuery
from reporter.reports.report import Answer
from reporter.tokens import SourceForbidden, Unauthenticated

PROBLEM: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 2
CLOSED_MAX_AGE_SECONDS: Final = 24 * 3600
"""How long clients may cache an answer on a closed range. It is bounded because operators may replay dead letters."""
NO_STORE: Final = {"Cache-Control": "no-store"}
"""For errors, health and metrics: clients must not cache them."""

_FRESHNESS: Final = b'"freshness":'
_HASH_PERSON: Final[Mapping[str, bytes]] = {media_type: media_type[-16:].encode() for media_type in FORMATS}


class NotAcceptable(SluiceError):
    """The client accepts none of the formats of a report."""


class Problem(msgspec.Struct, kw_only=True, rename="camel"):
    """A problem document (RFC 9457)."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    parameter: Annotated[str | UnsetType, Meta(description="The invalid parameter")] = UNSET
    allowed: Annotated[
        list[str] | UnsetType, Meta(description="Allowed values, if the parameter has a closed list")
    ] = UNSET
    correlation_id: str | UnsetType = UNSET


@lru_cache(64)
def preferred_media_type(accept: str | None) -> str:
    """Return the one of FORMATS that an Accept header prefers, JSON by default. Raises NotAcceptable."""
    if accept is None or not accept.strip():
        return JSON
    ranges = weights(accept)

    def quality(media_type: str) -> float:
        # The most specific media range that matches decides.
        names = (media_type, media_type.split("/", maxsplit=1)[0] + "/*", "*/*")
        return next((ranges[name] for name in names if name in ranges), 0.0)

    best = max(FORMATS, key=quality)  # the first one if several are equal
    if quality(best) == 0.0:
        raise NotAcceptable(f"the Accept header allows none of the formats of a report: {', '.join(FORMATS)}")
    return best


def entity_tag(media_type: str, answer: Answer, encoded: bytes) -> str:
    """Return a weak entity tag, which changes if the answer changes in anything but its freshness.

    encoded: the answer as JSON. `countedUntil` of a comparison is a part of the answer.
    """
    before, _, after = encoded.partition(_FRESHNESS + msgspec.json.encode(answer.freshness))
    digest = blake2b(before, digest_size=12, person=_HASH_PERSON[media_type])
    digest.update(_FRESHNESS + b"{}" + after)
    return f'W/"{digest.hexdigest()}"'


def is_cached(tag: str, if_none_match: str | None) -> bool:
    """Return whether the client has this answer in its cache."""
    if if_none_match is None:
        return False
    opaque = tag.removeprefix("W/")
    return any(part.strip().removeprefix("W/") in (opaque, "*") for part in if_none_match.split(","))


def is_closed(answer: Answer, max_event_age: timedelta) -> bool:
    """Return whether no event can be added to the answer: its range is closed and it has no notes."""
    after = answer.query.end + max_event_age
    untils = [fresh.stored_until for fresh in answer.freshness.values()]
    return not answer.notes and all(until is not None and until >= after for until in untils)


def headers(answer: Answer, tag: str, *, closed: bool, next_url: str | None) -> dict[str, str]:
    """Return the headers of an answer. CSV and Arrow have freshness, notes and the next page in headers only."""
    until = (
        f"{source}={fresh.stored_until.isoformat() if fresh.stored_until else 'unknown'}"
        for source, fresh in answer.freshness.items()
    )
    fields = {
        "Cache-Control": f"private, max-age={CLOSED_MAX_AGE_SECONDS}" if closed else "no-cache",
        "ETag": tag,
        "Vary": "Accept, Accept-Encoding",
        "Sluice-Stored-Until": ", ".join(until),
    }
    if next_url is not None:
        fields["Link"] = f'<{next_url}>; rel="next"'
    return {**fields, "Sluice-Notes": "; ".join(answer.notes)} if answer.notes else fields


def problem(error: Exception) -> tuple[Problem, Mapping[str, str]]:
    """Return the problem document of an error, and the headers of its response."""
    retry_after = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    match error:
        case BadQuery() | SourceForbidden():
            return _parameter_problem(error), {}
        case NotAcceptable() | Unauthenticated():
            status = HTTPStatus.UNAUTHORIZED if isinstance(error, Unauthenticated) else HTTPStatus.NOT_ACCEPTABLE
            return _problem(status, str(error)), {}
        case asyncpg.QueryCanceledError():
            detail = "the report took too long: use a shorter range, or let from and to be quarter-hours"
            return _problem(HTTPStatus.GATEWAY_TIMEOUT, detail), {}
        case _ if is_transient(error):
            detail = "the database does not answer, or all connections to it are busy: try again later"
            return _problem(HTTPStatus.SERVICE_UNAVAILABLE, detail), retry_after
        case HTTPException():
            return _problem(HTTPStatus(error.status_code), error.detail), error.headers or {}
        case _:
            return _problem(
                HTTPStatus.INTERNAL_SERVER_ERROR,
                "the reporter failed; its log has the details under this correlation ID",
            ), {}


def _parameter_problem(error: BadQuery | SourceForbidden) -> Problem:
    """Return the problem of an invalid or forbidden parameter, with its allowed values."""
    detail = f"{error.parameter}: {error.detail}" if error.parameter else error.detail
    status = HTTPStatus.FORBIDDEN if isinstance(error, SourceForbidden) else HTTPStatus.BAD_REQUEST
    problem = _problem(status, detail)
    problem.parameter, problem.allowed = error.parameter or UNSET, list(error.allowed) or UNSET
    return problem


def encode(problem: Problem) -> bytes:
    """Return a problem document as JSON."""
    return msgspec.json.encode(problem)


def _problem(status: HTTPStatus, detail: str) -> Problem:
    return Problem(title=status.phrase, status=status.value, detail=detail)
