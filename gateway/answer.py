"""Responses of the gateway: status, headers and JSON body, with one table from error to status.

An accepted batch gets 202 with the counts. Everything else is a problem document (RFC 9457): `type` identifies the
error for programs, `detail` says what to do. Every response has the correlation ID.
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
    Rejection.NO_EVENTS: (400, "The body contains no event"),
    Rejection.NOT_JSON: (400, "The body is not JSON"),
    Rejection.NOT_EVENTS: (400, "The body is neither an array nor an object"),
    Rejection.NOT_GZIP: (400, "The body is not gzip"),
    Rejection.TRUNCATED: (400, "The body does not have the announced length"),
    Rejection.TOO_LARGE: (413, "The body is too large"),
    Rejection.TOO_MANY_EVENTS: (413, "The body contains too many events"),
    Rejection.UNSUPPORTED_TYPE: (415, "This Content-Type is not supported"),
    Rejection.UNSUPPORTED_ENCODING: (415, "This Content-Encoding is not supported"),
    Rejection.UNKNOWN_PATH: (404, "This path does not exist"),
    Rejection.WRONG_METHOD: (405, "This method is not allowed"),
    Rejection.UNSIGNED: (401, "The request is not signed"),
    Rejection.BAD_SIGNATURE: (401, "The signature is not valid"),
    Rejection.STALE_SIGNATURE: (401, "The signature is too old, or too new"),
    Rejection.FOREIGN_SOURCE: (403, "The request contains events of a source that is not allowed"),
    Rejection.NOT_VERIFIED: (403, "The verify token is not valid"),
}
_MAY_SEND_AGAIN: Final = "Part of the request may be stored. Send the whole request again: "
_STORED_ONCE: Final = "each event is stored once."
# Error -> name in `type`, title, what is appended to the error's text.
RETRYABLE: Final[dict[type[RetryableError], tuple[str, str, str]]] = {
    Overloaded: ("overloaded", "Too many bytes are in flight", "Nothing is stored."),
    NotServing: ("not_serving", "The gateway is not serving", "Nothing is stored."),
    StreamFull: ("stream_full", "The stream is full", _MAY_SEND_AGAIN + _STORED_ONCE),
    StreamUnreachable: ("stream_unreachable", "The stream did not confirm in time", _MAY_SEND_AGAIN + _STORED_ONCE),
    UnexpectedDuplicate: (
        "unexpected_duplicate",
        "The stream reported a new message as a duplicate",
        _MAY_SEND_AGAIN + _STORED_ONCE,
    ),
}
_JSON: Final = "application/json"
_PROOFS: Final = (
    'Signature realm="events", Bearer realm="events"'  # sent with every 401, whatever scheme this gateway requires
)
_PROBLEM: Final = "application/problem+json"
_encode = msgspec.json.Encoder().encode


def batch(decoded: Batch, correlation_id: str) -> Answer:
    """Return 202 with the counts if any event was accepted, otherwise 422 with the same counts."""
    counts = {
        "correlationId": correlation_id,
        "accepted": decoded.accepted_events,
        "rejected": decoded.rejected_events,
        "errors": decoded.errors,
    }
    if decoded.accepted_events:
        return Answer(202, {"Content-Type": _JSON, HEADER: correlation_id}, _encode(counts))
    detail = f"no event of {decoded.rejected_events} is valid: see `errors`, and /docs for every field"
    return _problem(422, "nothing_accepted", "No event was accepted", detail, correlation_id, more=counts)


def rejected(error: Rejected, correlation_id: str, **headers: str) -> Answer:
    """Return the response to a request that is rejected as a whole."""
    status, title = REJECTIONS[error.rejection]
    if error.rejection is Rejection.UNSUPPORTED_ENCODING:
        headers["Accept-Encoding"] = "gzip"
    if status == 401:
        headers["WWW-Authenticate"] = _PROOFS
    return _problem(status, error.rejection.value, title, error.detail, correlation_id, headers=headers)


def retryable(error: RetryableError, correlation_id: str) -> Answer:
    """Return 503 with Retry-After, and whether anything may be stored."""
    name, title, advice = RETRYABLE[type(error)]
    headers = {"Retry-After": str(error.retry_after_seconds)}
    return _problem(503, name, title, f"{error}. {advice}", correlation_id, headers=headers)


def capacity(seconds: int, correlation_id: str) -> Answer:
    """Return 200 with the seconds after which a rejected body may be sent again."""
    headers = {"Content-Type": _JSON, "Retry-After": str(seconds), HEADER: correlation_id}
    return Answer(200, headers, _encode({"retryAfterSeconds": seconds}))


def challenge(text: str, correlation_id: str) -> Answer:
    """Return 200 with Meta's challenge, as plain text that no browser interprets as HTML."""
    headers = {"Content-Type": "text/plain", "X-Content-Type-Options": "nosniff", HEADER: correlation_id}
    return Answer(200, headers, text.encode())


def failed(correlation_id: str) -> Answer:
    """Return 500: a defect, logged under the same correlation ID."""
    detail = "the gateway failed; the error is logged under this correlationId. " + _MAY_SEND_AGAIN + _STORED_ONCE
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
