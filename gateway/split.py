"""Split a body into its events, a piece at a time, so that one bad event costs one event.

    body --cut where one object ends and the next begins--> piece --msgspec--> events        the usual way
              \\--no such place, or msgspec does not read the piece--> brackets and strings --> events

An array is read in pieces of about PIECE_BYTES. A cut is a guess that proves itself: a piece that starts between two
elements and is, put in brackets, an array, ends between two elements too. Where it is none (text with a lone
surrogate, nesting without end, a grammar error) that piece alone is taken apart by its brackets and strings, and
whatever stands between two commas goes on as one event, to be rejected on its own.

A body that begins with an object is one event, NDJSON, or objects without anything but space between them. Objects are
read in pieces as well; a piece that msgspec does not read is taken apart by its brackets and strings.

Where the native reader is built, it takes runs of valid events first, and leaves the first element that it cannot prove
to be one. What is an element does not depend on where, between two of them, reading began: so both ways agree.

Invariant: each step of the iterator does a bounded amount of work (under ~10 ms) and holds a bounded number of events.
But one element is copied, and a text or a number that is all of a body is read, in one step, however large it is:
64 MiB take some 40 to 70 ms.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterator
from typing import Final

import msgspec

from core.sources.fields import MAX_EVENT_BYTES
from gateway.body import Form, hint
from gateway.brackets import CLOSE_ARRAY, marks
from gateway.native import Run
from gateway.piece import Elements, Piece
from gateway.rejection import Rejected, Rejection

PIECE_BYTES: Final = 128 * 1024
REACH_BYTES: Final = MAX_EVENT_BYTES + 1024  # the next cut is at most one event away
FIRST_LINE_BYTES: Final = REACH_BYTES  # looked at to know what a body is
LEFT_BYTES: Final = 128  # taken at first of what the native reader left: one event, mostly
WORTH_EVENTS: Final = 16  # in a run: fewer save less than it costs to change between both ways
SPACE_BYTES: Final = 1024 * 1024  # of space passed over at a time: some 3 ms
_NOTHING: Final = Elements([])  # a step of work that gave none

_SPACE: Final = b" \t\r\n"
_NOT_SPACE: Final = re.compile(rb"[^ \t\r\n]")
_CUT: Final = re.compile(rb"\}[ \t\r\n]*+,[ \t\r\n]*+\{")
_OBJECT: Final = re.compile(rb"[ \t\r\n]*+\{")
_NEXT: Final = re.compile(rb"\}[ \t\r\n]{0,1024}+\{")
_elements: Final[Callable[[bytes], list[msgspec.Raw]]] = msgspec.json.Decoder(list[msgspec.Raw]).decode
_objects_of: Final[Callable[[bytes], list[msgspec.Raw]]] = msgspec.json.Decoder(msgspec.Raw).decode_lines
_is_json: Final[Callable[[bytes], msgspec.Raw]] = msgspec.json.Decoder(msgspec.Raw).decode


def split(content: bytes, form: Form, read: Callable[[bytes, int], Run] | None = None) -> Iterator[Piece]:
    """The events of a body in the order in which they stand, a piece of them at a time, which may hold none.

    An event may be anything: what it is worth is the contract's question. `read`, if there is one, takes runs of valid
    events of an array. The bytes decide what a body is; `form` decides only if they do not. Raises Rejected if the body
    is neither an array nor an object, or is an array that does not close.
    """
    if form is Form.LINES and not _is_array(content):
        yield from _lines(content)
        return
    at, first = 0, None
    while first is None and at < len(content):
        if at:
            yield _NOTHING
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
        raise Rejected(Rejection.NOT_EVENTS, "the body is JSON, but neither an array of events nor one event")


def _is_array(content: bytes) -> bool:
    """Whether the body of a sender that announced lines is an array all the same, and no line of its own."""
    first = _NOT_SPACE.search(content, 0, SPACE_BYTES)
    if not first or first[0] != b"[" or content[-SPACE_BYTES:].rstrip(_SPACE)[-1:] != b"]":
        return False
    end = content.find(b"\n", first.start(), first.start() + FIRST_LINE_BYTES)
    return end < 0 or content[end : end + SPACE_BYTES].isspace() or _count(content[first.start() : end]) != 1


def _begins_lines(content: bytes, at: int) -> bool:
    """Whether an object begins NDJSON: its line is one JSON value, or is none and an object begins the next line."""
    end = content.find(b"\n", at, at + FIRST_LINE_BYTES)
    if end < 0:
        return False
    values = _count(content[at:end])
    return values == 1 or (not values and content.startswith(b"{", end + 1))


def _count(line: bytes) -> int:
    """How many JSON values there are. 0 if anything in it is no JSON."""
    try:
        return len(_objects_of(line))
    except (ValueError, RecursionError):
        return 0


def _bare(content: bytes, at: int, end: int) -> Generator[Elements, None, bytes]:
    """What stands there, without the space around it."""
    while end - at > SPACE_BYTES and not content[at : at + SPACE_BYTES].strip(_SPACE):
        at += SPACE_BYTES
        yield _NOTHING
    while end - at > SPACE_BYTES and not content[end - SPACE_BYTES : end].strip(_SPACE):
        end -= SPACE_BYTES
        yield _NOTHING
    return content[at:end].strip(_SPACE)


def _lines(content: bytes) -> Iterator[Elements]:
    at = 0
    while at < len(content):
        end = content.rfind(b"\n", at, at + PIECE_BYTES)
        if end < 0:  # one line, the last one or a long one
            end = content.find(b"\n", at + PIECE_BYTES)
            end = len(content) if end < 0 else end
            lines = [(yield from _bare(content, at, end))]
        else:
            lines = [line.strip(_SPACE) for line in content[at:end].split(b"\n")]
        yield Elements([line for line in lines if line])
        at = end + 1


def _objects(content: bytes, at: int) -> Iterator[Elements]:
    while at >= 0:
        cut, reach = None, at + PIECE_BYTES
        while cut is None and reach < len(content):
            cut = _NEXT.search(content, reach, reach + REACH_BYTES + 1025)  # so that none is missed between windows
            reach += REACH_BYTES
            yield _NOTHING
        end = cut.start() + 1 if cut else len(content)
        piece = yield from _bare(content, at, end)
        try:
            found = [bytes(element) for element in _objects_of(piece)]
        except (ValueError, RecursionError):
            at = yield from _take_objects_apart(content, at, end)
        else:
            at = cut.end() - 1 if cut else -1
            yield Elements(found)


def _array(content: bytes, at: int, read: Callable[[bytes, int], Run] | None) -> Iterator[Run | Elements]:
    view = memoryview(content)
    size = LEFT_BYTES // 2 if read else PIECE_BYTES
    while at >= 0:
        if read:
            run = read(content, at)
            if run.events:
                yield run
            if run.go_on is None:
                return
            at = run.go_on
            if run.filled:
                continue
            # Where one element after the other is left, asking about each would only cost.
            size = min(LEFT_BYTES if run.events >= WORTH_EVENTS else 2 * size, PIECE_BYTES)
        cut = _CUT.search(content, at + size, at + size + REACH_BYTES)
        try:
            if cut:
                elements = _elements(b"".join((b"[", view[at : cut.start() + 1], b"]")))
                at = cut.end() - 1
            elif len(content) - at <= PIECE_BYTES + REACH_BYTES:
                elements = _elements(b"".join((b"[", view[at:])))
                at = -1
            else:
                elements = None
        except (ValueError, RecursionError):
            elements = None
        if elements is None:
            at = yield from _take_apart(content, at, size)
        else:
            found = [bytes(element) for element in elements]
            del elements  # which take more room than what was found
            yield Elements(found)


def _take_apart(content: bytes, at: int, size: int) -> Generator[Elements, None, int]:
    """Elements from `at`, which is between two, by brackets and strings alone, until they are `size` bytes.

    Returns where to go on: before an object that follows a comma, or -1 where the array closes. What stands behind
    the array is one more element, which no contract accepts.
    """
    start, go_on = at, at + size
    found: list[bytes] = []
    for mark in marks(content, at):
        if mark < 0:
            yield Elements(found)
            found = []
            continue
        found.append((yield from _bare(content, start, mark)))
        start = mark + 1
        if content[mark] == CLOSE_ARRAY:
            if after := (yield from _bare(content, start, len(content))):
                found.append(after)
            yield Elements(found)
            return -1
        if start >= go_on and _OBJECT.match(content, start):
            yield Elements(found)
            return start
    raise Rejected(Rejection.NOT_JSON, "the array does not close: a bracket or a quote is missing")


def _take_objects_apart(content: bytes, at: int, until: int) -> Generator[Elements, None, int]:
    """Objects from `at`, which is between two, by brackets and strings alone, as far as `until` at least.

    Returns where to go on, or -1 at the end of the body. What no bracket closes is one more element.
    """
    start = at
    found: list[bytes] = []
    for mark in marks(content, at, of_array=False):
        if mark < 0:
            yield Elements(found)
            found = []
            continue
        found.append((yield from _bare(content, start, mark + 1)))
        start = mark + 1
        if start >= until and _OBJECT.match(content, start):
            yield Elements(found)
            return start
    if rest := (yield from _bare(content, start, len(content))):
        found.append(rest)
    yield Elements(found)
    return -1
