"""Validate one event against the contract: bytes in, a typed event or a reason out.

    bytes --decode--> typed event --check texts--> --check instants--> event
       \\______________________________________________________________ Invalid(reason, path, detail)

The gateway validates each event here, and the collector's Python parser validates it again when storing, with the same
result. A valid event takes the fast path; a rejected one is decoded twice, to find the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from enum import StrEnum
from itertools import accumulate
from operator import attrgetter
from typing import Any, Final, Union

import msgspec

from core.sources import SOURCES, SourceName
from core.sources.declaration import Envelope
from core.sources.fields import END, MAX_DEPTH, MAX_EVENT_BYTES, MAX_ID_BYTES, MAX_TEXT_BYTES, instant
from core.sources.shape import keys

Event = Envelope

DAY_MICROSECONDS: Final = 86_400_000_000
SECOND_MICROSECONDS: Final = 1_000_000


class Reason(StrEnum):
    """The reasons to reject an event: a closed list, used by metrics, responses, rejected events and dead letters."""

    MALFORMED = "malformed"
    TOO_DEEP = "too_deep"
    TOO_LARGE = "too_large"
    MISSING_FIELD = "missing_field"
    WRONG_TYPE = "wrong_type"
    NOT_ALLOWED = "not_allowed"
    OUT_OF_RANGE = "out_of_range"
    INVALID_AMOUNT = "invalid_amount"
    INVALID_TEXT = "invalid_text"
    INVALID_TIMESTAMP = "invalid_timestamp"
    EMPTY = "empty"
    TOO_LONG = "too_long"
    TOO_OLD = "too_old"
    TOO_FAR_AHEAD = "too_far_ahead"


class Invalid(Exception):
    """One event violates the contract.

    path is a JSON path (`$.data.user.age`), detail a sentence for a person.
    """

    def __init__(self, reason: Reason, path: str, detail: str) -> None:
        super().__init__(f"{reason.value} at {path}: {detail}")
        self.reason = reason
        self.path = path
        self.detail = detail


_DECODE: Final[dict[SourceName, Callable[[bytes], Event]]] = {
    name: msgspec.json.Decoder(Union[source.shapes]).decode  # noqa: UP007
    for name, source in SOURCES.items()
}
# For each shape its instants except the timestamp: JSON path, and a getter of the text from an event.
_INSTANTS: Final = {
    shape: tuple(
        (f"$.{path}", attrgetter(key.attribute))
        for path, key in keys(shape).items()
        if key.value == "instant" and path != "timestamp"
    )
    for source in SOURCES.values()
    for shape in source.shapes
}
# The first source is the default guess; these bytes near the start of an event select another one.
_FIRST, *_OTHERS = SOURCES
_MARKS: Final = tuple((f'"{name}"'.encode(), name) for name in _OTHERS)

# A shorter event without lists cannot be too deep: an object in an object takes five bytes, as in {"":{}}.
_SURELY_SHALLOW: Final = 5 * MAX_DEPTH
_TEXT: Final = re.compile(rb'"(?:[^"\\]+|\\.)*"?', re.DOTALL)
_NO_BRACKETS: Final = bytes(set(range(256)) - set(b"{}[]"))
_STEPS: Final = {ord("{"): 1, ord("["): 1, ord("}"): -1, ord("]"): -1}

MAX_PEEK_BYTES: Final = 4 * MAX_EVENT_BYTES

# Shorter than any limit, whatever the characters: an id in code points, a whole event in bytes.
_SURELY_SHORT_ID: Final = MAX_ID_BYTES // 4


class Contract:
    """The contract with its window of time.

    max_age_days and max_ahead_seconds are relative to the instant at which the event was received.
    """

    def __init__(self, *, max_age_days: int, max_ahead_seconds: int) -> None:
        self._max_age = max_age_days * DAY_MICROSECONDS
        self._max_ahead = max_ahead_seconds * SECOND_MICROSECONDS

    def read(self, raw: bytes, received_at: int, source: SourceName | None = None) -> Event:
        """Return the event in `raw`, one JSON object.

        received_at is in microseconds since 2000. If `source` is given, events of other sources are rejected. Raises
        Invalid.
        """
        size = len(raw)
        if size > MAX_EVENT_BYTES:
            raise Invalid(Reason.TOO_LARGE, "$", f"an event has at most {MAX_EVENT_BYTES} bytes, this one has {size}")
        # Without a source, guess it cheaply. The decoder detects a wrong guess, which is corrected below.
        likely = source or next((name for mark, name in _MARKS if raw.find(mark, 0, 256) >= 0), _FIRST)
        try:
            event = _DECODE[likely](raw)
        except (ValueError, RecursionError):  # msgspec's errors and UnicodeDecodeError are ValueErrors
            event = _decode_or_explain(raw, source)
        if size > _SURELY_SHALLOW or raw.find(b"[") >= 0:  # `find` takes half the time of `in`
            _check_depth(raw)
        # A NUL can only be an escape, and no text is longer than its event.
        id_size = len(event.event_id)
        if id_size > _SURELY_SHORT_ID or size > MAX_TEXT_BYTES or (raw.find(b"\\") >= 0 and b"\\u0000" in raw):
            _check_texts(event)
        if not id_size:
            raise Invalid(Reason.EMPTY, "$.eventId", "an eventId must not be empty")
        try:
            at = instant(event.timestamp)
            for _, text in _INSTANTS[type(event)]:
                instant(text(event))
        except ValueError:
            raise _invalid_instant(event) from None
        if not -self._max_age <= at - received_at <= self._max_ahead and (
            invalid := self.check_window(at, received_at)
        ):
            raise invalid
        return event

    def window(self, received_at: int) -> tuple[int, int]:
        """Return the first and the last allowed instant, in microseconds since 2000 like received_at."""
        return max(0, received_at - self._max_age), min(END - 1, received_at + self._max_ahead)

    @property
    def window_text(self) -> str:
        """The allowed instants as a text."""
        days, seconds = self._max_age // DAY_MICROSECONDS, self._max_ahead // SECOND_MICROSECONDS
        return f"an instant at most {days} days old and at most {seconds} seconds ahead when the event is received"

    def check_window(self, at: int, received_at: int) -> Invalid | None:
        """Return the violation if an event's instant is outside the window, otherwise None."""
        if -self._max_age <= at - received_at <= self._max_ahead:
            return None
        if at < received_at:
            return Invalid(Reason.TOO_OLD, "$.timestamp", f"older than {self._max_age // DAY_MICROSECONDS} days")
        seconds = self._max_ahead // SECOND_MICROSECONDS
        return Invalid(Reason.TOO_FAR_AHEAD, "$.timestamp", f"more than {seconds} seconds ahead")


