"""What is not JSON, at the gateway: one bad event costs one event, and only a body without any event is rejected
whole."""

from __future__ import annotations

import pytest

from core.events.contract import Reason
from gateway.body import BodyFormat
from gateway.rejection import Rejected, Rejection
from tests.support.batch_reader import accepted, kept, read, read_array, reasons
from tests.support.events import Event, changed, encoded, facebook, tiktok


def with_raw(event: Event, path: str, raw: bytes) -> bytes:
    """The event with these bytes where the value at `path` was."""
    return encoded(changed(event, path, "HERE")).replace(b'"HERE"', raw)


# An element of an array -> why it is rejected.
BAD = [
    pytest.param(b"", Reason.MALFORMED, id="nothing between commas"),
    pytest.param(b"nul", Reason.MALFORMED, id="no literal"),
    pytest.param(b"{'eventId':1}", Reason.MALFORMED, id="single quotes"),
    pytest.param(b"{eventId:1}", Reason.MALFORMED, id="no quotes"),
    pytest.param(b'{"a":1,}', Reason.MALFORMED, id="comma at the end"),
    pytest.param(b'{"a" 1}', Reason.MALFORMED, id="no colon"),
    pytest.param(b'{"a":01}', Reason.MALFORMED, id="zero in front"),
    pytest.param(b'{"a":1.}', Reason.MALFORMED, id="no digit after the point"),
    pytest.param(b'{"a":NaN}', Reason.MALFORMED, id="NaN"),
    pytest.param(b'{"a":"\t"}', Reason.MALFORMED, id="raw control character"),
    pytest.param(b'{"a":"\\x"}', Reason.MALFORMED, id="unknown escape"),
    pytest.param(encoded(facebook()) + b" " + encoded(facebook()), Reason.MALFORMED, id="two without a comma"),
    pytest.param(b"/* {} */", Reason.MALFORMED, id="comment"),
    pytest.param(b"null", Reason.WRONG_TYPE, id="null"),
    pytest.param(b"17", Reason.WRONG_TYPE, id="number"),
    pytest.param(b'"text"', Reason.WRONG_TYPE, id="text"),
    pytest.param(b"[]", Reason.WRONG_TYPE, id="array"),
    pytest.param(b"[[" + b"[]," * 3000 + b"1]]", Reason.WRONG_TYPE, id="arrays"),
    pytest.param(b"{}", Reason.MISSING_FIELD, id="empty object"),
    pytest.param(b'{"source":"facebook"}', Reason.MISSING_FIELD, id="source alone"),
    pytest.param(b'{"source":"twitter"}', Reason.NOT_ALLOWED, id="another source"),
    pytest.param(with_raw(facebook(), "data.user.name", b'"\\ud800"'), Reason.INVALID_TEXT, id="lone surrogate"),
    pytest.param(with_raw(facebook(), "eventId", b'"\\udfff\\ud800"'), Reason.INVALID_TEXT, id="swapped surrogates"),
    pytest.param(with_raw(facebook(), "data.user.name", b'"\\u0000"'), Reason.INVALID_TEXT, id="NUL"),
    pytest.param(with_raw(facebook(), "data.user.name", b'"\xff"'), Reason.INVALID_TEXT, id="no UTF-8"),
    pytest.param(with_raw(facebook(), "data.user.name", b'"\xed\xa0\x80"'), Reason.INVALID_TEXT, id="raw surrogate"),
    pytest.param(with_raw(facebook(), "data.user.age", b"1e200000"), Reason.OUT_OF_RANGE, id="huge number"),
    pytest.param(with_raw(tiktok(), "data.user.followers", b"9" * 5000), Reason.OUT_OF_RANGE, id="5,000 digits"),
    pytest.param(
        encoded(facebook())[:-1] + b',"more":' + b"[" * 100_000 + b"]" * 100_000 + b"}", Reason.TOO_DEEP, id="deep key"
    ),
]


