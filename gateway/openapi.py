"""The OpenAPI 3.1 document of the gateway: the request, and every response with its statuses and problem types."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, Final

import msgspec

from core.events.examples import EXAMPLES
from core.events.reference import MEANINGS, schema
from core.metrics import VERSION
from core.sources import SOURCES
from gateway.answer import REJECTIONS, RETRYABLE
from gateway.batch import MAX_LISTED_ERRORS, MAX_LISTED_VIOLATIONS, EventError

_TITLES: Final = " and ".join(source.title for source in SOURCES.values())
_DESCRIPTION: Final = f"""\
Ad-funnel events from {_TITLES}. Events are validated one by one: an invalid event is rejected with a reason \
and kept for inspection, and the rest of the batch is stored. 202 means that every accepted event is on disk.

An event is stored once, however often it is sent. Source, `eventId` and `timestamp` in microseconds identify it.

**Errors** are problem documents (RFC 9457). An answer lists the first {MAX_LISTED_ERRORS} rejected events, each \
with how many violations it has, and up to {MAX_LISTED_VIOLATIONS} violations after the first ones."""

_HEADERS: Final = (
    ("X-Correlation-Id", "Your ID of the request; it is in the response, in logs and with each stored event."),
    ("traceparent", "The trace of the request (W3C Trace Context)."),
)
_SCHEMES: Final = {
    "meta": ("X-Hub-Signature-256", "Meta: `sha256=` and the hexadecimal HMAC-SHA256 of the body."),
    "tiktok": ("TikTok-Signature", "TikTok: `t=<seconds>,s=<hexadecimal HMAC-SHA256 of time, point and body>`."),
    "standard": (
        "webhook-signature",
        "Standard Webhooks, with `webhook-id` and `webhook-timestamp`; Svix's `svix-…` are the same.",
    ),
    "key": ("X-Api-Key", "An API key; also accepted as `Authorization: Bearer`."),
}


def document() -> dict[str, Any]:
    """Return the document. Instants in its examples are `examples.AT`."""
    event = schema()
    definitions = {name: {"title": name, **shape} for name, shape in event["$defs"].items()}
    (_, answered) = msgspec.json.schema_components((EventError,), ref_template="#/components/schemas/{name}")
    answered["RejectedEvent"] = answered.pop("EventError") | {"title": "RejectedEvent"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Sluice events", "version": VERSION, "description": _DESCRIPTION},
        "paths": {"/events": {"post": _operation()}},
        "components": {
            "schemas": {
                **definitions,
                "Event": {
                    "description": event["description"],
                    "oneOf": [{"$ref": f"#/components/schemas/{name}"} for name in definitions],
                },
                **answered,
                "Counts": _object({"correlationId": {"type": "string"}, **_counts()}),
                "Problem": _problem({}),
                "NothingAccepted": _problem(_counts()),
            },
            "securitySchemes": {
                name: {"type": "apiKey", "in": "header", "name": header, "description": words}
                for name, (header, words) in _SCHEMES.items()
            },
        },
    }


def _operation() -> dict[str, Any]:
    examples = {name: {"value": event} for name, event in EXAMPLES.items()}
    event = {"$ref": "#/components/schemas/Event"}
    return {
        "operationId": "postEvents",
        "summary": "Post events",
        "description": "An array of events, one event, or one event a line (NDJSON); plain, or compressed with "
        "`Content-Encoding: gzip`. Authentication is off by default; the operator enables it per source.",
        "security": [{}, *({name: []} for name in _SCHEMES)],
        "parameters": [
            {"name": name, "in": "header", "description": words, "schema": {"type": "string"}}
            for name, words in _HEADERS
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"anyOf": [{"type": "array", "minItems": 1, "items": event}, event]},
                    "examples": examples,
                },
                "application/x-ndjson": {"schema": {"type": "string", "description": "One event a line."}},
            },
        },
        "responses": {
            "202": _response("At least one event was accepted, and every accepted event is on disk.", "Counts"),
            **{status: _rejection(status, words) for status, words in _rejections().items()},
            "422": _response(
                "No event was accepted; `errors` has the reasons.", "NothingAccepted", "application/problem+json"
            ),
            "500": _rejection("500", "`unexpected`: the gateway failed. Send the whole request again."),
            "503": _rejection("503", _names((name, title) for name, title, _ in RETRYABLE.values())),
        },
    }


def _rejections() -> dict[str, str]:
    """Return the 4xx statuses of requests that are rejected as a whole, each with its problem types."""
    of_status: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for rejection, (status, title) in REJECTIONS.items():
        of_status[status].append((rejection.value, title))
    return {str(status): _names(named) for status, named in sorted(of_status.items()) if status not in (404, 405)}


def _names(named: Any) -> str:
    return "; ".join(f"`{name}`: {title}" for name, title in named)


def _rejection(status: str, words: str) -> dict[str, Any]:
    response = _response(words, "Problem", "application/problem+json")
    if status == "503":
        response["headers"] = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}}
    return response


def _response(words: str, name: str, media_type: str = "application/json") -> dict[str, Any]:
    return {"description": words, "content": {media_type: {"schema": {"$ref": f"#/components/schemas/{name}"}}}}


def _counts() -> dict[str, Any]:
    reasons = "; ".join(f"`{reason.value}`: {meaning}" for reason, meaning in MEANINGS.items())
    return {
        "accepted": {"type": "integer"},
        "rejected": {"type": "integer"},
        "errors": {"type": "array", "description": reasons, "items": {"$ref": "#/components/schemas/RejectedEvent"}},
    }


def _problem(more: dict[str, Any]) -> dict[str, Any]:
    texts = {name: {"type": "string"} for name in ("type", "title", "detail", "correlationId")}
    return _object({**texts, "status": {"type": "integer"}, **more})


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}
