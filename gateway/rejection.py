"""Reasons to reject a whole request: a closed list, and the errors.

SluiceError
  x Rejected            an error of the sender: 4xx; no event of the request is published; counted by its rejection
  x RetryableError      503 with Retry-After
      StreamFull, StreamUnreachable (core.errors)
      Overloaded           too many bytes in flight
      NotServing           starting, or draining before the end
      UnexpectedDuplicate  JetStream reported a new message as a duplicate

Reasons to reject one event are another list: `core.events.contract.Reason`.

Invariant: no variable of a frame that an error passes refers to that error, nor does a future that such a frame holds.
Otherwise the traceback would keep these frames, and the bodies in them, until the cyclic collector runs, which is rare.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from core.errors import RetryableError, SluiceError


class Rejection(StrEnum):
    """A reason to reject a request as a whole. `gateway.answer` maps each to its status."""

    EMPTY_BODY = "empty_body"
    NO_EVENTS = "no_events"
    NOT_JSON = "not_json"
    NOT_EVENTS = "not_events"
    NOT_GZIP = "not_gzip"
    TRUNCATED = "truncated"
    TOO_LARGE = "too_large"
    TOO_MANY_EVENTS = "too_many_events"
    UNSUPPORTED_TYPE = "unsupported_type"
    UNSUPPORTED_ENCODING = "unsupported_encoding"
    UNKNOWN_PATH = "unknown_path"
    WRONG_METHOD = "wrong_method"
    UNSIGNED = "unsigned"
    BAD_SIGNATURE = "bad_signature"
    STALE_SIGNATURE = "stale_signature"
    FOREIGN_SOURCE = "foreign_source"
    NOT_VERIFIED = "not_verified"


KEPT_BODIES: Final = (
    Rejection.NOT_JSON,
    Rejection.NOT_EVENTS,
    Rejection.NOT_GZIP,
    Rejection.TOO_LARGE,  # only after inflating or decoding: a body announced as larger is not read
    Rejection.TOO_MANY_EVENTS,
    Rejection.UNSUPPORTED_ENCODING,
)
"""The body is kept like a rejected event: its sender is authorized and it is not empty."""


class NotKept(StrEnum):
    """A reason why a rejected event or body is not in the stream REJECTED."""

    TOO_MANY = "too_many"
    NO_ROOM = "no_room"
    STREAM_FULL = "stream_full"
    UNREACHABLE = "unreachable"


class Rejected(SluiceError):
    """The request is rejected as a whole. `detail` is a sentence for the sender."""

    def __init__(self, rejection: Rejection, detail: str) -> None:
        super().__init__(f"{rejection.value}: {detail}")
        self.rejection = rejection
        self.detail = detail


class Overloaded(RetryableError):
    """The bytes in flight leave no room for this body. It may be sent again after `retry_after_seconds`."""

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class NotServing(RetryableError):
    """The gateway has not yet connected to JetStream, or it is stopping."""

    retry_after_seconds = 2


class UnexpectedDuplicate(RetryableError):
    """JetStream reported the first attempt of a message as a duplicate: other bytes may be stored under its id."""
