"""Decode a request body to plain UTF-8: media type, length, compression and character encoding.

Invariant: at most the size limit is inflated or decoded. Each decoded piece is charged to admission before the next one
is made, so that a small body cannot inflate without bound.
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

PIECE_BYTES: Final = 256 * 1024  # inflated at a time: less than 1 ms
INLINE_BYTES: Final = 16 * 1024  # compressed; a thread costs more than inflating these
WINDOW_BYTES: Final = 8 * 1024  # passed to zlib at a time: at the end of a member zlib copies the rest
MAX_MEMBERS: Final = 65_536  # of one body: enough for its events compressed one by one; empty ones take 0.1 s

_PLAIN: Final = (b"[{", b'{"')  # most bodies begin so: not compressed, not UTF-16
_GZIP: Final = b"\x1f\x8b"
# First bytes of a body that is not JSON -> what it may be, and what to do.
_HINTS: Final = (
    (re.compile(rb"\x28\xb5\x2f\xfd"), "it looks like zstd: send it plain or as gzip"),
    (re.compile(rb"PK\x03\x04"), "it looks like a zip archive: send it plain or as gzip"),
    (re.compile(rb"BZh|\xfd7zXZ"), "it is compressed: send it plain or as gzip"),
    (re.compile(rb"\s*<"), "it looks like XML or HTML: send JSON"),
    (re.compile(rb"%(5B|7B|22)", re.IGNORECASE), "it is percent-encoded: send the JSON itself (curl: --data-binary)"),
    (re.compile(rb"[\w.-]+="), "it looks like a form: send the JSON itself, without a name"),
    (re.compile(rb"['\"]"), "it begins with a quote: the shell may have kept the quotes"),
    (re.compile(rb"@"), "it begins with a file name: use curl --data-binary @file"),
)
_NDJSON: Final = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
)
# Types that cannot mean JSON. Any other type is read as JSON, because senders and tools set arbitrary types or none.
# ops/edge/nginx.conf has the same list.
_UNSUPPORTED_TYPES: Final = frozenset({"multipart", "image", "audio", "video", "font", "model", "message"})


class BodyFormat(Enum):
    """How events are arranged in a body."""

    JSON = auto()  # an array of events, or one event
    LINES = auto()  # one event a line


def body_format_of(content_type: str | None) -> BodyFormat:
    """Return the format for a Content-Type. Raises Rejected if the type cannot contain events."""
    media_type = (content_type or "").partition(";")[0].strip().lower()
    if media_type in _NDJSON:
        return BodyFormat.LINES
    if media_type.partition("/")[0] in _UNSUPPORTED_TYPES:
        raise Rejected(
            Rejection.UNSUPPORTED_TYPE,
            f"send the events as the body itself, as application/json, not as {media_type}",
        )
    return BodyFormat.JSON


def content_length(headers: Mapping[str, str], max_bytes: int) -> int | None:
    """Return Content-Length in bytes, or None for a chunked body. Raises Rejected if it is over the limit."""
    text = headers.get("content-length", "")
    announced = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else None
    if announced is not None and announced > max_bytes:
        raise too_large(max_bytes)
    return announced


def check_length(body: bytes | str, announced: int | None, max_bytes: int) -> bytes:
    """Return the body as bytes. Raises Rejected if the length is not as announced or is over the limit."""
    content = body.encode() if isinstance(body, str) else body
    if announced is not None and len(content) != announced:
        raise Rejected(Rejection.TRUNCATED, f"Content-Length is {announced} and the body has {len(content)} bytes")
    if len(content) > max_bytes:
        raise too_large(max_bytes)
    return content


async def decompress(content: bytes, headers: Mapping[str, str], reservation: Reservation, max_bytes: int) -> bytes:
    """Return the body as UTF-8, inflated if its header or first bytes say gzip.

    `reservation` covers the announced length and grows if the body is larger. Raises Rejected, also for an empty body,
    and Overloaded.
    """
    encoding = headers.get("content-encoding", "").strip().lower()
    if not encoding and content.startswith(_PLAIN):
        return content
    if encoding in ("gzip", "x-gzip") or (encoding in ("", "identity") and content.startswith(_GZIP)):
        content = await _inflate(content, reservation, max_bytes)
    elif encoding not in ("", "identity"):
        raise Rejected(Rejection.UNSUPPORTED_ENCODING, f"send gzip or no Content-Encoding, not {encoding}")
    head = content[:4]
    if not head.isascii() or b"\0" in head:
        content = await _decode_utf(content, reservation, max_bytes)
    if not content or content.isspace():
        raise Rejected(Rejection.EMPTY_BODY, "the body is empty")
    return content


def hint(content: bytes) -> str:
    """Return what a body that is not JSON may be, as the end of a sentence. Empty if unknown."""
    return next((f"; {advice}" for begins, advice in _HINTS if begins.match(content)), "")


def too_large(max_bytes: int) -> Rejected:
    """Return the rejection of a body over the size limit."""
    return Rejected(Rejection.TOO_LARGE, f"a body has at most {max_bytes} bytes, also after decompression and decoding")


async def _decode_utf(content: bytes, reservation: Reservation, max_bytes: int) -> bytes:
    """Decode UTF-16 and UTF-32, with or without a byte order mark; remove that of UTF-8. Raises Rejected and
    Overloaded."""
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
            raise Rejected(
                Rejection.NOT_JSON, f"the body begins as {encoding.upper()} but is not valid: {error}"
            ) from None
        size += len(piece)
        if size > max_bytes:
            raise too_large(max_bytes)
        reservation.grow(len(piece))
        pieces.append(piece)
        await asyncio.sleep(0)
    return b"".join(pieces)


async def _inflate(packed: bytes, reservation: Reservation, max_bytes: int) -> bytes:
    """Inflate gzip of one or more members. Raises Rejected and Overloaded."""
    pieces: list[bytes] = []
    size = 0
    inflated = _inflate_pieces(packed)
    while True:
        if size or len(packed) > INLINE_BYTES:  # zlib releases the interpreter lock
            piece = await asyncio.to_thread(next, inflated, b"")
        else:
            piece = next(inflated)
        size += len(piece)
        if size > max_bytes:
            raise too_large(max_bytes)
        reservation.grow(len(piece))
        pieces.append(piece)
        if len(piece) < PIECE_BYTES:
            return b"".join(pieces)


def _inflate_pieces(packed: bytes) -> Iterator[bytes]:
    """Yield the inflated body in pieces of PIECE_BYTES; the last piece is shorter and may be empty. Raises Rejected."""
    view = memoryview(packed)
    at, members = 0, 1
    inflater = zlib.decompressobj(wbits=31)
    chunks: list[bytes] = []
    room = PIECE_BYTES
    while True:
        window = view[at : at + WINDOW_BYTES]
        try:
            chunk = inflater.decompress(window, room)
        except zlib.error as error:
            raise Rejected(Rejection.NOT_GZIP, f"the body is not gzip: {error}") from None
        at += len(window) - len(inflater.unused_data if inflater.eof else inflater.unconsumed_tail)
        chunks.append(chunk)
        room -= len(chunk)
        if inflater.eof:
            if at == len(packed):
                break
            if (members := members + 1) > MAX_MEMBERS:
                raise Rejected(Rejection.TOO_LARGE, f"a gzip body has at most {MAX_MEMBERS} members")
            inflater = zlib.decompressobj(wbits=31)
        elif not window and not chunk:
            raise Rejected(Rejection.NOT_GZIP, "the gzip stream ends too early")
        if not room:
            yield b"".join(chunks)
            chunks, room = [], PIECE_BYTES
    yield b"".join(chunks)
