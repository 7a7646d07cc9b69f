"""Splitting a body: every element comes out as it stands, in order, whatever is wrong with its neighbours."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway import brackets
from gateway import split as splitting
from gateway.body import BodyFormat
from gateway.piece import Elements
from gateway.rejection import Rejected, Rejection
from gateway.split import split
from tests.support.events import encoded, facebook, tiktok

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)
OBJECT = b'{"a":[1,{"b":"},{"}],"c":"\\"]"}'
HOSTILE = st.binary(max_size=40) | st.text(alphabet='[]{},:"\\ \n1a', max_size=40).map(str.encode)


def elements(content: bytes, body_format: BodyFormat = BodyFormat.JSON) -> list[bytes]:
    return [element for piece in split(content, body_format) if isinstance(piece, Elements) for element in piece.raw]


def rejection(content: bytes) -> Rejection:
    with pytest.raises(Rejected) as caught:
        elements(content)
    return caught.value.rejection


@pytest.fixture(params=["as it is", "small pieces"])
def piece_bytes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces so small that every body has many of them, and cuts fall anywhere."""
    if request.param == "small pieces":
        monkeypatch.setattr(splitting, "PIECE_BYTES", 16)
        monkeypatch.setattr(splitting, "MAX_CUT_DISTANCE_BYTES", 24)
        monkeypatch.setattr(brackets, "CAREFUL_BYTES", 3)
        monkeypatch.setattr(splitting, "SPACE_BYTES", 2)


@pytest.mark.parametrize("indent", [None, 2])
def test_a_body_of_many_pieces_comes_out_whole(indent: int | None) -> None:
    """Events of a body of several pieces, compact or pretty-printed, come out one by one, in order and unchanged."""
    events = [event for _ in range(1500) for event in (facebook(), tiktok("bottom"))]
    content = json.dumps(events, indent=indent).encode()
    assert len(content) > 4 * splitting.PIECE_BYTES
    assert [json.loads(element) for element in elements(content)] == events


@settings(max_examples=200)
@given(values=st.lists(JSON_VALUES, max_size=8), indent=st.sampled_from([None, 1]), careful=st.booleans())
def test_any_array_is_split_as_a_json_reader_would(values: list[Any], indent: int | None, careful: bool) -> None:
    """Any array splits into exactly its elements, by msgspec or by brackets and strings alone."""
    content = json.dumps(values, indent=indent).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "PIECE_BYTES", 16)
        patch.setattr(splitting, "MAX_CUT_DISTANCE_BYTES", 24)
        patch.setattr(brackets, "CAREFUL_BYTES", 3)
        patch.setattr(splitting, "SPACE_BYTES", 2)
        if careful and values:
            patch.setattr(splitting, "_elements", _unreadable)
        assert [json.loads(element) for element in elements(content)] == values


def _unreadable(_: bytes) -> Any:
    raise ValueError("not this way")


@settings(max_examples=300)
@given(content=HOSTILE, closed=st.booleans())
def test_no_body_does_more_than_be_rejected(content: bytes, closed: bool) -> None:
    """Whatever stands in an array, it is split or rejected; it never ends in another error."""
    body = b"[" + content + (b"]" if closed else b"")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "PIECE_BYTES", 16)
        patch.setattr(splitting, "MAX_CUT_DISTANCE_BYTES", 24)
        patch.setattr(brackets, "CAREFUL_BYTES", 3)
        patch.setattr(splitting, "SPACE_BYTES", 2)
        try:
            found = elements(body)
        except Rejected as error:
            assert error.rejection is Rejection.NOT_JSON
        else:
            assert all(isinstance(element, bytes) for element in found)


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(b'{"eventId":"\\ud800"}', id="lone surrogate"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, id="nested 100,000 deep"),
        pytest.param(b'{"a":1 "b":2}', id="grammar error"),
        pytest.param(b"{'a':1}", id="other quotes"),
        pytest.param(b'{"a":\xff}', id="no UTF-8"),
        pytest.param(b"nul", id="no literal"),
        pytest.param(b'{"a":1e}', id="no number"),
        pytest.param(b"", id="nothing at all"),
    ],
)
@pytest.mark.parametrize("at", [0, 700, 1999])
def test_one_bad_element_costs_one_element(bad: bytes, at: int) -> None:
    """An element that no JSON reader takes comes out as one element; all others come out unchanged around it."""
    good = [encoded(facebook()) for _ in range(2000)]
    events = [*good[:at], bad, *good[at:]]
    assert elements(b"[" + b",".join(events) + b"]") == events