def _invalid_instant(event: Event) -> Invalid:
    """Return the violation for the first instant that cannot be read."""
    for path, text in (("$.timestamp", attrgetter("timestamp")), *_INSTANTS[type(event)]):
        try:
            instant(text(event))
        except ValueError as error:
            return Invalid(Reason.INVALID_TIMESTAMP, path, str(error))
    raise AssertionError("all instants are valid")


def _check_depth(raw: bytes) -> None:
    """Check the depth before anything else, also in malformed JSON: where a decoder stops depends on its stack."""
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _depth(raw) > MAX_DEPTH:
        raise Invalid(Reason.TOO_DEEP, "$", f"nested deeper than {MAX_DEPTH} levels")


def _depth(raw: bytes) -> int:
    """Return the nesting depth of objects and lists."""
    brackets = _TEXT.sub(b"", raw).translate(None, _NO_BRACKETS)
    return max(accumulate(map(_STEPS.__getitem__, brackets), initial=0))


class _PeekedIds(msgspec.Struct, rename="camel"):
    """The two fields that are read of an event; all other keys are ignored."""

    source: msgspec.Raw = msgspec.Raw()
    event_id: msgspec.Raw = msgspec.Raw()


def peek_ids(raw: bytes) -> tuple[SourceName | None, str | None]:
    """Return the source and the event id of arbitrary bytes; None for each that cannot be read or used.

    Events larger than MAX_PEEK_BYTES are not read: that many bytes take some 2 ms.
    """
    if len(raw) > MAX_PEEK_BYTES:
        return None, None
    try:
        fields = msgspec.json.decode(raw, type=_PeekedIds)
    except (ValueError, RecursionError):
        return None, None

    def text(value: msgspec.Raw) -> str | None:
        try:
            return msgspec.json.decode(value, type=str)
        except ValueError:  # not a text, or missing
            return None

    named = text(fields.source)
    source = next((source for source in SOURCES if source == named), None)
    event_id = text(fields.event_id)
    if event_id is not None and ("\0" in event_id or len(event_id.encode()) > MAX_ID_BYTES):
        event_id = None
    return source, event_id


