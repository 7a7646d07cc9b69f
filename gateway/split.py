"""Split a body into its events, a piece at a time, so that an invalid event affects no other event.

    body --cut between two objects--> piece --msgspec--> events                        the usual path
              \\--no cut found, or msgspec cannot read the piece--> brackets and strings --> events

An array is read in pieces of about PIECE_BYTES. A cut is a guess that msgspec verifies: if a piece that starts between
two elements is a valid array in brackets, it also ends between two elements. Otherwise (a lone surrogate, deep nesting,
a grammar error) this piece is split by its brackets and strings, and each part between two commas is one event.

A body that begins with an object is one event, NDJSON, or objects separated by white space. Objects are read in pieces
in the same way.

The native reader, if it is built, reads runs of valid events first and stops before the first element that it cannot
prove to be valid. The position at which reading starts does not change the elements, so both readers agree.

Invariant: each step of the iterator does a bounded amount of work (less than 10 ms) and holds a bounded number of
events. Exception: a single element, text or number is handled in one step; 64 MiB take 40 to 70 ms.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from typing import Final

import msgspec

from core.sources.fields import MAX_EVENT_BYTES
from gateway.body import BodyFormat, hint
from gateway.brackets import CLOSE_ARRAY, marks
from gateway.native import Run
from gateway.piece import Elements, Piece
from gateway.rejection import Rejected, Rejection

PIECE_BYTES: Final = 128 * 1024
MAX_CUT_DISTANCE_BYTES: Final = MAX_EVENT_BYTES + 1024  # the next cut is at most one event away
FIRST_LINE_BYTES: Final = MAX_CUT_DISTANCE_BYTES  # read to detect what a body is
FIRST_LEFTOVER_BYTES: Final = 128  # read first after the native reader stopped: usually one event
MIN_RUN_EVENTS: Final = 16  # in a run: with fewer, switching between both readers costs more than it saves
SPACE_BYTES: Final = 1024 * 1024  # white space skipped at a time: 3 ms
_NO_EVENTS: Final = Elements([])  # a step of work without an event

_SPACE: Final = b" \t\r\n"
_NOT_SPACE: Final = re.compile(rb"[^ \t\r\n]")
_CUT: Final = re.compile(rb"\}[ \t\r\n]*+,[ \t\r\n]*+\{")
_OBJECT: Final = re.compile(rb"[ \t\r\n]*+\{")
_NEXT: Final = re.compile(rb"\}[ \t\r\n]{0,1024}+\{")
_elements: Final[Callable[[bytes], list[msgspec.Raw]]] = msgspec.json.Decoder(list[msgspec.Raw]).decode
_objects_of: Final[Callable[[bytes], list[msgspec.Raw]]] = msgspec.json.Decoder(msgspec.Raw).decode_lines
_is_json: Final[Callable[[bytes], msgspec.Raw]] = msgspec.json.Decoder(msgspec.Raw).decode


def split(content: bytes, body_format: BodyFormat, read: Callable[[bytes, int], Run] | None = None) -> Iterator[Piece]:
    """Yield the events of a body in order, a piece at a time. A piece may be empty.

    An event may be any bytes; the contract validates it. `read`, if given, reads runs of valid events of an array. The
    bytes decide what a body is; `body_format` decides only if they do not. Raises Rejected if the body is neither an
    array nor an object, or is an array that does not close.
    """
    if body_format is BodyFormat.LINES and not _is_array(content):
        yield from _lines(content)
        return
    at, first = 0, None
    while first is None and at < len(content):
        if at:
            yield _NO_EVENTS
        first = _NOT_SPACE.search(content, at, at + SPACE_BYTES)
        at += SPACE_BYTES
    if first and first[0] == b"[":
        yield from _array(content, first.end(), read)
    elif first and first[0] == b"{":
        yield from _lines(content) if _begins_lines(content, first.start()) else _objects(content, first.start())
    else:
        try:
            _is_json(content)
        except (ValueError, RecursionError) as error:
            raise Rejected(Rejection.NOT_JSON, f"the body is not JSON: {error}{hint(content)}") from None
        raise Rejected(Rejection.NOT_EVENTS, "the body is JSON, but not an array of events and not one event")


def _is_array(content: bytes) -> bool:
    """Return whether a body announced as NDJSON is an array, and not a line that is an array."""
    first = _NOT_SPACE.search(content, 0, SPACE_BYTES)
    if not first or first[0] != b"[" or content[-SPACE_BYTES:].rstrip(_SPACE)[-1:] != b"]":
        return False
    end = content.find(b"\n", first.start(), first.start() + FIRST_LINE_BYTES)
    return end < 0 or content[end : end + SPACE_BYTES].isspace() or _count_values(content[first.start() : end]) != 1


def _begins_lines(content: bytes, at: int) -> bool:
    """Return whether an object begins NDJSON: its line is one JSON value, or is none and an object begins the next
    line."""
    end = content.find(b"\n", at, at + FIRST_LINE_BYTES)
    if end < 0:
        return False
    values = _count_values(content[at:end])
    return values == 1 or (not values and content.startswith(b"{", end + 1))


def _count_values(line: bytes) -> int:
    """Return the number of JSON values, or 0 if the line is not JSON."""
    try:
        return len(_objects_of(line))
    except (ValueError, RecursionError):
        return 0


def _strip(content: bytes, at: int, end: int) -> Generator[Elements, None, bytes]:
    """Return a part of the body without the white space around it."""
    while end - at > SPACE_BYTES and not content[at : at + SPACE_BYTES].strip(_SPACE):
        at += SPACE_BYTES
        yield _NO_EVENTS
    while end - at > SPACE_BYTES and not content[end - SPACE_BYTES : end].strip(_SPACE):
        end -= SPACE_BYTES
        yield _NO_EVENTS
    return content[at:end].strip(_SPACE)


def _lines(content: bytes) -> Iterator[Elements]:
    at = 0
    while at < len(content):
        end = content.rfind(b"\n", at, at + PIECE_BYTES)
        if end < 0:  # one line: the last one or a long one
            end = content.find(b"\n", at + PIECE_BYTES)
            end = len(content) if end < 0 else end
            lines = [(yield from _strip(content, at, end))]
        else:
            lines = [line.strip(_SPACE) for line in content[at:end].split(b"\n")]
        yield Elements([line for line in lines if line])
        at = end + 1


def _objects(content: bytes, at: int) -> Iterator[Elements]:
    while at >= 0:
        cut, reach = None, at + PIECE_BYTES
        while cut is None and reach < len(content):
            cut = _NEXT.search(
                content, reach, reach + MAX_CUT_DISTANCE_BYTES + 1025
            )  # overlapping, so that no cut is missed between windows
            reach += MAX_CUT_DISTANCE_BYTES
            yield _NO_EVENTS
        end = cut.start() + 1 if cut else len(content)
        piece = yield from _strip(content, at, end)
        try:
            raw_elements = [bytes(element) for element in _objects_of(piece)]
        except (ValueError, RecursionError):
            at = yield from _split_objects(content, at, end)
        else:
            at = cut.end() - 1 if cut else -1
            yield Elements(raw_elements)


def _array(content: bytes, at: int, read: Callable[[bytes, int], Run] | None) -> Iterator[Run | Elements]:
    view = memoryview(content)
    size = FIRST_LEFTOVER_BYTES // 2 if read else PIECE_BYTES
    while at >= 0:
        if read:
            run = read(content, at)
            if run.events:
                yield run
            if run.resume_at is None:
                return
            at = run.resume_at
            if run.filled:
                continue
            # While element after element is left over, calling the native reader for each only adds cost.
            size = min(FIRST_LEFTOVER_BYTES if run.events >= MIN_RUN_EVENTS else 2 * size, PIECE_BYTES)
        cut = _CUT.search(content, at + size, at + size + MAX_CUT_DISTANCE_BYTES)
        try:
            if cut:
                elements = _elements(b"".join((b"[", view[at : cut.start() + 1], b"]")))
                at = cut.end() - 1
            elif len(content) - at <= PIECE_BYTES + MAX_CUT_DISTANCE_BYTES:
                elements = _elements(b"".join((b"[", view[at:])))
                at = -1
            else:
                elements = None
        except (ValueError, RecursionError):
            elements = None
        if elements is None:
            at = yield from _split_array(content, at, size)
        else:
            raw_elements = [bytes(element) for element in elements]
            del elements  # they take more memory than the copies
            yield Elements(raw_elements)


def _split_array(content: bytes, at: int, size: int) -> Generator[Elements, None, int]:
    """Yield elements from `at`, split by brackets and strings alone, until they have `size` bytes.

    Return where to resume: before an object after a comma, or -1 at the end of the array. Text after the array is one
    more element, which the contract rejects.
    """
    start, resume_at = at, at + size
    raw_elements: list[bytes] = []
    for mark in marks(content, at):
        if mark < 0:
            yield Elements(raw_elements)
            raw_elements = []
            continue
        raw_elements.append((yield from _strip(content, start, mark)))
        start = mark + 1
        if content[mark] == CLOSE_ARRAY:
            if after := (yield from _strip(content, start, len(content))):
                raw_elements.append(after)
            yield Elements(raw_elements)
            return -1
        if start >= resume_at and _OBJECT.match(content, start):
            yield Elements(raw_elements)
            return start
    raise Rejected(Rejection.NOT_JSON, "the array does not close: a bracket or a quote is missing")


def _split_objects(content: bytes, at: int, until: int) -> Generator[Elements, None, int]:
    """Yield objects from `at`, split by brackets and strings alone, at least up to `until`.

    Return where to resume, or -1 at the end of the body. An object that does not close is one more element.
    """
    start = at
    raw_elements: list[bytes] = []
    for mark in marks(content, at, of_array=False):
        if mark < 0:
            yield Elements(raw_elements)
            raw_elements = []
            continue
        raw_elements.append((yield from _strip(content, start, mark + 1)))
        start = mark + 1
        if start >= until and _OBJECT.match(content, start):
            yield Elements(raw_elements)
            return start
    if rest := (yield from _strip(content, start, len(content))):
        raw_elements.append(rest)
    yield Elements(raw_elements)
    return -1
