"""The contract, key by key: what is taken, and for what is not, the reason and the path."""

import json
import tracemalloc
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.publisher.events import TYPES, RandomValues, make
from core.events.contract import MAX_PEEK_BYTES, Contract, Invalid, Reason, peek_ids, texts
from core.sources import SOURCES
from core.sources.declaration import Envelope
from tests.support.events import MAKERS, NOON, SHAPES, Event, changed, encoded, microseconds, paths, without

CONTRACT = Contract(max_age_days=7, max_ahead_seconds=3600)
NULLABLE = {"videoId", "purchaseAmount", "profileId", "purchasedItem"}
# Keys whose value chooses what the rest has to look like.
GENDERS = ("male", "female", "non-binary")
ALLOWED: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {
    ("facebook", "top"): {
        "data.user.gender": GENDERS,
        "data.engagement.referrer": ("newsfeed", "marketplace", "groups"),
    },
    ("facebook", "bottom"): {
        "data.user.gender": GENDERS,
        "data.engagement.clickPosition": ("top_left", "bottom_right", "center"),
        "data.engagement.device": ("mobile", "desktop"),
        "data.engagement.browser": ("Chrome", "Firefox", "Safari"),
    },
    ("tiktok", "top"): {"data.engagement.device": ("Android", "iOS", "Desktop")},
    ("tiktok", "bottom"): {},
}


def read(event: Event | bytes) -> Envelope:
    return CONTRACT.read(encoded(event), microseconds())


def rejection(event: Event | bytes) -> tuple[Reason, str]:
    with pytest.raises(Invalid) as caught:
        read(event)
    return caught.value.reason, caught.value.path


def each_key(*, nullable: bool | None = None) -> list[Any]:
    """Every key of every shape: source, stage, path."""
    return [
        pytest.param(source, stage, path, id=f"{source}-{stage}-{path}")
        for source, stage in SHAPES
        for path in paths(MAKERS[source](stage))
        if nullable is None or (path.rpartition(".")[2] in NULLABLE and _may_be_null(source, stage, path)) == nullable
    ]


def _may_be_null(source: str, stage: str, path: str) -> bool:
    return (source, stage, path) != ("tiktok", "top", "data.engagement.videoId")


@pytest.mark.parametrize(("source", "stage"), SHAPES)
def test_an_event_is_read_into_its_own_shape(source: str, stage: str) -> None:
    """Source and stage choose the struct, and every text, number and null of the event stands in it."""
    event = MAKERS[source](stage)
    got = read(event)
    assert type(got) in SOURCES[source].shapes
    assert type(got).__name__ == stage.capitalize()
    assert json.loads(msgspec.json.encode(got)) == event


def test_what_the_publisher_makes_is_taken() -> None:
    """A thousand events as the publisher makes them break nothing of the contract."""
    rng = Random(7)
    fresh = RandomValues(rng, NOON.timestamp)
    for _ in range(1_000):
        event = make(rng, fresh)
        assert json.loads(msgspec.json.encode(read(event))) == event


@pytest.mark.parametrize(("source", "stage", "path"), each_key())
def test_no_key_is_optional(source: str, stage: str, path: str) -> None:
    """A key that is not there is a missing field, and the path names it."""
    assert rejection(without(MAKERS[source](stage), path)) == (Reason.MISSING_FIELD, f"$.{path}")


@pytest.mark.parametrize(("source", "stage", "path"), each_key(nullable=False))
def test_null_stands_only_where_it_is_allowed(source: str, stage: str, path: str) -> None:
    """An explicit null is a wrong type everywhere but where the contract allows it."""
    assert rejection(changed(MAKERS[source](stage), path, None)) == (Reason.WRONG_TYPE, f"$.{path}")


@pytest.mark.parametrize(("source", "stage", "path"), each_key(nullable=True))
def test_null_is_taken_where_it_is_allowed(source: str, stage: str, path: str) -> None:
    """The four nullable keys may be null, on every event type."""
    read(changed(MAKERS[source](stage), path, None))


@pytest.mark.parametrize(("source", "stage", "path"), each_key())
@pytest.mark.parametrize("value", [["a", "list"], True, 1.5], ids=["list", "bool", "float"])
def test_a_wrong_type_is_reported(source: str, stage: str, path: str, value: Any) -> None:
    """No value is bent into the type that the contract asks for."""
    assert rejection(changed(MAKERS[source](stage), path, value)) == (Reason.WRONG_TYPE, f"$.{path}")


@pytest.mark.parametrize(
    ("path", "value"),
    [("data.user.age", "36"), ("data.user.age", 36.0), ("data.user.userId", 36), ("timestamp", 1_700_000_000)],
)
def test_no_value_is_converted(path: str, value: Any) -> None:
    """A number in quotes, an integral float or an epoch instant is a wrong type."""
    assert rejection(changed(MAKERS["facebook"](), path, value)) == (Reason.WRONG_TYPE, f"$.{path}")


