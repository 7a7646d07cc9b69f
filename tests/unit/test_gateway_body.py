"""From HTTP to plain bytes: types, lengths, compression, and the bounds that hold while inflating."""

from __future__ import annotations

import gzip
import itertools
import zlib
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from gateway import body as bodies
from gateway.admission import Admission, Reservation
from gateway.body import (
    MAX_MEMBERS,
    PIECE_BYTES,
    WINDOW_BYTES,
    BodyFormat,
    body_format_of,
    check_length,
    content_length,
    decompress,
)
from gateway.rejection import Overloaded, Rejected, Rejection

MOST_BYTES = 4 * 1024 * 1024
LARGE = b'{"a":"' + bytes(range(32, 127)).replace(b'"', b"").replace(b"\\", b"") * 20_000 + b'"}'


@pytest.fixture
def reservation() -> Iterator[Reservation]:
    """Room for a body on an otherwise idle worker."""
    with Admission(MOST_BYTES).reserve(0) as held:
        yield held


async def read(body: bytes | str, headers: Mapping[str, str], reservation: Reservation) -> bytes:
    content = check_length(body, content_length(headers, MOST_BYTES), MOST_BYTES)
    return await decompress(content, headers, reservation, MOST_BYTES)


async def rejection(reservation: Reservation, body: bytes | str, **headers: str) -> Rejection:
    with pytest.raises(Rejected) as caught:
        await read(body, {name.replace("_", "-"): value for name, value in headers.items()}, reservation)
    return caught.value.rejection


@pytest.mark.parametrize(
    ("content_type", "body_format"),
    [
        (None, BodyFormat.JSON),
        ("", BodyFormat.JSON),
        ("application/json", BodyFormat.JSON),
        ("APPLICATION/JSON; charset=utf-8", BodyFormat.JSON),
        ("application/cloudevents+json", BodyFormat.JSON),
        ("text/json", BodyFormat.JSON),
        ("text/plain", BodyFormat.JSON),
        ("application/octet-stream", BodyFormat.JSON),
        ("application/x-www-form-urlencoded", BodyFormat.JSON),  # what curl sends when it is not reported otherwise
        ("application/x-ndjson", BodyFormat.LINES),
        ("Application/X-NDJSON;charset=utf-8", BodyFormat.LINES),
        ("application/jsonl", BodyFormat.LINES),
    ],
)
def test_a_type_says_how_events_stand(content_type: str | None, body_format: BodyFormat) -> None:
    """NDJSON is one event a line; whatever else could be meant as JSON is read as JSON."""
    assert body_format_of(content_type) is body_format


@pytest.mark.parametrize("content_type", ["multipart/form-data; boundary=x", "image/png", "video/mp4", "message/http"])
def test_a_type_that_cannot_hold_events_is_rejected(content_type: str) -> None:
    """Forms and media are rejected by their type, before their bytes are looked at."""
    with pytest.raises(Rejected) as caught:
        body_format_of(content_type)
    assert caught.value.rejection is Rejection.UNSUPPORTED_TYPE


@pytest.mark.parametrize("body", [b"[1]", "[1]", '["é"]', '["\U0001f600"]'])
async def test_text_and_bytes_give_the_same(reservation: Reservation, body: bytes | str) -> None:
    """A body handed over as text or as bytes gives its UTF-8 bytes; its length is counted in bytes."""
    content = body.encode() if isinstance(body, str) else body
    assert await read(body, {"content-length": str(len(content))}, reservation) == content


@pytest.mark.parametrize("announced", ["4", "2"])
async def test_a_length_that_is_not_true_is_rejected(reservation: Reservation, announced: str) -> None:
    """A body that is shorter than announced was cut off on its way: it is rejected whole, as is a longer one."""
    assert await rejection(reservation, b"[1]", content_length=announced) is Rejection.TRUNCATED


@pytest.mark.parametrize("body", [b"", "", b" \r\n\t ", "\ufeff", b"\xef\xbb\xbf \n"])
async def test_an_empty_body_is_rejected(reservation: Reservation, body: bytes | str) -> None:
    """Nothing, only space, or only a byte order mark: there is no body."""
    assert await rejection(reservation, body) is Rejection.EMPTY_BODY


async def test_a_byte_order_mark_is_no_part_of_the_body(reservation: Reservation) -> None:
    """Editors and .NET write a byte order mark before JSON; it is left out."""
    assert await read("\ufeff[1]", {}, reservation) == b"[1]"


async def test_the_size_limit_is_the_last_size_taken(reservation: Reservation) -> None:
    """A body of exactly the limit is taken, one byte more is not, however it came."""
    assert await read(b"1" * MOST_BYTES, {}, reservation)
    assert await rejection(reservation, b"1" * (MOST_BYTES + 1)) is Rejection.TOO_LARGE
    assert await rejection(reservation, b"[1]", content_length=str(MOST_BYTES + 1)) is Rejection.TOO_LARGE


