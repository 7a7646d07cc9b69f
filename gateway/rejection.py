"""Why a whole request is rejected: the closed list, and the error that carries one of it.

SluiceError
  x Rejected     the sender's: answered 4xx; no event of the request is published; counted by its rejection
  x RetryableError    ours: answered 503 with Retry-After
      StreamFull, StreamUnreachable (core.errors)
      Overloaded   too many bytes in flight
      NotServing   starting, or draining before the end
      UnexpectedDuplicate  JetStream called a message a duplicate that it cannot have seen

What is wrong with one event is another list: `core.events.contract.Reason`.

Invariant: an error is in no variable of a frame that it passes, nor in a future that one holds. Else its traceback
would hold it, and with all these frames the bodies in them, until the cyclic collector comes, which is rare here.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from core.errors import RetryableError, SluiceError


class Rejection(StrEnum):
    """A reason to reject a request as a whole. `gateway.answer` gives each its status."""

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
    Rejection.TOO_LARGE,  # when inflated or decoded: a body of that size is not read
    Rejection.TOO_MANY_EVENTS,
    Rejection.UNSUPPORTED_ENCODING,
)
"""The body is kept like a rejected event. Its sender has proven what it had to, and there is something in it."""


class NotKept(StrEnum):
    """A reason why no copy of a rejected event or body reached the stream REJECTED."""

    TOO_MANY = "too_many"
    NO_ROOM = "no_room"
    STREAM_FULL = "stream_full"
    UNREACHABLE = "unreachable"


class Rejected(SluiceError):
    """The request is rejected as a whole. `detail` is a sentence for the person who sends."""

    def __init__(self, rejection: Rejection, detail: str) -> None:
        super().__init__(f"{rejection.value}: {detail}")
        self.rejection = rejection
        self.detail = detail


class Overloaded(RetryableError):
    """There is no room for this body beside those that are in flight; there may be after so many seconds."""

    def __init__(self, message: str, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class NotServing(RetryableError):
    """The gateway has not reached JetStream yet since its start, or it is about to end."""

    retry_after_seconds = 2


class UnexpectedDuplicate(RetryableError):
    """JetStream answered `duplicate` to the first attempt of a message: its bytes may not be what is stored."""
