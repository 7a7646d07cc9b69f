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
from reporter.accept_header import weights
from reporter.formats import FORMATS, JSON
from reporter.query_params import BadQuery
from reporter.reports.report import Answer

PROBLEM: Final = "application/problem+json"
RETRY_AFTER_SECONDS: Final = 2
CLOSED_MAX_AGE_SECONDS: Final = 24 * 3600
"""How long an answer on a closed range may be kept. Not for ever: an operator may replay a dead letter."""
NO_STORE: Final = {"Cache-Control": "no-store"}
"""Goes with errors, health and metrics, which are of one moment."""

_FRESHNESS: Final = b'"freshness":'
_HASH_PERSON: Final[Mapping[str, bytes]] = {media_type: media_type[-16:].encode() for media_type in FORMATS}


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
def preferred_media_type(accept: str | None) -> str:
    """Which of FORMATS an Accept header prefers; JSON where it does not care. Raises NotAcceptable."""
    if accept is None or not accept.strip():
        return JSON
    ranges = weights(accept)

    def quality(media_type: str) -> float:
        # The most specific range that fits decides.
        names = (media_type, media_type.split("/", maxsplit=1)[0] + "/*", "*/*")
        return next((ranges[name] for name in names if name in ranges), 0.0)

    best = max(FORMATS, key=quality)  # the first of equals
    if quality(best) == 0.0:
        raise NotAcceptable(f"reports come as {', '.join(FORMATS)}; the Accept header takes none of them")
    return best


def entity_tag(media_type: str, answer: Answer, encoded: bytes) -> str:
    """What changes whenever the answer does, apart from its freshness: so it is a weak one. The instant until which a
    running comparison counts is a part of the answer. encoded: the answer as JSON."""
    before, _, after = encoded.partition(_FRESHNESS + msgspec.json.encode(answer.freshness))
    digest = blake2b(before, digest_size=12, person=_HASH_PERSON[media_type])
    digest.update(_FRESHNESS + b"{}" + after)
    return f'W/"{digest.hexdigest()}"'


def is_cached(tag: str, if_none_match: str | None) -> bool:
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


def headers(answer: Answer, tag: str, *, closed: bool, next_url: str | None) -> dict[str, str]:
    """What goes with every answer; for formats other than JSON also what only the header can tell."""
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
    """What an error means to the client, and the headers that go with it."""
    retry_after = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    match error:
        case BadQuery():
            detail = f"{error.parameter}: {error.detail}" if error.parameter else error.detail
            bad_query = _problem(HTTPStatus.BAD_REQUEST, detail)
            bad_query.parameter = error.parameter or UNSET
            bad_query.allowed = list(error.allowed) or UNSET
            return bad_query, {}
        case NotAcceptable():
            return _problem(HTTPStatus.NOT_ACCEPTABLE, str(error)), {}
        case asyncpg.QueryCanceledError():
            detail = "the report took too long: ask for a shorter range, or for bounds on quarter-hours"
            return _problem(HTTPStatus.GATEWAY_TIMEOUT, detail), {}
        case _ if is_transient(error):
            detail = "the database cannot answer now, or all connections to it are busy: try again later"
            return _problem(HTTPStatus.SERVICE_UNAVAILABLE, detail), retry_after
        case HTTPException():
            return _problem(HTTPStatus(error.status_code), error.detail), error.headers or {}
        case _:
            return _problem(HTTPStatus.INTERNAL_SERVER_ERROR, "this is our fault; the log holds more under this ID"), {}


def encode(problem: Problem) -> bytes:
    """A problem document as JSON."""
    return msgspec.json.encode(problem)


def _problem(status: HTTPStatus, detail: str) -> Problem:
    return Problem(title=status.phrase, status=status.value, detail=detail)