@pytest.mark.parametrize("name", ["gzip", "x-gzip", " GZIP "])
@pytest.mark.parametrize("content", [b"[1]", LARGE], ids=["small", "large"])
async def test_gzip_is_inflated(reservation: Reservation, name: str, content: bytes) -> None:
    """Gzip of any size gives what was packed; what is held grows by it."""
    before = reservation.bytes
    assert await read(gzip.compress(content), {"content-encoding": name}, reservation) == content
    assert reservation.bytes == before + len(content)


async def test_gzip_of_several_members_is_one_body(reservation: Reservation) -> None:
    """Members that follow each other, as `cat a.gz b.gz` makes them, are inflated as one."""
    packed = gzip.compress(b"[1,") + gzip.compress(b"2]") + gzip.compress(b"")
    assert await read(packed, {"content-encoding": "gzip"}, reservation) == b"[1,2]"


@pytest.mark.parametrize("member", [b"1", b""], ids=["one byte each", "empty"])
async def test_members_are_bounded(reservation: Reservation, member: bytes) -> None:
    """A member takes time whatever it holds, so a body has at most so many of them."""
    packed, first = gzip.compress(member), gzip.compress(b"[")
    content = await read(first + packed * (MAX_MEMBERS - 1), {"content-encoding": "gzip"}, reservation)
    assert content == b"[" + member * (MAX_MEMBERS - 1)
    assert await rejection(reservation, first + packed * MAX_MEMBERS, content_encoding="gzip") is Rejection.TOO_LARGE


async def test_a_member_costs_the_same_in_any_body(reservation: Reservation, monkeypatch: pytest.MonkeyPatch) -> None:
    """zlib copies what stands behind a member's end: it is never given more than a window of the body."""
    given: list[int] = []

    class Inflater:
        def __init__(self, wbits: int) -> None:
            self._real = zlib.decompressobj(wbits)

        def decompress(self, packed: bytes, most: int) -> bytes:
            given.append(len(packed))
            return self._real.decompress(packed, most)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    monkeypatch.setattr(bodies, "zlib", SimpleNamespace(decompressobj=Inflater, error=zlib.error))
    packed = gzip.compress(b"1") * 5_000
    assert await read(packed, {"content-encoding": "gzip"}, reservation) == b"1" * 5_000
    assert len(packed) > 10 * WINDOW_BYTES
    assert max(given) == WINDOW_BYTES


@pytest.mark.parametrize("size", [PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 2 * PIECE_BYTES])
@pytest.mark.parametrize("members", [1, 3])
async def test_a_piece_may_end_anywhere(reservation: Reservation, size: int, members: int) -> None:
    """Where pieces and members end in a body changes nothing of what it inflates to."""
    content = (LARGE * 2)[:size]
    ends = [size * number // members for number in range(members + 1)]
    packed = b"".join(gzip.compress(content[start:end]) for start, end in itertools.pairwise(ends))
    assert await read(packed, {"content-encoding": "gzip"}, reservation) == content


async def test_inflating_stops_at_the_size_limit(reservation: Reservation) -> None:
    """The limit holds for what is inflated, to the byte; a bomb is left alone a piece after it."""
    assert await read(gzip.compress(b"1" * MOST_BYTES), {"content-encoding": "gzip"}, reservation)
    reservation.grow(-MOST_BYTES)
    before = reservation.bytes
    bomb = gzip.compress(b"\0" * (64 * MOST_BYTES))
    assert await rejection(reservation, bomb, content_encoding="gzip") is Rejection.TOO_LARGE
    assert reservation.bytes <= before + MOST_BYTES + PIECE_BYTES


async def test_inflating_needs_room_for_each_piece() -> None:
    """A body that was let in while it was small is rejected when it inflates past the room that is left."""
    admission = Admission(MOST_BYTES)
    with admission.reserve(MOST_BYTES // 2), admission.reserve(1000) as reservation:
        with pytest.raises(Overloaded):
            await read(gzip.compress(b"1" * MOST_BYTES), {"content-encoding": "gzip"}, reservation)
        assert admission.held_bytes <= MOST_BYTES


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(b"[1]", id="not gzip at all"),
        pytest.param(gzip.compress(LARGE)[:-1], id="cut off at the end"),
        pytest.param(gzip.compress(LARGE)[:20], id="cut off early"),
        pytest.param(gzip.compress(LARGE)[:-8] + b"\0" * 8, id="wrong checksum"),
        pytest.param(gzip.compress(b"[1]") + b"more", id="more behind it"),
        pytest.param(zlib.compress(b"[1]"), id="zlib"),
        pytest.param(b"", id="nothing"),
    ],
)
async def test_broken_gzip_is_rejected(reservation: Reservation, packed: bytes) -> None:
    """What is not whole and sound gzip is rejected, not taken as far as it goes."""
    assert await rejection(reservation, packed, content_encoding="gzip") is Rejection.NOT_GZIP


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip", "utf-8"])
async def test_other_encodings_are_rejected(reservation: Reservation, encoding: str) -> None:
    """An encoding that the gateway does not know is rejected by its name."""
    assert await rejection(reservation, b"[1]", content_encoding=encoding) is Rejection.UNSUPPORTED_ENCODING