@pytest.mark.parametrize(("bad", "reason"), BAD)
@pytest.mark.parametrize("at", [0, 1, 2])
async def test_one_bad_event_costs_one_event(bad: bytes, reason: Reason, at: int) -> None:
    """Wherever it stands, a bad event is rejected for its own reason and kept, and its neighbours are accepted."""
    good = [encoded(facebook()), encoded(tiktok("bottom"))]
    batch = await read_array(*good[:at], bad, *good[at:])
    assert accepted(batch) == {"facebook": [good[0]], "tiktok": [good[1]]}
    assert [(index, why) for index, why, _ in reasons(batch)] == [(at, reason)]
    (copy,) = kept(batch)
    assert (copy.body, copy.length) == (bad[: 64 * 1024], len(bad))


# Bodies of which nothing is an event.
NOT_JSON = [
    b"hello",
    b"<events/>",
    b"[}",
    b"[",
    b"]",
    b"{",
    b"[,]",
    b"[nul]",
    b"[1",
    b'["a]',
    b'{"eventId":"e-1"',
    b"[" * 100_000,
    b'[{"a":' * 50_000,
    b"eventId=fb-1&source=facebook",
    "[1]".encode("utf-16"),
]


@pytest.mark.parametrize("content", NOT_JSON, ids=lambda content: repr(content[:20]))
async def test_what_is_no_json_is_rejected_whole(content: bytes) -> None:
    """A body that no JSON reader takes, and that holds no event either, is rejected as not JSON."""
    with pytest.raises(Rejected) as caught:
        await read(content)
    assert caught.value.rejection is Rejection.NOT_JSON


@pytest.mark.parametrize("content", [b"[]", b"[ ]", b" \n[\n]\n"])
async def test_an_array_without_events_is_rejected(content: bytes) -> None:
    """An empty array is JSON, but there is nothing to accept: the sender is reported."""
    with pytest.raises(Rejected) as caught:
        await read(content)
    assert caught.value.rejection is Rejection.NO_EVENTS


@pytest.mark.parametrize("content", [b"[{}]", b"{}", b"[1,2]", b"[null]", b'[{},,"a"]', b"[[]]"])
async def test_json_without_a_valid_event_is_not_called_no_json(content: bytes) -> None:
    """Where anything is JSON, but nothing an event, each element is rejected on its own: that is a 422, not a 400."""
    batch = await read(content)
    assert batch.accepted_events == 0
    assert batch.rejected_events == batch.events > 0


async def test_one_object_is_one_event() -> None:
    """A single event needs no array."""
    event = encoded(tiktok())
    assert accepted(await read(b" " + event + b"\n")) == {"tiktok": [event]}


async def test_lines_stand_for_themselves() -> None:
    """Of NDJSON, a line that is no JSON costs that line: its index counts events, not blank lines."""
    good = [encoded(facebook()), encoded(facebook("bottom"))]
    batch = await read(b"\r\n".join((good[0], b"", b"{oops", good[1], b"")), BodyFormat.LINES)
    assert accepted(batch) == {"facebook": good}
    assert reasons(batch) == [(1, Reason.MALFORMED, "$")]


@pytest.mark.parametrize("behind", [b" x", b"]", b",{}", b"[]"])
async def test_bytes_behind_the_array_are_rejected_and_kept(behind: bytes) -> None:
    """What stands behind the array is rejected like an event; the array's own events are accepted."""
    event = encoded(facebook())
    batch = await read(b"[" + event + b"]" + behind)
    assert accepted(batch) == {"facebook": [event]}
    assert [copy.body for copy in kept(batch)] == [behind.strip()]


async def test_unknown_keys_and_duplicates_are_allowed() -> None:
    """Keys that are not listed are ignored and travel on; of a key that stands twice the last one counts."""
    event = encoded(facebook())[:-1] + b',"source":"facebook","more":{"deep":[1,{"er":null}]}}'
    assert accepted(await read_array(event)) == {"facebook": [event]}


async def test_the_middle_of_a_large_body_may_be_bad() -> None:
    """In a body of many pieces a bad event costs itself, and what follows is read the usual way again."""
    good = [encoded(facebook()) for _ in range(3000)]
    batch = await read_array(*good[:1500], b'{"a":"\\ud800"}', *good[1500:])
    assert (batch.accepted_events, batch.rejected_events) == (3000, 1)
    assert accepted(batch) == {"facebook": good}
