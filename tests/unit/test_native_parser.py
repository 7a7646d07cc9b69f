"""The native parser: it gives what the Python parser gives, does not need it for a usual event, and is chosen so."""

import json
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Meta

from bench.publisher.events import RandomValues, make
from collector.parse import native, native_schema
from collector.parse.choose import select_parser
from collector.parse.native import native_parser
from collector.parse.parsed import Parsed, Parser
from collector.parse.python import RowReader, python_parser
from collector.parse.rollup import Counts, Seen, no_counts, total
from collector.sources import SOURCES
from collector.sources.source import Source
from core.errors import Misconfigured
from core.events import wire
from core.events.contract import Contract
from core.native import NOT_BUILT
from core.sources.fields import EventId, Instant
from tests.support.events import MAKERS, NOON, SHAPES, encoded, facebook, message, part, rfc3339, without
from tests.support.parsed import comparable
from tests.support.tools import require_native

CONTRACT = Contract(max_age_days=7, max_ahead_seconds=3600)
EVENT_SOURCES = ("facebook", "tiktok")


@pytest.fixture(autouse=True)
def built() -> None:
    require_native()


def read_alike(source: str, body: bytes) -> Parsed:
    """What both parsers make of a message."""
    reference, parsed = _python[source](body, 7), comparable(_native[source](body, 7))
    assert parsed == reference
    assert list(parsed.days) == list(reference.days)
    return parsed


_python: dict[str, Parser] = {name: python_parser(SOURCES[name], CONTRACT) for name in EVENT_SOURCES}
_native: dict[str, Parser] = (
    {} if NOT_BUILT else {name: native_parser(SOURCES[name], CONTRACT) for name in EVENT_SOURCES}
)

# --- equality -------------------------------------------------------------------------------------------------------

_texts = st.text(max_size=12) | st.sampled_from(["\0", "x" * 201, "é" * 101, "x" * 8_193, "é" * 4_096, "😀", "\ud800"])
_instants = st.datetimes().map(rfc3339) | st.sampled_from(
    [
        *(rfc3339(NOON)[:-1] + more for more in ("Z", "+00:00", "999+0000", "9999Z", "+01", "+0060")),
        *(rfc3339(NOON).lower(), "2000-01-01T00:00:00Z", "soon"),
    ]
)
_numbers = st.integers() | st.floats() | st.sampled_from([0, 100, 101, 32_767, 32_768, 2**31 - 1, 2**31, 2**63, 10**40])
_amounts = st.from_regex(r"[0-9]{0,11}(\.[0-9]{0,3})?", fullmatch=True)
_any = st.recursive(
    st.none() | st.booleans() | _numbers | _texts | _instants | _amounts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)
Pairs = list[tuple[str, Any]]


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """An event near the contract: values, keys, their order, white space and escapes as they come."""
    source, stage = draw(st.sampled_from(SHAPES))
    event = _pairs(MAKERS[source](stage))
    for _ in range(draw(st.integers(0, 3))):
        holder = draw(st.sampled_from(_holders(event)))
        at = draw(st.integers(0, max(0, len(holder) - 1)))
        match draw(st.integers(0, 4)) if holder else 4:
            case 0:
                holder[at] = (holder[at][0], draw(_any))
            case 1:
                del holder[at]
            case 2:
                holder.insert(draw(st.integers(0, len(holder))), (holder[at][0], draw(st.just(holder[at][1]) | _any)))
            case 3:
                holder[:] = draw(st.permutations(holder))
            case _:
                holder.insert(at, (draw(_texts), draw(_any)))
    blank = draw(st.sampled_from(["", "", " ", "\t \r"]))
    return _written(event, blank, escaped=draw(st.booleans())).encode("utf-8", "surrogatepass")


def _pairs(event: dict[str, Any]) -> Pairs:
    return [(key, _pairs(value) if isinstance(value, dict) else value) for key, value in event.items()]


def _is_pairs(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, tuple) for item in value)


def _holders(event: Pairs) -> list[Pairs]:
    """The event's objects, itself first."""
    return [event, *(holder for _, value in event if _is_pairs(value) and value for holder in _holders(value))]


def _written(value: Any, blank: str, *, escaped: bool) -> str:
    if not (_is_pairs(value) and value):
        return json.dumps(value, ensure_ascii=escaped)
    members = (
        f"{blank}{json.dumps(key, ensure_ascii=escaped)}{blank}:{blank}{_written(item, blank, escaped=escaped)}{blank}"
        for key, item in value
    )
    return "{" + ",".join(members) + "}"


_quiet = settings(suppress_health_check=[HealthCheck.too_slow], max_examples=300)