@pytest.mark.parametrize(("source", "stage"), SHAPES)
def test_event_types_belong_to_their_source_and_stage(source: str, stage: str) -> None:
    """Each listed type is taken on its own source and stage, and every other one is not allowed."""
    every = {kind for kinds in TYPES.values() for kind in kinds} | {"", "AD.VIEW", "ad.view ", "unknown"}
    for kind in every:
        event = changed(MAKERS[source](stage), "eventType", kind)
        if kind in TYPES[source, stage]:  # type: ignore[index]
            assert read(event).event_type == kind
        else:
            assert rejection(event) == (Reason.NOT_ALLOWED, "$.eventType")


@pytest.mark.parametrize(
    ("source", "stage", "path", "values"),
    [(*shape, path, values) for shape, lists in ALLOWED.items() for path, values in lists.items()],
)
def test_closed_lists_are_closed(source: str, stage: str, path: str, values: tuple[str, ...]) -> None:
    """Each listed value is taken; another one, in another case or with a blank, is not."""
    event = MAKERS[source](stage)
    for value in values:
        read(changed(event, path, value))
        assert rejection(changed(event, path, value.swapcase())) == (Reason.NOT_ALLOWED, f"$.{path}")
        assert rejection(changed(event, path, f"{value} ")) == (Reason.NOT_ALLOWED, f"$.{path}")


@pytest.mark.parametrize("path", ["source", "funnelStage"])
def test_an_unknown_source_or_stage_is_not_allowed(path: str) -> None:
    """The two keys that choose the shape name themselves when they are wrong."""
    assert rejection(changed(MAKERS["tiktok"](), path, "other")) == (Reason.NOT_ALLOWED, f"$.{path}")


@pytest.mark.parametrize(("source", "stage"), SHAPES)
def test_keys_that_are_not_listed_are_ignored(source: str, stage: str) -> None:
    """Unknown keys never make an event invalid and never reach what is stored, wherever they stand."""
    event = MAKERS[source](stage)
    plain = read(event)
    extra = {"nul": "\0", "deep": [[[{"a": None}]]], "long": "x" * 100_000, "many": 10**40}
    for holder in ("", "data.", "data.user.", "data.engagement."):
        assert read(changed(event, f"{holder}added", extra)) == plain
    huge = encoded(event)[:-1] + b',"huge":1e200000,"bytes":"\xff\xfe"}'
    assert read(huge) == plain


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", Reason.MALFORMED),
        (b"   ", Reason.MALFORMED),
        (b"{", Reason.MALFORMED),
        (b"nonsense", Reason.MALFORMED),
        (b'{"source":"facebook"}{"source":"facebook"}', Reason.MALFORMED),
        (b"[]", Reason.WRONG_TYPE),
        (b"null", Reason.WRONG_TYPE),
        (b'"text"', Reason.WRONG_TYPE),
        (b"7", Reason.WRONG_TYPE),
    ],
)
def test_what_is_no_object_is_rejected_whole(raw: bytes, reason: Reason) -> None:
    """Bytes that are no JSON object are rejected with the path of the whole."""
    assert rejection(raw) == (reason, "$")


def test_an_empty_object_lacks_its_source() -> None:
    """The first thing missed is the source."""
    assert rejection(b"{}") == (Reason.MISSING_FIELD, "$.source")


@pytest.mark.parametrize("tail", [b"", b'"', b",", b"\x00", b"]", b"NaN}"])
@pytest.mark.parametrize("cut", [1, 2, 40])
def test_a_truncated_event_is_malformed(cut: int, tail: bytes) -> None:
    """An event that was cut off in transit is malformed, whatever stands at the cut."""
    assert rejection(encoded(MAKERS["facebook"]())[:-cut] + tail) == (Reason.MALFORMED, "$")


@pytest.mark.parametrize("constant", [b"NaN", b"Infinity", b"-Infinity"])
def test_numbers_that_json_does_not_know_are_malformed(constant: bytes) -> None:
    """What some libraries write for a float without a value is broken JSON, in a listed key and in others."""
    raw = encoded(changed(MAKERS["facebook"](), "data.user.age", "HERE")).replace(b'"HERE"', constant)
    assert rejection(raw) == (Reason.MALFORMED, "$")
    assert rejection(encoded(MAKERS["facebook"]())[:-1] + b',"more":' + constant + b"}") == (Reason.MALFORMED, "$")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_another_encoding_is_malformed(encoding: str) -> None:
    """An event is UTF-8 without a byte order mark."""
    assert rejection(encoded(MAKERS["facebook"]()).decode().encode(encoding)) == (Reason.MALFORMED, "$")


@pytest.mark.parametrize("text", ['"\\ud800"', '"\\udc00\\ud800"', '"a\\ud83d"'])
def test_a_lone_surrogate_is_an_invalid_text(text: str) -> None:
    """Half a surrogate pair, which no UTF-8 can hold, is reported apart from broken JSON."""
    raw = encoded(changed(MAKERS["facebook"](), "data.user.name", "HERE")).replace(b'"HERE"', text.encode())
    assert rejection(raw) == (Reason.INVALID_TEXT, "$")


