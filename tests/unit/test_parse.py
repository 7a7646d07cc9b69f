"""The parsers, both by the same tests: messages of every shape into rows, and what is wrong with the rest."""

import struct
from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.parse import pg_copy
from collector.parse.choose import ParserChoice, select_parser
from collector.parse.parsed import InvalidEvent, Parsed, Parser
from collector.parse.rollup import QUARTER_MICROSECONDS, no_counts, total
from collector.parse.row import copied_columns
from collector.sources import SOURCES
from collector.sources.source import Audience
from core.events import rejected as rejected_events
from core.events import wire
from core.events.contract import DAY_MICROSECONDS, Contract, Invalid, Reason
from tests.support.copy_rows import named_rows
from tests.support.events import (
    MAKERS,
    NOON,
    SHAPES,
    Event,
    changed,
    encoded,
    facebook,
    message,
    microseconds,
    part,
    paths,
    rfc3339,
    tiktok,
    without,
)
from tests.support.parsed import comparable
from tests.support.tools import require_native

CONTRACT = Contract(max_age_days=7, max_ahead_seconds=3600)
Parsers = dict[str, Parser]
DAY = microseconds(NOON) // DAY_MICROSECONDS


@pytest.fixture(scope="module", params=["python", "native"])
def parsers(request: pytest.FixtureRequest) -> Parsers:
    """Each source's parser of one kind; a source that the native one does not know is Python's in any case."""
    if request.param == "native":
        require_native()
    choice: ParserChoice = "python" if request.param == "python" else "auto"
    return {name: select_parser(choice, source, CONTRACT)[1] for name, source in SOURCES.items()}


def rows(source: str, parsed: Parsed, day: int = DAY) -> list[dict[str, bytes | None]]:
    """A day's rows by column, counted as the parser counts them."""
    got = named_rows(parsed.days[day].copy, copied_columns(SOURCES[source]))
    assert len(got) == parsed.days[day].count
    return got


@pytest.mark.parametrize(("source", "stage"), SHAPES)
def test_each_column_comes_from_its_own_key(parsers: Parsers, source: str, stage: str) -> None:
    """A change of one key changes one column, the one that the source declares for it, and no other."""
    parse = parsers[source]
    event = MAKERS[source](stage, event_id="same")
    columns = {path: column for column, path in SOURCES[source].columns.items()}
    received = part(1, received_at=NOON)
    (plain,) = rows(source, parse(message(event, parts=[received]), 7))
    assert set(plain) == set(columns.values()) | {"received_at", "stream_sequence", "correlation_id"}
    leaves = [path for path in paths(event) if path in columns]
    for path in leaves:
        value = _another(path)
        if value is None:  # source and stage choose the shape
            continue
        (other,) = rows(source, parse(message(changed(event, path, value), parts=[received]), 7))
        assert {name for name in plain if plain[name] != other[name]} == {columns[path]}
    absent = set(columns.values()) - {columns[path] for path in leaves}
    assert all(plain[name] is None for name in absent)
    assert all(plain[columns[path]] is not None or _value(event, path) is None for path in leaves)


def _another(path: str) -> object:
    """A valid value other than the factory's."""
    return {
        "timestamp": rfc3339(NOON + timedelta(microseconds=1)),
        "actionTime": "2000-01-01T00:00:00Z",
        "eventType": None,
        "funnelStage": None,
        "gender": "non-binary",
        "age": 37,
        "referrer": "newsfeed",
        "clickPosition": "top_left",
        "device": None,
        "browser": "Safari",
        "followers": 5,
        "watchTime": 5,
        "percentageWatched": 5,
        "purchaseAmount": "0.01",
    }.get(path.rpartition(".")[2], "another")


def _value(event: dict[str, object], path: str) -> object:
    value: object = event
    for key in path.split("."):
        assert isinstance(value, dict)
        value = value[key]
    return value


@pytest.mark.parametrize("source", ["facebook", "tiktok"])
def test_types_and_stages_are_written_as_labels(parsers: Parsers, source: str) -> None:
    """The columns that the last test leaves out: stage, type and device stand as their labels."""
    top, bottom = rows(source, parsers[source](message(MAKERS[source]("top"), MAKERS[source]("bottom")), 7))
    assert (top["funnel_stage"], bottom["funnel_stage"]) == (b"top", b"bottom")
    assert (top["event_type"], bottom["event_type"]) == {
        "facebook": (b"page.like", b"checkout.complete"),
        "tiktok": (b"share", b"purchase"),
    }[source]
    assert (top["device"], bottom["device"]) == {"facebook": (None, b"mobile"), "tiktok": (b"iOS", None)}[source]


