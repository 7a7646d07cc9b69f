"""The gateway's own limits: each is the last value taken, the first value past it is rejected for what it is."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from core.events.contract import Contract, Reason
from core.events.rejected import KEPT_BYTES
from core.events.wire import SEAL_BYTES
from core.sources.fields import MAX_EVENT_BYTES
from gateway.admission import Admission
from gateway.batch import MAX_KEPT_BYTES, MAX_KEPT_EVENTS, MAX_LISTED_ERRORS
from gateway.body import BodyFormat
from gateway.decode import SMALLEST_EVENT_BYTES, Decoder
from gateway.rejection import Overloaded, Rejected, Rejection
from tests.support.batch_reader import ALONE, CONTRACT, accepted, kept, read, read_array, reasons
from tests.support.events import NOON, SHAPES, Event, changed, encoded, facebook, microseconds, tiktok

MAKERS = {"facebook": facebook, "tiktok": tiktok}


def padded(size: int) -> bytes:
    """A valid event of exactly so many bytes, by a key that the contract does not list."""
    event = facebook() | {"more": ""}
    return encoded(event | {"more": "x" * (size - len(encoded(event)))})


async def test_an_event_of_256_kib() -> None:
    """An event of 256 KiB is taken, beside others; one byte more is too large, and costs only itself."""
    largest, past, small = padded(MAX_EVENT_BYTES), padded(MAX_EVENT_BYTES + 1), encoded(facebook())
    batch = await read_array(small, largest, past, small)
    assert accepted(batch) == {"facebook": [small, largest, small]}
    assert reasons(batch) == [(2, Reason.TOO_LARGE, "$")]


async def test_blocks_of_the_largest_events_fit_into_a_message() -> None:
    """Whatever a body holds, no block of it is larger than a message may be."""
    batch = await read_array(*[padded(MAX_EVENT_BYTES)] * 9, *[padded(MAX_EVENT_BYTES - 1000)] * 9)
    blocks = batch.blocks["facebook"]
    assert sum(block.events for block in blocks) == 18
    assert max(len(block.content) for block in blocks) <= SEAL_BYTES


def smallest(source: str, stage: str) -> bytes:
    """The shortest event of a shape that the contract takes."""

    def shrunk(value: Any, path: str) -> Any:
        if isinstance(value, dict):
            return {key: shrunk(inner, f"{path}.{key}") for key, inner in value.items()}
        for shorter in (None, "", 0):
            try:
                CONTRACT.read(encoded(changed(event, path.lstrip("."), shorter)), microseconds())
            except Exception:
                continue
            return shorter
        return value

    at = datetime.now(UTC)
    event = MAKERS[source](stage, at=at, event_id="1")
    instant = at.strftime("%Y-%m-%dT%H:%M:%SZ")
    event["timestamp"] = instant
    if "actionTime" in event["data"]["engagement"]:
        event["data"]["engagement"]["actionTime"] = instant
    small: Event = shrunk(event, "")
    for key, choices in {"clickPosition": "center", "device": "iOS" if source == "tiktok" else "mobile"}.items():
        if key in small["data"]["engagement"]:
            small["data"]["engagement"][key] = choices
    return encoded(
        small
        | {"eventType": {"tiktok": {"top": "like", "bottom": "follow"}}.get(source, {}).get(stage, small["eventType"])}
    )


@pytest.mark.parametrize(("source", "stage"), SHAPES)
async def test_no_valid_event_is_shorter_than_the_bound_counts_on(source: str, stage: str) -> None:
    """The most events of a body follow from the shortest valid event: no body of valid events is rejected for them."""
    event = smallest(source, stage)
    assert (await read(event)).accepted_events == 1
    assert len(event) >= SMALLEST_EVENT_BYTES


async def test_a_body_of_too_many_events_is_rejected_whole() -> None:
    """As many events as the bound are taken, one more and the body is rejected, whatever its events are."""
    decode = Decoder(CONTRACT, max_events=1000)
    event = encoded(facebook())
    at_bound = await decode(b"[" + b",".join([event] * 1000) + b"]", BodyFormat.JSON, microseconds(), ALONE)
    assert at_bound.accepted_events == 1000
    for body in (b"[" + b",".join([event] * 1001) + b"]", b"[" + b"0," * 1000 + b"0]", b"[" + b"," * 1000 + b"]"):
        with pytest.raises(Rejected) as caught:
            await decode(body, BodyFormat.JSON, microseconds(), ALONE)
        assert caught.value.rejection is Rejection.TOO_MANY_EVENTS


async def test_all_rejected_are_counted_the_first_are_reported_and_most_are_kept() -> None:
    """However many events are rejected: all are counted, 100 are listed, and copies are kept in bounded room."""
    good = encoded(facebook())
    batch = await read_array(*[b"{}"] * (MAX_KEPT_EVENTS + 500), good)
    assert (batch.accepted_events, batch.rejected_events) == (1, MAX_KEPT_EVENTS + 500)
    assert [errors.index for errors in batch.errors] == list(range(MAX_LISTED_ERRORS))
    assert (len(kept(batch)), batch.kept_events) == (MAX_KEPT_EVENTS, MAX_KEPT_EVENTS)
    large = b'{"a":"' + b"x" * 200_000 + b'"}'
    batch = await read_array(*[large] * 300, good)
    assert (batch.accepted_events, batch.rejected_events) == (1, 300)
    assert MAX_KEPT_BYTES <= batch.kept_bytes < MAX_KEPT_BYTES + 2 * KEPT_BYTES
    assert len(kept(batch)) == batch.kept_events < 300


async def test_copies_are_kept_while_there_is_room() -> None:
    """A small body may hold thousands of events to reject: copies of them are kept in room that no body needs, and past
    that none is kept. All of them are counted as ever, and valid ones beside them are accepted."""
    admission = Admission(2_000_000)
    body = b"[" + b",".join([*[b"1"] * 9_000, encoded(facebook())]) + b"]"
    with admission.reserve(len(body)) as other, admission.reserve(len(body)) as reservation:
        before = reservation.bytes
        batch = await Decoder(CONTRACT, max_events=10_000)(body, BodyFormat.JSON, microseconds(), reservation)
        assert (batch.accepted_events, batch.rejected_events) == (1, 9_000)
        assert len(kept(batch)) == batch.kept_events
        assert 1_000 < batch.kept_events < 9_000
        assert batch.no_room
        assert reservation.bytes - before > batch.kept_bytes
        assert admission.held_bytes == other.bytes + reservation.bytes
        assert admission.held_bytes <= admission.optional_bytes < admission.share_bytes
    assert admission.held_bytes == 0


async def test_what_stands_in_a_body_needs_room_while_it_is_read() -> None:
    """A tiny element takes more than its bytes: where there is no room for all of a body, it is reported to come
    again."""
    admission = Admission(1_000_000)
    body = b"[" + b",".join([b"11"] * 100_000) + b"]"
    decode = Decoder(CONTRACT, max_events=100_000)
    with admission.reserve(0), admission.reserve(len(body)) as reservation:
        with pytest.raises(Overloaded):
            await decode(body, BodyFormat.JSON, microseconds(), reservation)
        assert admission.held_bytes <= admission.share_bytes
    with admission.reserve(0), admission.reserve(0) as reservation:
        before = reservation.bytes
        events = b"[" + b",".join([encoded(facebook())] * 500) + b"]"
        assert (await decode(events, BodyFormat.JSON, microseconds(), reservation)).accepted_events == 500
        assert reservation.bytes == before


async def test_of_a_large_rejected_event_the_beginning_is_kept() -> None:
    """64 KiB of a rejected event are kept, with the length and SHA-256 of the whole."""
    large = b'{"eventId":"e-1","a":"' + b"x" * 200_000 + b'"}'
    (copy,) = kept(await read_array(large, encoded(facebook())))
    assert (copy.body, copy.length, copy.event_id) == (large[:KEPT_BYTES], len(large), "e-1")


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        (NOON, None),
        (NOON + timedelta(days=7), None),
        (NOON + timedelta(days=7, microseconds=1), Reason.TOO_OLD),
        (NOON - timedelta(hours=1), None),
        (NOON - timedelta(hours=1, microseconds=1), Reason.TOO_FAR_AHEAD),
    ],
)
async def test_age_is_measured_from_the_arrival(moment: datetime, expected: Reason | None) -> None:
    """An event of noon is taken from one hour before to seven days after it, to the microsecond."""
    batch = await read_array(facebook(at=NOON), at=moment)
    assert [errors.reason for errors in batch.errors] == ([expected] if expected else [])


async def test_the_operators_window_counts() -> None:
    """MAX_EVENT_AGE_DAYS and MAX_EVENT_AHEAD_SECONDS are what the gateway measures with."""
    decode = Decoder(Contract(max_age_days=1, max_ahead_seconds=0), max_events=10)
    for moment, taken in ((NOON, 1), (NOON + timedelta(days=1), 1), (NOON + timedelta(days=1, seconds=1), 0)):
        batch = await decode(encoded(facebook(at=NOON)), BodyFormat.JSON, microseconds(moment), ALONE)
        assert batch.accepted_events == taken


async def test_pretty_printed_events_travel_on_one_line() -> None:
    """Line breaks inside an event are legal JSON: it is compacted, and means the same; a compact one is untouched."""
    events = [facebook(), tiktok("bottom")]
    for newline in ("\n", "\r\n", "\r"):
        content = json.dumps(events, indent=2).replace("\n", newline).encode()
        lines = accepted(await read(content))
        assert [json.loads(line) for line in (*lines["facebook"], *lines["tiktok"])] == events
        assert not any(b"\n" in line or b"\r" in line for found in lines.values() for line in found)
    spaced = b'{ "eventId" :' + encoded(facebook())[len('{"eventId":') :]
    assert accepted(await read_array(spaced)) == {"facebook": [spaced]}


async def test_events_keep_their_order_within_a_source() -> None:
    """Sources may be mixed in any way: each source's events go on in the order in which they came."""
    events = [encoded(MAKERS[source](stage)) for _ in range(700) for source, stage in SHAPES]
    found = accepted(await read_array(*events))
    assert found == {source: [event for event in events if f'"{source}"'.encode() in event] for source in MAKERS}