@pytest.mark.parametrize("text", [b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82"])
def test_text_that_is_not_utf8_is_rejected(text: bytes) -> None:
    """Stray, overlong, surrogate, out of range and cut off bytes are invalid text in a listed key."""
    raw = encoded(changed(MAKERS["facebook"](), "data.user.name", "HERE")).replace(b"HERE", text)
    assert rejection(raw) == (Reason.INVALID_TEXT, "$")


def test_nesting_without_end_is_rejected() -> None:
    """An event that nests deeper than can be read is too deep; no stack overflows."""
    raw = encoded(MAKERS["facebook"]())[:-1] + b',"deep":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    assert rejection(raw) == (Reason.TOO_DEEP, "$")


def test_of_keys_that_stand_twice_the_last_counts() -> None:
    """Two spellings of one key are one key: the later value is the one checked and stored."""
    raw = encoded(MAKERS["facebook"]())
    assert read(raw[:-1] + b',"eventId":"second"}').event_id == "second"
    assert rejection(raw[:-1] + b',"eventId":"nul\\u0000"}') == (Reason.INVALID_TEXT, "$.eventId")
    assert rejection(raw[:-1] + b',"source":"tiktok"}')[0] is Reason.NOT_ALLOWED


@pytest.mark.parametrize(("source", "stage"), SHAPES)
def test_the_guess_of_the_source_changes_nothing(source: str, stage: str) -> None:
    """Where a stream already says the source, and where keys stand in another order, the event reads the same."""
    event = MAKERS[source](stage)
    backwards = dict(reversed(event.items())) | {"note": "tiktok facebook"}
    other = {"facebook": "tiktok", "tiktok": "facebook"}[source]
    noise = {"other": other, **event}
    for raw in (encoded(event), encoded(backwards), encoded(noise)):
        plain = CONTRACT.read(raw, microseconds())
        assert CONTRACT.read(raw, microseconds(), source) == plain


def test_a_stream_takes_its_own_source_alone() -> None:
    """A valid event of another source is not allowed where the stream's source is given."""
    with pytest.raises(Invalid) as caught:
        CONTRACT.read(encoded(MAKERS["tiktok"]()), microseconds(), "facebook")
    assert (caught.value.reason, caught.value.path) == (Reason.NOT_ALLOWED, "$.source")


def test_texts_are_reported_with_their_paths() -> None:
    """Every text of an event is found, so that each is held to its limit."""
    found = dict(texts(read(MAKERS["facebook"]("bottom"))))
    assert found["$.data.user.location.city"] == "Bergen"
    assert found["$.data.engagement.purchaseAmount"] == "203.95"
    assert "$.data.user.age" not in found


def test_a_peek_of_what_was_rejected() -> None:
    """Source and id of a rejected event are reported where they can be read and stored, else not."""
    assert peek_ids(b'{"source":"tiktok","eventId":"t-1","timestamp":5}') == ("tiktok", "t-1")
    assert peek_ids(b'{"source":"other","eventId":7}') == (None, None)
    assert peek_ids(b'{"eventId":"nul\\u0000"}') == (None, None)
    assert peek_ids(b'{"source":"facebook","eventId":"%s"}' % (b"x" * 201)) == ("facebook", None)
    assert peek_ids(b'{"source":"facebook","eventId":"%s"}' % (b"x" * 200)) == ("facebook", "x" * 200)
    for raw in (b"", b"[]", b"{", b"\xff", b"[" * 100_000):
        assert peek_ids(raw) == (None, None)


def test_a_peek_takes_no_room() -> None:
    """However many keys an event has, nothing of them is kept; of one without end nothing is read."""
    keys = b",".join(b'"%05x":0' % number for number in range(MAX_PEEK_BYTES // 11))
    raw = b'{"source":"tiktok",%s,"eventId":"t-1"}' % keys
    tracemalloc.start()
    try:
        assert peek_ids(raw) == ("tiktok", "t-1")
        assert tracemalloc.get_traced_memory()[1] < 10_000
    finally:
        tracemalloc.stop()
    assert peek_ids(raw + b" " * MAX_PEEK_BYTES) == (None, None)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@st.composite
def _broken_events(draw: st.DrawFn) -> bytes:
    """Bytes near the contract: an event with one key set to anything, and perhaps a byte changed."""
    source, stage = draw(st.sampled_from(SHAPES))
    event = MAKERS[source](stage)
    raw = bytearray(encoded_loosely(changed(event, draw(st.sampled_from(paths(event))), draw(_json))))
    if draw(st.booleans()):
        raw[draw(st.integers(0, len(raw) - 1))] = draw(st.integers(0, 255))
    return bytes(raw)


def encoded_loosely(event: Event) -> bytes:
    """JSON with what JSON does not know: NaN, and lone surrogates as escapes."""
    return json.dumps(event).encode()


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=200) | _broken_events())
def test_whatever_comes_is_taken_or_rejected(raw: bytes) -> None:
    """No bytes raise anything but Invalid; what is said of them can be stored and sent; a peek never fails."""
    try:
        event = CONTRACT.read(raw, microseconds())
    except Invalid as why:
        for said in (why.path, why.detail):
            assert "\0" not in said
            said.encode()
        assert why.path.startswith("$")
        assert len(why.detail) < 300
    else:
        assert peek_ids(raw) == (event.source, event.event_id)