@_quiet
@given(st.lists(lines(), max_size=5), st.sampled_from(EVENT_SOURCES))
def test_events_near_the_contract_are_read_alike(found: list[bytes], source: str) -> None:
    """Whatever is changed about an event, both give the same row or the same invalid."""
    read_alike(source, wire.encode([part(len(found))], found))


@_quiet
@given(st.lists(st.binary(max_size=60).map(lambda raw: raw.replace(b"\n", b"")), max_size=3))
def test_any_bytes_are_read_alike(found: list[bytes]) -> None:
    """Lines of any bytes are invalid in both."""
    for source in EVENT_SOURCES:
        read_alike(source, wire.encode([part(len(found))], found))


@_quiet
@given(st.data())
def test_headers_are_read_alike(data: st.DataObject) -> None:
    """A header whose counts do not add up or that says anything else is one invalid event in both."""
    found = data.draw(st.lists(lines(), max_size=3))
    numbers = st.integers(-1, 3) | _numbers
    parts = st.fixed_dictionaries(
        {
            "correlationId": _texts | st.none(),
            "traceparent": st.none() | st.text(),
            "receivedAt": _instants | st.none(),
            "events": numbers,
        }
    )
    header = {"v": data.draw(st.just(1) | _any), "parts": data.draw(st.lists(parts, max_size=3) | _any)}
    body = b"\n".join([json.dumps(header).encode(), *found])
    for source in EVENT_SOURCES:
        read_alike(source, body)


@pytest.mark.parametrize("source", EVENT_SOURCES)
@pytest.mark.parametrize(
    "body", [b"", b"\n", b"\n\n", b"{}", b'{"v":1,"parts":[]}', b'{"v":1,"parts":[]}\n', b"\xff\n{}"]
)
def test_short_messages_are_read_alike(source: str, body: bytes) -> None:
    """With no line, an empty line, or no header."""
    read_alike(source, body)


@pytest.mark.parametrize("counts", [(0, 10**30), (-1, 3), (2**63, 0), (2**64, 0), (1, 0), (1, 2), (3, 0)])
def test_counts_that_do_not_add_up_are_read_alike(counts: tuple[int, int]) -> None:
    """Too many, too few, fewer than none, and more than a machine's number holds: the whole message is one invalid."""
    body = message(facebook(), facebook(), parts=[part(events) for events in counts])
    assert read_alike("facebook", body).invalid[0].position == -1


def test_parts_without_events_are_read_alike() -> None:
    """A part may hold no event, wherever it stands, and events belong to the part that counts them."""
    parts = [part(events, f"request-{number}") for number, events in enumerate((0, 1, 0, 0, 2, 0))]
    assert read_alike("facebook", message(facebook(), b"{", facebook(), parts=parts)).invalid[0].position == 1


def test_a_source_declared_otherwise_is_read_alike() -> None:
    """Columns in another order, one path twice, one that no event has: a parser knows the declaration alone."""
    columns = dict(reversed(list(SOURCES["tiktok"].columns.items())))
    other = replace(SOURCES["tiktok"], columns=columns | {"again": "timestamp", "none": "data.none"})
    body = message(*(MAKERS["tiktok"](stage) for stage in ("top", "bottom")))
    parsed = native_parser(other, CONTRACT)(body, 7)
    assert comparable(parsed) == python_parser(other, CONTRACT)(body, 7)
    assert parsed.invalid == []


# --- what it does itself --------------------------------------------------------------------------------------------


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Parser]:
    """Makes native parsers whose reference fails when it is asked."""

    def failing(source: Source, contract: Contract) -> tuple[RowReader, Callable[[Seen], Counts]]:
        def row(line: bytes, received_at: int, end: bytes, seen: Seen) -> tuple[int, bytes]:
            raise AssertionError(line)

        return row, lambda seen: no_counts()

    monkeypatch.setattr(native, "row_reader", failing)
    return lambda source: native_parser(SOURCES[source], CONTRACT)


def test_usual_events_need_no_python(alone: Callable[[str], Parser]) -> None:
    """Events as the publisher makes them, in any order of keys, with blanks, escapes and unknown keys."""
    rng = Random(7)
    fresh = RandomValues(rng, NOON.timestamp)
    native = {source: alone(source) for source in EVENT_SOURCES}
    for _ in range(500):
        event = make(rng, fresh)
        variants = (
            event,
            dict(reversed(event.items())),
            {"größe": [1, {"a": "\0"}], **event},
            json.dumps(event).replace('Z"', '+0000"').encode(),
            json.dumps(event).replace('Z"', '999999+00"').encode(),
            json.dumps(event, indent=1).replace("\n", "\r").encode(),
        )
        parsed = native[event["source"]](message(*variants), 7)
        assert (parsed.events, parsed.invalid) == (6, [])