def test_a_row_holds_its_requests_marks(parsers: Parsers) -> None:
    """Each row has the correlation ID and the instant of the request it came with, and the message's sequence."""
    first = part(2, "request-a", NOON + timedelta(seconds=1))
    second = part(1, "request-b", NOON + timedelta(seconds=2))
    parsed = parsers["facebook"](message(facebook(), facebook(), facebook(), parts=[first, second]), 2**40)
    got = rows("facebook", parsed)
    assert [row["correlation_id"] for row in got] == [b"request-a", b"request-a", b"request-b"]
    assert [row["received_at"] for row in got] == [
        struct.pack(">q", microseconds(NOON + timedelta(seconds=seconds))) for seconds in (1, 1, 2)
    ]
    assert {row["stream_sequence"] for row in got} == {struct.pack(">q", 2**40)}


def test_rows_are_split_by_day_in_the_order_they_came(parsers: Parsers) -> None:
    """Each day (UTC, of the event's own timestamp) has its rows, and midnight belongs to the day it opens."""
    midnight = NOON.replace(hour=0)
    moments = [NOON, midnight - timedelta(microseconds=1), midnight, NOON - timedelta(days=2), NOON]
    events = [facebook(at=moment, event_id=f"fb-{number}") for number, moment in enumerate(moments)]
    parsed = parsers["facebook"](message(*events), 7)
    ids = {day: [row["event_id"] for row in rows("facebook", parsed, day)] for day in parsed.days}
    assert ids == {DAY: [b"fb-0", b"fb-2", b"fb-4"], DAY - 1: [b"fb-1"], DAY - 2: [b"fb-3"]}


def test_a_day_is_utcs_whatever_the_senders_zone(parsers: Parsers) -> None:
    """An instant written on another clock belongs to the day that UTC has then."""
    event = changed(facebook(), "timestamp", f"{NOON + timedelta(hours=14):%Y-%m-%dT%H:%M:%S}+14:00")
    assert list(parsers["facebook"](message(event), 7).days) == [DAY]


def test_rejects_have_the_position_in_the_message(parsers: Parsers) -> None:
    """What breaks the contract is reported by its position over all parts; the rest of the message becomes rows."""
    parts = [part(3, "a"), part(0, "b"), part(3, "c")]
    lines: list[Event | bytes] = [facebook(), b"{", facebook(), without(facebook(), "data.user"), facebook(), tiktok()]
    parsed = parsers["facebook"](message(*lines, parts=parts), 7)
    assert parsed.events == 6
    assert len(rows("facebook", parsed)) == 3
    assert [event[:3] for event in parsed.invalid] == [
        (1, "malformed", "$"),
        (3, "missing_field", "$.data.user"),
        (5, "not_allowed", "$.source"),
    ]


def test_an_event_is_as_old_as_when_it_was_received(parsers: Parsers) -> None:
    """The window of time is measured from the request's instant: a message that waited long is stored all the same."""
    long_ago = NOON - timedelta(days=30)
    received = part(2, received_at=long_ago + timedelta(days=6))
    lines = [facebook(at=long_ago), facebook(at=long_ago - timedelta(days=1, microseconds=1))]
    parsed = parsers["facebook"](message(*lines, parts=[received]), 7)
    assert [event[:2] for event in parsed.invalid] == [(1, "too_old")]
    assert sum(day.count for day in parsed.days.values()) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"no header",
        message(facebook())[:-1].replace(b'"v":1', b'"v":2'),
        message(facebook()).replace(b'"events":1', b'"events":2'),
        message(facebook(), parts=[wire.Part("a", None, "yesterday", 1)]),
        message(facebook(), parts=[wire.Part("a", None, "1999-01-01T00:00:00Z", 1)]),
        message(facebook(), parts=[wire.Part("nul\0", None, rfc3339(NOON), 1)]),
    ],
    ids=["empty", "no header", "version", "count", "no instant", "instant out of range", "NUL in the correlation ID"],
)
@pytest.mark.parametrize("source", SOURCES)
def test_a_message_that_cannot_be_read_is_one_reject(parsers: Parsers, source: str, body: bytes) -> None:
    """An unreadable message gives no rows and a single invalid event for the whole, counted as one event."""
    parsed = parsers[source](body, 7)
    assert parsed.days == {}
    assert [(event.position, event.reason, event.path) for event in parsed.invalid] == [(-1, "malformed", "$")]
    assert parsed.events == 1


