"""From what came over HTTP to the plain bytes of a body: its kind, its length, its compression, its encoding.

Invariant: no more than the size limit is ever inflated or decoded, and each piece that was is held by admission before
the next one is made: a small body that inflates without end costs nothing, nor does one of members without end.
"""

from __future__ import annotations

import asyncio
import codecs
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from enum import Enum, auto
from typing import Final

from gateway.admission import Reservation
from gateway.rejection import Rejected, Rejection

PIECE_BYTES: Final = 256 * 1024  # inflated at a time: under a millisecond
INLINE_BYTES: Final = 16 * 1024  # compressed: a thread costs more than these
WINDOW_BYTES: Final = 8 * 1024  # given to zlib at a time: at a member's end it copies what is left of them
MEMBERS_MOST: Final = 65_536  # of a body: enough for its events packed one by one, and empty ones take 0.1 s

_PLAIN: Final = (b"[{", b'{"')  # how nearly all bodies begin: they are neither compressed nor UTF-16
_GZIP: Final = b"\x1f\x8b"
# What a body that is no JSON begins with -> what it may be, and what to do.
_HINTS: Final = (
    (re.compile(rb"\x28\xb5\x2f\xfd"), "it begins as zstd: send it plain or as gzip"),
    (re.compile(rb"PK\x03\x04"), "it begins as a zip archive: send it plain or as gzip"),
    (re.compile(rb"BZh|\xfd7zXZ"), "it is compressed: send it plain or as gzip"),
    (re.compile(rb"\s*<"), "it begins as XML or HTML: send JSON"),
    (re.compile(rb"%(5B|7B|22)", re.IGNORECASE), "it is percent-encoded: send the JSON itself (curl: --data-binary)"),
    (re.compile(rb"[\w.-]+="), "it begins as a form: send the JSON itself, without a name"),
    (re.compile(rb"['\"]"), "it begins with a quote: the shell may have passed the quotes on"),
    (re.compile(rb"@"), "it begins with a file's name: curl reads the file with --data-binary @file"),
)
_NDJSON: Final = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
)
# What can not be meant as JSON. Anything else is read as JSON: senders and tools set all sorts of types, or none.
# ops/edge/nginx.conf has the same list.
_FOREIGN: Final = frozenset({"multipart", "image", "audio", "video", "font", "model", "message"})


class Form(Enum):
    """How the events stand in a body."""

    JSON = auto()  # an array of events, or one event
    LINES = auto()  # one event a line


