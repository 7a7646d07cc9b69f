"""The wire: a batch as one message and back, and every way of cutting one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.events import wire
from core.events.wire import InvalidMessage, Part

lines = st.lists(st.binary(max_size=30).map(lambda raw: raw.replace(b"\n", b"")), max_size=8)
names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=10)


@st.composite
def batches(draw: st.DrawFn) -> tuple[list[Part], list[bytes]]:
    """Parts with their lines; a part may be empty."""
    requests = draw(st.lists(lines, min_size=1, max_size=4))
    parts = [Part(draw(names), draw(st.none() | names), "2026-11-22T07:25:58Z", len(request)) for request in requests]
    return parts, [line for request in requests for line in request]


@given(batches())
def test_a_batch_comes_back_as_it_was(batch: tuple[list[Part], list[bytes]]) -> None:
    """Parts and bytes of every event survive, whatever bytes they are but line feeds."""
    assert wire.decode(wire.encode(*batch)) == batch


@given(batches(), st.data())
def test_a_cut_keeps_each_event_under_its_part(batch: tuple[list[Part], list[bytes]], data: st.DataObject) -> None:
    """A cut holds the events asked for, each with the part that it came with; parts without events fall away."""
    parts, lines = batch
    start = data.draw(st.integers(0, len(lines)))
    stop = data.draw(st.integers(start, len(lines)))
    cut_parts, cut_lines = wire.decode(wire.cut(parts, lines, start, stop))
    assert cut_lines == lines[start:stop]
    assert all(part.events > 0 for part in cut_parts)
    for position, _line in enumerate(cut_lines):
        was, now = wire.part_of(parts, start + position), wire.part_of(cut_parts, position)
        assert (now.correlation_id, now.traceparent) == (was.correlation_id, was.traceparent)


def test_no_part_holds_an_event_past_the_last() -> None:
    """Asking for the part of an event that is not there is an IndexError."""
    parts = [Part("a", None, "2026-11-22T07:25:58Z", 2), Part("b", None, "2026-11-22T07:25:58Z", 1)]
    assert [wire.part_of(parts, position).correlation_id for position in range(3)] == ["a", "a", "b"]
    with pytest.raises(IndexError):
        wire.part_of(parts, 3)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (b"", "is not a header"),
        (b"\n", "is not a header"),
        (b"not json\n{}", "is not a header"),
        (b"[]\n", "is not a header"),
        (b"\xff\xfe", "is not a header"),
        (b"[" * 100_000, "is not a header"),
        (b'{"v":1}', "is not a header"),
        (b'{"v":"1","parts":[]}', "is not a header"),
        (b'{"v":1,"parts":[{"correlationId":"a","traceparent":null,"receivedAt":"x"}]}', "is not a header"),
        (b'{"v":2,"parts":[]}', "version 2"),
        (b'{"v":0,"parts":[]}', "version 0"),
        (b'{"v":1,"parts":[]}\n{}', "1 events and its parts count 0"),
        (
            b'{"v":1,"parts":[{"correlationId":"a","traceparent":null,"receivedAt":"x","events":2}]}\n{}',
            "1 events and its parts count 2",
        ),
        (
            b'{"v":1,"parts":[{"correlationId":"a","traceparent":null,"receivedAt":"x","events":-1},'
            b'{"correlationId":"b","traceparent":null,"receivedAt":"x","events":2}]}\n{}',
            "1 events and its parts count 1",
        ),
    ],
)
def test_what_cannot_be_read_is_reported(message: bytes, said: str) -> None:
    """A message of another version, without a header or with a wrong count is unknown, and the error says why."""
    with pytest.raises(InvalidMessage, match=said):
        wire.decode(message)


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(message: bytes) -> None:
    """Any bytes are a message or unknown."""
    try:
        parts, lines = wire.decode(message)
    except InvalidMessage:
        return
    assert sum(part.events for part in parts) == len(lines)


def test_keys_of_a_later_minor_version_are_ignored() -> None:
    """A header may gain keys without a new version: an older collector reads on."""
    message = (
        b'{"v":1,"more":1,"parts":[{"correlationId":"a","traceparent":null,"receivedAt":"x","events":1,"more":2}]}\n{}'
    )
    assert wire.decode(message) == ([Part("a", None, "x", 1)], [b"{}"])


@pytest.mark.parametrize("event", [b'{"a":1}', b'{ "a" : "b\\nc" }', b'{"a":"\xc2\x85\xe2\x80\xa8"}', b"", b"\x00"])
def test_an_event_on_one_line_stays_as_it_is(event: bytes) -> None:
    """Bytes without a line break are not touched: blanks, escapes and Unicode's own line separators stay."""
    assert wire.one_line(event) is event


@pytest.mark.parametrize("newline", [b"\n", b"\r", b"\r\n"])
def test_a_pretty_printed_event_is_compacted(newline: bytes) -> None:
    """Line breaks between keys go; values, their digits and their escapes stay as they were sent."""
    pretty = newline.join(
        [b"{", b'"text" : "a\\nb \\u00e9 \\/",', b'  "number": 1.10e400,', b'  "list": [', b" 1,", b"-0 ]", b"}"]
    )
    compact = wire.one_line(pretty)
    assert compact == b'{"text":"a\\nb \\u00e9 \\/","number":1.10e400,"list":[1,-0]}'
    assert b"\n" not in compact


def test_the_header_is_json_that_others_can_read() -> None:
    """The first line is plain JSON with the names that the format gives them."""
    header, event = wire.encode([Part("a", "00-trace-01", "2026-11-22T07:25:58Z", 1)], [b"{}"]).split(b"\n")
    assert json.loads(header) == {
        "v": 1,
        "parts": [
            {"correlationId": "a", "traceparent": "00-trace-01", "receivedAt": "2026-11-22T07:25:58Z", "events": 1}
        ],
    }
    assert event == b"{}"