def test_a_message_without_events_is_empty(parsers: Parsers) -> None:
    """A header that counts nothing is neither rows nor a invalid."""
    assert comparable(parsers["facebook"](b'{"v":1,"parts":[]}', 7)) == Parsed(0, {}, [], no_counts())


def test_rejected_events_are_rows_of_one_day(parsers: Parsers) -> None:
    """The rejected source has one table without days; source and id may be NULL, bytes are kept as they were."""
    raw = b'{"source":"tiktok","eventId":"t-1"}\x00\xff'
    lines = [
        rejected_events.encode(rejected_events.rejected_event(raw, Invalid(Reason.MALFORMED, "$", "broken"))),
        rejected_events.encode(
            rejected_events.rejected_event(
                encoded(tiktok(event_id="t-2")), Invalid(Reason.TOO_OLD, "$.timestamp", "old")
            )
        ),
        b'{"source":"facebook"}',
    ]
    parsed = parsers["rejected"](message(*lines), 7)
    first, second = rows("rejected", parsed, 0)
    assert (first["source"], first["event_id"], first["event"], first["length"]) == (
        None,
        None,
        raw,
        struct.pack(">q", len(raw)),
    )
    assert (second["source"], second["event_id"], second["reason"]) == (b"tiktok", b"t-2", b"too_old")
    assert [event[:3] for event in parsed.invalid] == [(2, "malformed", "$")]


@pytest.mark.parametrize(
    ("key", "value"),
    [("length", -1), ("length", 2**63), ("length", 10**40), ("reason", "nul\0"), ("eventId", "nul\0"), ("body", "!")],
)
def test_a_rejected_event_that_no_row_can_hold_is_a_reject(parsers: Parsers, key: str, value: object) -> None:
    """What another sender puts into the stream costs that event alone."""
    line = rejected_events.encode(rejected_events.rejected_event(b"{}", Invalid(Reason.MALFORMED, "$", "broken")))
    broken = msgspec.json.encode(msgspec.json.decode(line) | {key: value})
    parsed = parsers["rejected"](message(line, broken), 7)
    assert [event[:2] for event in parsed.invalid] == [(1, "invalid_text" if value == "nul\0" else "malformed")]
    assert len(rows("rejected", parsed, 0)) == 1


@st.composite
def _messages(draw: st.DrawFn) -> bytes:
    """Messages with whatever on their lines, and headers that mostly add up."""
    events = st.sampled_from([encoded(MAKERS[source](stage)) for source, stage in SHAPES])
    lines = draw(st.lists(st.binary(max_size=20).map(lambda raw: raw.replace(b"\n", b"")) | events, max_size=5))
    received = draw(st.sampled_from([rfc3339(NOON), "soon", ""]))
    parts = [wire.Part(draw(st.text(max_size=5)), None, received, len(lines))]
    return wire.encode(parts, lines)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.binary(max_size=300) | _messages(), st.sampled_from(sorted(SOURCES)))
def test_no_message_raises(parsers: Parsers, body: bytes, source: str) -> None:
    """Any bytes give rows and invalid events that add up to the message's events, with details that can be stored."""
    parsed = parsers[source](body, 7)
    assert parsed.events == sum(day.count for day in parsed.days.values()) + len(parsed.invalid)
    if SOURCES[source].audience:
        assert sum(events for events, _ in total([parsed.counts]).events.values()) == parsed.events - len(
            parsed.invalid
        )
    for day in parsed.days:
        rows(source, parsed, day)
    for event in parsed.invalid:
        assert isinstance(event, InvalidEvent)
        assert "\0" not in event.path + event.detail
        (event.path + event.detail).encode()


def test_the_columns_of_a_source_are_its_tables() -> None:
    """COPY is reported the columns in the order in which the parser writes them."""
    assert copied_columns(SOURCES["facebook"])[-3:] == ("received_at", "stream_sequence", "correlation_id")
    assert pg_copy.fields_in_row(2) == b"\x00\x02"