def form_of(content_type: str | None) -> Form:
    """The form that a Content-Type announces. Raises Rejected for a type that cannot hold events."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind in _NDJSON:
        return Form.LINES
    if kind.partition("/")[0] in _FOREIGN:
        raise Rejected(
            Rejection.UNSUPPORTED_TYPE,
            f"send the events as the body itself, as application/json, not as {kind}",
        )
    return Form.JSON


def announced_bytes(headers: Mapping[str, str], most_bytes: int) -> int | None:
    """What Content-Length says. None where the body came in chunks. Raises Rejected for more than the limit."""
    text = headers.get("content-length", "")
    announced = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
    if announced is not None and announced > most_bytes:
        raise too_large(most_bytes)
    return announced


def raw(body: bytes | str, announced: int | None, most_bytes: int) -> bytes:
    """The body as the bytes that came, as many as were announced and within the limit. Raises Rejected."""
    content = body.encode() if isinstance(body, str) else body
    if announced is not None and len(content) != announced:
        raise Rejected(Rejection.TRUNCATED, f"{announced} bytes were announced and {len(content)} came")
    if len(content) > most_bytes:
        raise too_large(most_bytes)
    return content


async def plain(content: bytes, headers: Mapping[str, str], hold: Reservation, most_bytes: int) -> bytes:
    """A raw body as UTF-8, inflated if it is gzip by its header or its first bytes, and not empty.

    `hold` has room for what was announced; it grows where the body turns out larger. Raises Rejected and Overloaded.
    """
    encoding = headers.get("content-encoding", "").strip().lower()
    if not encoding and content.startswith(_PLAIN):
        return content
    if encoding in ("gzip", "x-gzip") or (encoding in ("", "identity") and content.startswith(_GZIP)):
        content = await _inflate(content, hold, most_bytes)
    elif encoding not in ("", "identity"):
        raise Rejected(Rejection.UNSUPPORTED_ENCODING, f"send gzip or no Content-Encoding, not {encoding}")
    head = content[:4]
    if not head.isascii() or b"\0" in head:
        content = await _as_utf_8(content, hold, most_bytes)
    if not content or content.isspace():
        raise Rejected(Rejection.EMPTY_BODY, "the body is empty")
    return content


def hint(content: bytes) -> str:
    """Return what a body that is no JSON may be, as the end of a sentence. Empty if nothing is known."""
    return next((f"; {advice}" for begins, advice in _HINTS if begins.match(content)), "")


def too_large(most_bytes: int) -> Rejected:
    """The rejection of a body past the limit, announced or found."""
    return Rejected(
        Rejection.TOO_LARGE, f"a body holds at most {most_bytes} bytes, counted again after inflating and decoding"
    )


async def _as_utf_8(content: bytes, hold: Reservation, most_bytes: int) -> bytes:
    """Decode UTF-16 and UTF-32, with or without a byte order mark; remove UTF-8's. Raises Rejected and Overloaded."""
    encoding = json.detect_encoding(content[:4])
    if encoding.startswith("utf-8"):
        return content.removeprefix(codecs.BOM_UTF8)
    decode = codecs.getincrementaldecoder(encoding)().decode
    pieces: list[bytes] = []
    size = 0
    for at in range(0, len(content), PIECE_BYTES):
        try:
            piece = decode(content[at : at + PIECE_BYTES], at + PIECE_BYTES >= len(content)).encode()
        except UnicodeError as error:
            raise Rejected(Rejection.NOT_JSON, f"the body begins as {encoding.upper()} and is not: {error}") from None
        size += len(piece)
        if size > most_bytes:
            raise too_large(most_bytes)
        hold.grow(len(piece))
        pieces.append(piece)
        await asyncio.sleep(0)
    return b"".join(pieces)


async def _inflate(packed: bytes, hold: Reservation, most_bytes: int) -> bytes:
    """Inflate gzip, of one member or several. Raises Rejected and Overloaded."""
    pieces: list[bytes] = []
    size = 0
    inflating = _inflated(packed)
    while True:
        if size or len(packed) > INLINE_BYTES:  # zlib lets go of the interpreter while it works
            piece = await asyncio.to_thread(next, inflating, b"")
        else:
            piece = next(inflating)
        size += len(piece)
        if size > most_bytes:
            raise too_large(most_bytes)
        hold.grow(len(piece))
        pieces.append(piece)
        if len(piece) < PIECE_BYTES:
            return b"".join(pieces)


def _inflated(packed: bytes) -> Iterator[bytes]:
    """What gzip inflates to in pieces of PIECE_BYTES, the last one shorter or not there. Raises Rejected."""
    view = memoryview(packed)
    at, members = 0, 1
    inflater = zlib.decompressobj(wbits=31)
    found: list[bytes] = []
    room = PIECE_BYTES
    while True:
        window = view[at : at + WINDOW_BYTES]
        try:
            some = inflater.decompress(window, room)
        except zlib.error as error:
            raise Rejected(Rejection.NOT_GZIP, f"the body is not gzip: {error}") from None
        at += len(window) - len(inflater.unused_data if inflater.eof else inflater.unconsumed_tail)
        found.append(some)
        room -= len(some)
        if inflater.eof:
            if at == len(packed):
                break
            if (members := members + 1) > MEMBERS_MOST:
                raise Rejected(Rejection.TOO_LARGE, f"gzip of at most {MEMBERS_MOST} members is taken")
            inflater = zlib.decompressobj(wbits=31)
        elif not window and not some:
            raise Rejected(Rejection.NOT_GZIP, "the gzip stream ends too early")
        if not room:
            yield b"".join(found)
            found, room = [], PIECE_BYTES
    yield b"".join(found)