class _Named(msgspec.Struct):
    source: SourceName


def _decode_or_explain(raw: bytes, source: SourceName | None) -> Event:
    """Decode without a guess. Raises Invalid with the reason."""
    _check_depth(raw)
    try:
        named = msgspec.json.decode(raw, type=_Named).source
        if source is not None and named != source:
            raise Invalid(Reason.NOT_ALLOWED, "$.source", f"this stream has only {source} events")
        return _DECODE[named](raw)
    except msgspec.ValidationError as error:
        raise explain(error) from None
    except UnicodeDecodeError:
        raise Invalid(Reason.INVALID_TEXT, "$", "text that is not valid UTF-8") from None
    except RecursionError:
        raise Invalid(Reason.TOO_DEEP, "$", "nested too deeply") from None
    except msgspec.DecodeError as error:
        if _only_surrogates_are_wrong(raw):
            raise Invalid(Reason.INVALID_TEXT, "$", "text with a lone surrogate") from None
        raise Invalid(Reason.MALFORMED, "$", str(error)) from None


# msgspec's messages -> Reason. Contract tests check each line; the version of msgspec is pinned.
_EXPLANATIONS: Final = (
    (re.compile(r"Object missing required field"), Reason.MISSING_FIELD),
    (re.compile(r"Invalid (enum )?value"), Reason.NOT_ALLOWED),
    (re.compile(r"Expected `str` matching regex"), Reason.INVALID_AMOUNT),
    (
        re.compile(r"(Expected `int` [<>]=)|Number out of range|Integer value out of range"),
        Reason.OUT_OF_RANGE,
    ),
    (re.compile(r"Expected"), Reason.WRONG_TYPE),
)
_MISSING: Final = re.compile(r"Object missing required field `([^`]+)`")


def explain(error: msgspec.ValidationError) -> Invalid:
    """Convert msgspec's error to a reason of the contract."""
    message, _, location = str(error).partition(" - at `")
    path = location.rstrip("`") or "$"
    reason = next((reason for shape, reason in _EXPLANATIONS if shape.match(message)), Reason.WRONG_TYPE)
    if missing := _MISSING.match(message):
        path = f"{path}.{missing[1]}"
    if reason is Reason.INVALID_AMOUNT:
        message = "an amount is 1 to 10 digits, with at most 2 after a point"
    # This text goes to responses and to the database, which does not accept NUL.
    return Invalid(reason, path, message.replace("\0", "\ufffd")[:200])


def _only_surrogates_are_wrong(raw: bytes) -> bool:
    """Return whether the standard library, which accepts lone surrogates, can read it as UTF-8."""
    if b"\\u" not in raw:  # they can only be escapes
        return False

    def reject(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        json.loads(raw.decode(), parse_constant=reject)
    except (ValueError, RecursionError):
        return False
    return True


def texts(value: Any, path: str = "$") -> Iterator[tuple[str, str]]:
    """Yield each text of a decoded event with its JSON path."""
    for field in msgspec.structs.fields(value):
        item = getattr(value, field.name)
        location = f"{path}.{field.encode_name}"
        if isinstance(item, str):
            yield location, item
        elif isinstance(item, msgspec.Struct):
            yield from texts(item, location)


def _check_texts(event: Event) -> None:
    for path, text in texts(event):
        max_bytes = MAX_ID_BYTES if path == "$.eventId" else MAX_TEXT_BYTES
        if "\0" in text:
            raise Invalid(Reason.INVALID_TEXT, path, "text with a NUL character")
        if (size := len(text.encode())) > max_bytes:
            raise Invalid(Reason.TOO_LONG, path, f"at most {max_bytes} bytes of UTF-8, this text has {size}")