def test_an_object_is_one_event(piece_bytes: None) -> None:
    """A top-level object is one event, whatever it holds; space around it is not part of it."""
    assert elements(b" \r\n" + OBJECT + b"\n") == [OBJECT]


def test_an_empty_array_holds_no_event(piece_bytes: None) -> None:
    """`[]` has no elements, with space or without."""
    assert elements(b"[]") == elements(b" [ \n] ") == []


def test_lines_are_events(piece_bytes: None) -> None:
    """Each line of NDJSON is an event; blank lines and carriage returns are nothing, and no line is special."""
    lines = [encoded(facebook()) for _ in range(1000)] + [b"nonsense", b"[1]"]
    assert elements(b"\r\n\n".join(lines) + b"\n", BodyFormat.LINES) == lines


@pytest.mark.parametrize("body_format", BodyFormat)
@pytest.mark.parametrize("between", [b"\n", b"\r\n", b"\n\n", b"", b" ", b"\t \n"])
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_objects_one_after_the_other_are_events(
    body_format: BodyFormat, between: bytes, end: bytes, piece_bytes: None
) -> None:
    """NDJSON is split whatever its type. Objects in one line, or with space between them, are split as JSON."""
    if body_format is BodyFormat.LINES and b"\n" not in between:
        return
    objects = [encoded(facebook()) for _ in range(20)] + [OBJECT, b'{"a":"}{","b":"} {"}'] * 5
    assert elements(between.join(objects) + end, body_format) == objects


@pytest.mark.parametrize("bad", [b"nonsense", b'{"a":1', b'{"a":}', b'{"a":"\xff"}', b"[1]", b"}"])
@pytest.mark.parametrize("at", [0, 1, 5])
def test_a_bad_line_costs_one_line_whatever_the_type(bad: bytes, at: int, piece_bytes: None) -> None:
    """A line that is no object comes out as one element. Its neighbours come out unchanged."""
    good = [encoded(facebook()) for _ in range(5)]
    lines = [*good[:at], bad, *good[at:]]
    if lines[0].startswith(b"{"):
        assert elements(b"\n".join(lines)) == lines
    assert elements(b"\n".join(lines), BodyFormat.LINES) == lines


@pytest.mark.parametrize("bad", [b'{"a":}', b'{"a":"\xff"}', b"{'a':[1]}", b'{"a":"\\ud800"}'])
@pytest.mark.parametrize("indent", [None, 1])
def test_a_bad_object_costs_one_object(bad: bytes, indent: int | None, piece_bytes: None) -> None:
    """Of objects without line breaks between them, or pretty-printed, one that is no JSON comes out as one element."""
    good = [json.dumps({"a": "}{", "b": number}, indent=indent).encode() for number in range(40)]
    objects = [*good[:20], bad, *good[20:]]
    assert elements(b"".join(objects)) == elements(b" ".join(objects)) == objects


def test_objects_of_many_pieces_come_out_whole() -> None:
    """Objects of several pieces, some larger than a piece, come out one by one, in order and unchanged."""
    objects = [encoded(facebook()) for _ in range(2000)] + [b'{"a":"' + b"}{" * 200_000 + b'"}'] * 3
    objects = [element for pair in zip(objects, reversed(objects), strict=True) for element in pair]
    assert elements(b"".join(objects)) == objects


@pytest.mark.parametrize("content", [b"[%b]", b"[%b]\n", b"[\n%b\n]\n", b" [%b ,\n%b] "])
def test_an_array_is_an_array_whatever_the_type(content: bytes, piece_bytes: None) -> None:
    """An array is split as such also under a type that announces lines."""
    body = content.replace(b"%b", OBJECT)
    assert elements(body, BodyFormat.LINES) == [OBJECT] * content.count(b"%b")


@settings(max_examples=300)
@given(content=HOSTILE)
def test_whatever_follows_an_object_is_an_element(content: bytes) -> None:
    """Nothing of a body that begins with an object is lost: without space, its elements are the body."""
    body = b"{" + content
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "PIECE_BYTES", 16)
        patch.setattr(splitting, "MAX_CUT_DISTANCE_BYTES", 24)
        patch.setattr(brackets, "CAREFUL_BYTES", 3)
        patch.setattr(splitting, "SPACE_BYTES", 2)
        found = b"".join(elements(body))
    assert found.translate(None, b" \t\r\n") == body.translate(None, b" \t\r\n")