def test_rows_are_counted_as_the_rollups_do(parsers: Parsers) -> None:
    """By quarter-hour: events and cents of each type, and values of the audience with their bounds; not of invalid
    events."""
    before = NOON - timedelta(microseconds=1)
    sold = "data.engagement.purchaseAmount"
    lines: list[Event | bytes] = [
        changed(facebook("bottom"), sold, "9999999999.99"),
        changed(facebook("bottom"), sold, "0.1"),
        changed(facebook("bottom"), sold, None),
        changed(changed(facebook("bottom"), "eventType", "ad.click"), sold, "5"),
        changed(facebook(at=before), "data.user.age", 119),
        changed(facebook(), "data.user.age", 120),
        changed(facebook(), "data.user.location.country", "é" * 65),
        without(facebook(), "data.user.age"),
        b"{",
    ]
    quarter = microseconds(NOON) // QUARTER_MICROSECONDS
    counts = total([parsers["facebook"](message(*lines), 7).counts])
    assert counts.events == {
        (quarter, "bottom", "checkout.complete"): (3, 1_000_000_000_009),
        (quarter, "bottom", "ad.click"): (1, 0),
        (quarter - 1, "top", "page.like"): (1, 0),
        (quarter, "top", "page.like"): (2, 0),
    }
    assert counts.audience == {
        (quarter, "age", "36"): 5,
        (quarter - 1, "age", "119"): 1,
        (quarter, "age", "120+"): 1,
        (quarter, "gender", "female"): 6,
        (quarter - 1, "gender", "female"): 1,
        (quarter, "country", "Norway"): 5,
        (quarter - 1, "country", "Norway"): 1,
        (quarter, "country", None): 1,
    }


def test_followers_are_counted_in_bands(parsers: Parsers) -> None:
    """The first and the last number of each band; device and country stand on top-stage events alone."""
    numbers = [0, 999, 1_000, 9_999, 10_000, 99_999, 100_000, 999_999, 1_000_000, 2**31 - 1]
    events = [changed(tiktok(), "data.user.followers", number) for number in numbers] + [tiktok("bottom")]
    quarter = microseconds(NOON) // QUARTER_MICROSECONDS
    counts = total([parsers["tiktok"](message(*events), 7).counts])
    assert counts.audience == {
        (quarter, "followers", "0-999"): 2,
        (quarter, "followers", "1000-9999"): 3,
        (quarter, "followers", "10000-99999"): 2,
        (quarter, "followers", "100000-999999"): 2,
        (quarter, "followers", "1000000+"): 2,
        (quarter, "device", "iOS"): 10,
        (quarter, "country", "Peru"): 10,
    }
    assert counts.events[quarter, "bottom", "purchase"] == (1, 1250)


@pytest.mark.parametrize("source", ["facebook", "tiktok"])
def test_counts_of_messages_add_up(parsers: Parsers, source: str) -> None:
    """Together two messages count as one of all their events, and days may be left out."""
    moments = [NOON - timedelta(minutes=7 * number) for number in range(200)]
    events = [MAKERS[source](stage, at=moment) for moment in moments for stage in ("top", "bottom")]
    parse = parsers[source]
    whole = parse(message(*events), 7).counts
    parts = [parse(message(*events[start : start + 50]), 7).counts for start in range(0, 400, 50)]
    assert total(parts) == total([whole])
    kept = [event for event in events if event["timestamp"] >= rfc3339(NOON.replace(hour=0))]
    assert 0 < len(kept) < len(events)
    assert total(parts, without_days=[DAY - 1]) == total([parse(message(*kept), 7).counts])


@pytest.mark.parametrize("choice", ["python", "native"])
def test_a_shape_without_dimensions_is_counted(choice: ParserChoice) -> None:
    """Types are counted also where a shape has neither a dimension nor an amount."""
    if choice == "native":
        require_native()
    facebook_source = SOURCES["facebook"]
    assert facebook_source.audience is not None
    bare = replace(facebook_source, audience=Audience(facebook_source.audience.purchase, dimensions=()))
    _, parse = select_parser(choice, bare, CONTRACT)
    events = [facebook("top"), facebook("top")]
    counts = total([parse(message(*events), 7).counts])
    quarter = microseconds(NOON) // QUARTER_MICROSECONDS
    assert counts.events == {(quarter, "top", events[0]["eventType"]): (2, 0)}
    assert counts.audience == {}
