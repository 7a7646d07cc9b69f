"""What the sender gets: status, headers and a JSON body, and the one table from error to status.

Anything accepted is answered 202 with the counts. Everything else is an RFC 9457 problem document, whose `type` names
the error for programs and whose `detail` says what to do for people. Every answer carries the correlation ID.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from core.correlation import HEADER
from core.errors import RetryableError, StreamFull, StreamUnreachable
from gateway.batch import Batch
from gateway.rejection import NotServing, Overloaded, Rejected, Rejection, UnexpectedDuplicate


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


REJECTIONS: Final[dict[Rejection, tuple[int, str]]] = {
    Rejection.EMPTY_BODY: (400, "The body is empty"),
    Rejection.NO_EVENTS: (400, "The body holds no event"),
    Rejection.NOT_JSON: (400, "The body is not JSON"),
    Rejection.NOT_EVENTS: (400, "The body is neither an array nor an object"),
    Rejection.NOT_GZIP: (400, "The body is not gzip"),
    Rejection.TRUNCATED: (400, "The body is not as long as announced"),
    Rejection.TOO_LARGE: (413, "The body is too large"),
    Rejection.TOO_MANY_EVENTS: (413, "The body holds too many events"),
    Rejection.UNSUPPORTED_TYPE: (415, "This Content-Type is not taken"),
    Rejection.UNSUPPORTED_ENCODING: (415, "This Content-Encoding is not taken"),
    Rejection.UNKNOWN_PATH: (404, "There is nothing here"),
    Rejection.WRONG_METHOD: (405, "This method is not taken"),
    Rejection.UNSIGNED: (401, "The request is not signed"),
    Rejection.BAD_SIGNATURE: (401, "The signature does not hold"),
    Rejection.STALE_SIGNATURE: (401, "The signature is too old, or too new"),
    Rejection.FOREIGN_SOURCE: (403, "The request holds events that it may not hold"),
    Rejection.NOT_VERIFIED: (403, "The verify token is not known"),
}
_MAY_SEND_AGAIN: Final = "Part of the request may be stored already. The whole may safely be sent again: "
_STORED_ONCE: Final = "each event is stored once."
# Error -> name in `type`, title, what to add to its own words.
TRY_AGAIN: Final[dict[type[RetryableError], tuple[str, str, str]]] = {
    Overloaded: ("overloaded", "Too much is in flight", "Nothing of it is stored."),
    NotServing: ("not_serving", "The gateway is not serving", "Nothing of it is stored."),
    StreamFull: ("stream_full", "The stream has no room", _MAY_SEND_AGAIN + _STORED_ONCE),
    StreamUnreachable: ("stream_unreachable", "The stream did not confirm in time", _MAY_SEND_AGAIN + _STORED_ONCE),
    UnexpectedDuplicate: (
        "unexpected_duplicate",
        "The stream confirmed something else",
        _MAY_SEND_AGAIN + _STORED_ONCE,
    ),
}
_JSON: Final = "application/json"
_PROOFS: Final = 'Signature realm="events", Bearer realm="events"'  # whichever this gateway demands
_PROBLEM: Final = "application/problem+json"
_encode = msgspec.json.Encoder().encode


def batch(decoded: Batch, correlation_id: str) -> Answer:
    """202 with the counts where any event was accepted, else 422 with the same counts."""
    counts = {
        "correlationId": correlation_id,
        "accepted": decoded.accepted_events,
        "rejected": decoded.rejected_events,
        "errors": decoded.told,
    }
    if decoded.accepted_events:
        return Answer(202, {"Content-Type": _JSON, HEADER: correlation_id}, _encode(counts))
    detail = f"none of {decoded.rejected_events} events holds to the contract: see `errors`, and /docs for every field"
    return _problem(422, "nothing_accepted", "No event was accepted", detail, correlation_id, more=counts)


def rejected(error: Rejected, correlation_id: str, **headers: str) -> Answer:
    """The answer to a request that is rejected as a whole."""
    status, title = REJECTIONS[error.rejection]
    if error.rejection is Rejection.UNSUPPORTED_ENCODING:
        headers["Accept-Encoding"] = "gzip"
    if status == 401:
        headers["WWW-Authenticate"] = _PROOFS
    return _problem(status, error.rejection.value, title, error.detail, correlation_id, headers=headers)


def try_again(error: RetryableError, correlation_id: str) -> Answer:
    """503, with what may be stored and when to come again."""
    name, title, advice = TRY_AGAIN[type(error)]
    headers = {"Retry-After": str(error.retry_after_seconds)}
    return _problem(503, name, title, f"{error}. {advice}", correlation_id, headers=headers)


def room(seconds: int, correlation_id: str) -> Answer:
    """200 with when a body that found no room may come again."""
    headers = {"Content-Type": _JSON, "Retry-After": str(seconds), HEADER: correlation_id}
    return Answer(200, headers, _encode({"retryAfterSeconds": seconds}))


def challenge(text: str, correlation_id: str) -> Answer:
    """200 with what Meta wants to hear, as text that no browser takes for a page."""
    headers = {"Content-Type": "text/plain", "X-Content-Type-Options": "nosniff", HEADER: correlation_id}
    return Answer(200, headers, text.encode())


def failed(correlation_id: str) -> Answer:
    """500: a defect of ours, told in the log under the same correlation ID."""
    detail = "an unexpected error, logged under this correlationId. " + _MAY_SEND_AGAIN + _STORED_ONCE
    return _problem(500, "unexpected", "Internal Server Error", detail, correlation_id)


def _problem(
    status: int,
    name: str,
    title: str,
    detail: str,
    correlation_id: str,
    *,
    more: dict[str, Any] | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    document = {
        "type": f"urn:sluice:problem:{name}",
        "title": title,
        "status": status,
        "detail": detail,
        "correlationId": correlation_id,
    }
    return Answer(
        status,
        {"Content-Type": _PROBLEM, HEADER: correlation_id, **(headers or {})},
        _encode(document | (more or {})),
    )