@settings(max_examples=200)
@given(content=st.text(alphabet="\n\r 1a{}", max_size=60).map(str.encode))
def test_any_lines_are_split_as_a_reader_of_lines_would(content: bytes) -> None:
    """However long lines are and wherever space stands, each is one event, and blank ones are none."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(splitting, "PIECE_BYTES", 8)
        patch.setattr(splitting, "SPACE_BYTES", 2)
        found = elements(content, BodyFormat.LINES)
    assert found == [line.strip() for line in content.split(b"\n") if line.strip()]


@pytest.mark.parametrize(
    ("content", "body_format", "found"),
    [
        pytest.param(b"%s[1]", BodyFormat.JSON, [b"1"], id="before an array"),
        pytest.param(b"%s" + OBJECT, BodyFormat.JSON, [OBJECT], id="before an object"),
        pytest.param(OBJECT + b"%s", BodyFormat.JSON, [OBJECT], id="after an object"),
        pytest.param(b"[}%s,1]", BodyFormat.JSON, [b"}", b"1"], id="inside"),
        pytest.param(b"[}]%s", BodyFormat.JSON, [b"}"], id="behind an array that is taken apart"),
        pytest.param(b"1%s\n2", BodyFormat.LINES, [b"1", b"2"], id="in a line"),
    ],
)
def test_space_is_passed_over_in_steps(content: bytes, body_format: BodyFormat, found: list[bytes]) -> None:
    """Space without end is nothing, and the event loop runs while it is passed over."""
    body = content.replace(b"%s", b" " * (10 * splitting.SPACE_BYTES))
    steps = list(split(body, body_format))
    assert [element for step in steps if isinstance(step, Elements) for element in step.raw] == found
    assert len(steps) >= 10


def test_what_follows_the_array_is_an_element(piece_bytes: None) -> None:
    """Bytes behind the closing bracket are not lost: they come out as one more element."""
    assert elements(b"[" + OBJECT + b"] " + OBJECT) == [OBJECT, OBJECT]


@pytest.mark.parametrize(
    "content", [b"[", b"[1", b'["a]', b'[{"a":1}', b'[{"a":[1}', b'["\\"]', b"[" + OBJECT * 40_000]
)
def test_an_array_that_does_not_close_is_not_json(content: bytes) -> None:
    """A bracket or a quote that is missing makes the whole body unreadable: nothing says where its events end."""
    assert rejection(content) is Rejection.NOT_JSON


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"null", Rejection.NOT_EVENTS),
        (b'"[]"', Rejection.NOT_EVENTS),
        (b" 12.5 ", Rejection.NOT_EVENTS),
        (b"true", Rejection.NOT_EVENTS),
        (b"hello", Rejection.NOT_JSON),
        (b"}", Rejection.NOT_JSON),
        (b'"', Rejection.NOT_JSON),
        (b"\x00", Rejection.NOT_JSON),
        (b"<a/>", Rejection.NOT_JSON),
        ("é".encode("latin-1"), Rejection.NOT_JSON),
        (b"1 2", Rejection.NOT_JSON),
    ],
)
def test_a_scalar_is_rejected_and_reported_from_no_json(content: bytes, expected: Rejection) -> None:
    """A body that is neither array nor object is rejected, as JSON of the wrong kind or as no JSON at all."""
    assert rejection(content) is expected


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"[" + b"0," * 1_000_000 + b"0]", id="numbers"),
        pytest.param(b"[" + b"{}," * 700_000 + b"{}]", id="empty objects"),
        pytest.param(b"[" + b"[]," * 700_000 + b"0]", id="empty arrays"),
        pytest.param(b"[" + b"," * 2_000_000 + b"]", id="commas"),
        pytest.param(b'["' + b"\\\\" * 1_000_000 + b'"]', id="escapes"),
        pytest.param(b'["' + b"a" * 2_000_000 + b'"]', id="one long text"),
        pytest.param(b"[" + b'""' * 1_000_000 + b"]", id="quotes"),
        pytest.param(b"[" + b"[1," * 700_000 + b"]" * 700_001, id="nested"),
        pytest.param(b"[{}" + b" " * 2_000_000 + b",{}]", id="space"),
        pytest.param(b"{}" * 1_000_000, id="objects without space"),
        pytest.param(b"{} " * 700_000 + b"x", id="objects and something else"),
        pytest.param(b'{"a":"' + b"}{" * 1_000_000 + b'"}', id="an object that looks like many"),
        pytest.param(b"{" * 2_000_000, id="objects without end"),
    ],
)
def test_steps_are_many_and_small(content: bytes) -> None:
    """However hostile a body, it is split in steps of a bounded number of bytes, and none yields many elements."""
    steps = [piece.events for piece in split(content, BodyFormat.JSON)]
    assert len(steps) > len(content) / (splitting.PIECE_BYTES + splitting.MAX_CUT_DISTANCE_BYTES)
    assert max(steps) <= splitting.PIECE_BYTES