def test_counts_of_two_parsers_are_not_added_up() -> None:
    """What stands in a slot of one parser is something else in another's."""
    with pytest.raises(ValueError, match="two parsers"):
        total(_native[source](message(MAKERS[source]("top")), 7).counts for source in EVENT_SOURCES)


def test_a_line_that_is_not_taken_is_requested_about(alone: Callable[[str], Parser]) -> None:
    """The reference gets that line alone, and what it raises is not swallowed."""
    broken = encoded(without(facebook(), "data"))
    with pytest.raises(AssertionError) as caught:
        alone("facebook")(message(facebook(), broken), 7)
    assert caught.value.args == (broken,)


def test_other_threads_run_meanwhile() -> None:
    """The GIL is not held: this thread goes on before the other one has parsed its message."""
    body = message(*[facebook()] * 20_000)
    before = sys.getswitchinterval()
    sys.setswitchinterval(60)  # no one is interrupted: a thread runs on until it lets the GIL go
    try:
        assert any(_overtakes(body) for _ in range(50))
    finally:
        sys.setswitchinterval(before)


def _overtakes(body: bytes) -> bool:
    started, done = threading.Event(), threading.Event()

    def parse() -> None:
        started.set()
        _native["facebook"](body, 7)
        done.set()

    thread = threading.Thread(target=parse)
    thread.start()
    started.wait()
    overtaken = not done.is_set()
    thread.join()
    return overtaken


# --- the choice -----------------------------------------------------------------------------------------------------


def test_the_native_parser_is_selected_where_it_can_be() -> None:
    """Of itself it serves the sources with events; Python's serves rejected events, and anyone who asks for it."""
    assert {name: select_parser("auto", source, CONTRACT)[0] for name, source in SOURCES.items()} == {
        "facebook": "native",
        "tiktok": "native",
        "rejected": "python",
    }
    assert select_parser("native", SOURCES["tiktok"], CONTRACT)[0] == "native"
    assert select_parser("python", SOURCES["tiktok"], CONTRACT)[0] == "python"


def test_asking_for_what_cannot_serve_stops_the_start() -> None:
    """The error names the source and the reason."""
    with pytest.raises(Misconfigured, match=r"--parser=native cannot serve rejected: .*not a declared source"):
        select_parser("native", SOURCES["rejected"], CONTRACT)


def test_without_a_build_python_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the choice reports the difference; who insists on the native parser is reported that it is not
    built."""
    monkeypatch.setattr(native, "NOT_BUILT", "it is not built")
    name, parse = select_parser("auto", SOURCES["facebook"], CONTRACT)
    assert name == "python"
    assert parse(message(facebook()), 7).invalid == []
    with pytest.raises(Misconfigured, match="it is not built"):
        select_parser("native", SOURCES["facebook"], CONTRACT)


class _Envelope(msgspec.Struct, tag_field="funnelStage", tag="top", rename="camel"):
    event_id: EventId
    timestamp: Instant
    source: Literal["tiktok"]


class _Bytes(_Envelope, tag="top"):
    sha256: bytes


class _Unbounded(_Envelope, tag="top"):
    watch_time: Annotated[int, Meta(ge=0)]


class _Patterned(_Envelope, tag="top"):
    username: Annotated[str, Meta(pattern="^a")]


class _Mixed(_Envelope, tag="top"):
    watch_time: int | str


@pytest.mark.parametrize(
    ("shape", "path"),
    [(_Unbounded, "watchTime"), (_Patterned, "username"), (_Mixed, "watchTime"), (_Bytes, "sha256")],
)
def test_what_cannot_be_checked_is_left_to_python(shape: type[Any], path: str) -> None:
    """A key whose rules the native parser does not have is never guessed: the source is Python's as a whole."""
    columns = {"event_time": "timestamp", "event_id": "eventId", "wrong": path}
    source = replace(SOURCES["tiktok"], shapes=(shape,), columns=columns)
    with pytest.raises(native_schema.NativeParserUnsupported, match=path):
        native_parser(source, CONTRACT)


def test_a_key_that_is_both_object_and_value_is_left_to_python() -> None:
    """Shapes that do not fit together are reported by the native parser itself."""

    class Flat(_Envelope, tag="flat"):
        event_type: Literal["none"]
        data: Literal["none"]

    source = replace(SOURCES["tiktok"], shapes=(*SOURCES["tiktok"].shapes, Flat))
    with pytest.raises(native_schema.NativeParserUnsupported, match=r"object"):
        native_parser(source, CONTRACT)


def test_an_encoded_line_is_what_the_sender_wrote() -> None:
    """The strategy above writes plain JSON where nothing is changed: its events are valid to begin with."""
    for source, stage in SHAPES:
        event = MAKERS[source](stage)
        line = _written(_pairs(event), "", escaped=False).replace('": ', '":').encode()
        assert line == encoded(event)
        assert read_alike(source, message(line)).invalid == []
