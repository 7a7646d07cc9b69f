"""The gateway over HTTP, with a real NATS behind it: what is answered, and what the streams then hold."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from core.events import rejected
from core.sources.fields import instant
from ops.local.ports import LOOPBACK
from tests.support.events import changed, encoded, facebook, microseconds, tiktok
from tests.support.gateway import Gateway, start_gateway
from tests.support.processes import standing_still
from tests.support.stack import FreshNats
from tests.support.waiting import eventually

TRACE = "0af7651916cd43dd8448eb211c80319c"
MOST_BYTES = 1 << 20
AN_HOUR = "3600"  # how long a message is tried to be stored: no test waits for the end of that


@pytest.fixture(scope="module")
def gateway_settings() -> dict[str, str]:
    """Bodies of 1 MiB are the largest."""
    return {"GATEWAY_MAX_BODY_BYTES": str(MOST_BYTES), "LOG_LEVEL": "debug"}


def problem(answer: httpx.Response, status: int, name: str) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"urn:sluice:problem:{name}"
    assert answer.headers["x-correlation-id"] == answer.json()["correlationId"]


async def test_202_means_that_every_event_is_in_its_stream(gateway: Gateway) -> None:
    """When 202 is there, both streams hold the events byte for byte, with where they came from and when."""
    events = [facebook(), tiktok("bottom"), facebook("bottom")]
    before = microseconds()
    answer = await gateway.post(events, x_correlation_id="c-1", traceparent=f"00-{TRACE}-b7ad6b7169203331-01")
    assert answer.status_code == 202
    assert answer.json() == {"correlationId": "c-1", "accepted": 3, "rejected": 0, "errors": []}
    assert answer.headers["x-correlation-id"] == "c-1"
    for source, expected in {"facebook": [events[0], events[2]], "tiktok": [events[1]]}.items():
        (message,) = await gateway.published(source)
        assert message.lines == list(map(encoded, expected))
        assert message.subject == f"events.{source}"
        assert message.headers["Sluice-Events"] == str(len(expected))
        (part,) = message.parts
        assert (part.correlation_id, part.events) == ("c-1", len(expected))
        assert part.traceparent == f"00-{TRACE}-b7ad6b7169203331-01"
        assert before <= instant(part.received_at) <= microseconds()


async def test_bad_events_are_reported_and_kept_and_good_ones_accepted(gateway: Gateway) -> None:
    """One answer for both: the good events are stored, the bad ones named with index, id, reason and path, and kept."""
    good, bad = facebook(), changed(tiktok(), "data.user.followers", -1)
    answer = await gateway.post([bad, good, b"{}"], x_correlation_id="c-2")
    assert answer.status_code == 202
    errors = answer.json()
    assert (errors["accepted"], errors["rejected"]) == (1, 2)
    first, second = errors["errors"]
    assert (first["index"], first["eventId"], first["reason"]) == (0, bad["eventId"], "out_of_range")
    assert first["path"] == "$.data.user.followers"
    assert (second["index"], second["eventId"], second["reason"]) == (2, None, "missing_field")
    assert await gateway.lines("facebook") == [encoded(good)]
    assert await gateway.lines("tiktok") == []
    kept = {message.subject: message for message in await gateway.published("rejected")}
    assert set(kept) == {"rejected.tiktok", "rejected.unknown"}
    assert {part.correlation_id for message in kept.values() for part in message.parts} == {"c-2"}
    assert rejected.decode(kept["rejected.tiktok"].lines[0]).body == encoded(bad)
    assert rejected.decode(kept["rejected.unknown"].lines[0]).body == b"{}"


async def test_nothing_accepted_is_422(gateway: Gateway) -> None:
    """Where no event holds to the contract the answer is 422, and the events are kept all the same."""
    answer = await gateway.post([b"{}", b"1"])
    problem(answer, 422, "nothing_accepted")
    assert (answer.json()["accepted"], answer.json()["rejected"]) == (0, 2)
    assert len(await gateway.lines("rejected")) == 2


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b"", "empty_body"),
        (b" \n", "empty_body"),
        (b"\xff\xfe", "empty_body"),
        (b"[]", "no_events"),
        (b"[ ]", "no_events"),
    ],
)
async def test_a_body_with_nothing_in_it_is_400(gateway: Gateway, body: bytes, name: str) -> None:
    """A body that is empty, or an array without an event, is rejected. Nothing is kept of it."""
    problem(await gateway.send(body), 400, name)
    assert await gateway.lines("rejected") == []


REJECTED_WHOLE: dict[str, tuple[bytes, dict[str, str], int, str]] = {
    "no JSON": (b"hello", {}, 400, "not_json"),
    "an array that does not close": (b'[{"eventId":"e-1"', {}, 400, "not_json"),
    "a number": (b"17", {}, 400, "not_events"),
    "bytes that are no text": (b"\xff\xfd\x00", {}, 400, "not_json"),
    "half a character of UTF-16": (b"\xff\xfe[", {}, 400, "not_json"),
    "more than is kept": (b"x" * 100_000, {}, 400, "not_json"),
    "more than is hashed at once": (b"[" + b" " * (MOST_BYTES - 1), {}, 400, "not_json"),
    "no gzip": (b"[1]", {"content_encoding": "gzip"}, 400, "not_gzip"),
    "too many events": (b"[" + b"1," * (MOST_BYTES // 256) + b"1]", {}, 413, "too_many_events"),
    "another encoding": (encoded(facebook()), {"content_encoding": "br"}, 415, "unsupported_encoding"),
}


@pytest.mark.parametrize("case", REJECTED_WHOLE)
async def test_a_body_that_is_rejected_whole_is_kept(gateway: Gateway, case: str) -> None:
    """When the answer comes, REJECTED holds its first 64 KiB, its length and its SHA-256. No event is counted."""
    body, headers, status, name = REJECTED_WHOLE[case]
    events = ("gateway_events_received_total", "gateway_events_failed_total")
    before = [await gateway.metric(event) for event in events]
    answer = await gateway.send(body, **headers)
    problem(answer, status, name)
    (message,) = await gateway.published("rejected")
    assert message.subject == "rejected.unknown"
    assert message.parts[0].correlation_id == answer.json()["correlationId"]
    (kept,) = map(rejected.decode, message.lines)
    assert kept == rejected.RejectedEvent(
        source=None,
        event_id=None,
        reason=name,
        path="",
        detail=answer.json()["detail"],
        length=len(body),
        sha256=hashlib.sha256(body).digest(),
        body=body[: rejected.KEPT_BYTES],
    )
    assert [await gateway.metric(event) for event in events] == before


async def test_a_body_is_kept_as_it_was_read(gateway: Gateway) -> None:
    """Of gzip and UTF-16, what they hold is kept."""
    for body in (gzip.compress(b"hello"), "hello".encode("utf-16")):
        problem(await gateway.send(body), 400, "not_json")
    assert [rejected.decode(line).body for line in await gateway.lines("rejected")] == [b"hello"] * 2


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (b"\x28\xb5\x2f\xfd\x00", "zstd"),
        (b"PK\x03\x04", "zip"),
        (b"<events/>", "XML"),
        (b"events=%5B%5D", "form"),
        (b"%5B%7B%22eventId%22", "percent-encoded"),
        (b"'[]'", "quote"),
        (b"@events.json", "--data-binary"),
    ],
)
async def test_an_error_names_what_a_body_may_be(gateway: Gateway, body: bytes, part: str) -> None:
    """The detail of `not_json` says what the body begins as, and what to send instead."""
    answer = await gateway.send(body)
    problem(answer, 400, "not_json")
    assert part in answer.json()["detail"]


async def test_the_largest_body(gateway: Gateway) -> None:
    """A body of exactly the limit is read, one more byte is 413: by its announcement, its bytes, and inflated."""
    event = encoded(facebook())
    body = b"[" + event + b" " * (MOST_BYTES - len(event) - 2) + b"]"
    assert (await gateway.send(body)).status_code == 202
    problem(await gateway.send(body + b" "), 413, "too_large")
    problem(await gateway.send(gzip.compress(body + b" "), content_encoding="gzip"), 413, "too_large")
    chunked = await gateway.http.post(f"{gateway.url}/events", content=_chunks(body + b" "))
    problem(chunked, 413, "too_large")
    assert await gateway.lines("facebook") == [event]


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    for at in range(0, len(body), 100_000):
        yield body[at : at + 100_000]


EVENT = encoded(facebook())
LINES = EVENT + b"\n" + EVENT
NDJSON = {"content_type": "application/x-ndjson"}
GZIP = {"content_encoding": "gzip"}
FORMS: dict[str, tuple[bytes, dict[str, str], int]] = {
    "an object": (EVENT, {}, 1),
    "an array": (b"[" + EVENT + b"]", {}, 1),
    "lines": (LINES, NDJSON, 2),
    "lines under JSON's type": (LINES + b"\n", {}, 2),
    "objects in one line": (EVENT + EVENT + b" " + EVENT, {}, 3),
    "objects on several lines": (b"\n".join([EVENT.replace(b",", b",\n ")] * 3), {}, 3),
    "an array under the type of lines": (b"[" + EVENT + b",\n" + EVENT + b"]\n", NDJSON, 2),
    "gzip": (gzip.compress(EVENT), GZIP, 1),
    "gzip of lines": (gzip.compress(LINES), GZIP | NDJSON, 2),
    "gzip without its header": (gzip.compress(LINES), {}, 2),
    "gzip by its type": (gzip.compress(LINES), {"content_type": "application/gzip"}, 2),
    "UTF-8 with a byte order mark": (b"\xef\xbb\xbf" + EVENT, {}, 1),
    **{
        f"{encoding.upper()} {'with' if mark else 'without'} a mark": ((mark + LINES.decode()).encode(encoding), {}, 2)
        for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
        for mark in ("\ufeff", "")
    },
    "gzip of UTF-16": (gzip.compress(LINES.decode().encode("utf-16")), GZIP, 2),
}  # fmt: skip


@pytest.mark.parametrize("body_format", FORMS)
async def test_every_form_of_a_body(gateway: Gateway, body_format: str) -> None:
    """The event arrives unchanged, whatever the type says about the form, and in chunks, too."""
    body, headers, events = FORMS[body_format]
    answer = await gateway.send(body, **headers)
    assert answer.status_code == 202, answer.text
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    chunked = await gateway.http.post(f"{gateway.url}/events", content=_chunks(body), headers=named)
    assert chunked.status_code == 202, chunked.text
    lines = [json.loads(line) for line in await gateway.lines("facebook")]
    assert lines == [json.loads(EVENT)] * 2 * events


async def test_text_that_grows_when_decoded_is_bounded(gateway: Gateway) -> None:
    """The limit of a body's size holds for the UTF-8 that UTF-16 becomes: such text may grow by half."""
    body = json.dumps(["水" * (MOST_BYTES // 3)], ensure_ascii=False).encode("utf-16")
    assert len(body) < MOST_BYTES
    problem(await gateway.send(body), 413, "too_large")


async def test_text_outside_ascii_arrives_unchanged(gateway: Gateway) -> None:
    """Names in any script go through as the bytes that they came in."""
    events = [encoded(changed(facebook(), "data.user.name", name)) for name in ("Zoë", "Łukasz", "田中", "🦊" * 1000)]
    for event in events:
        assert (await gateway.send(event)).status_code == 202
    assert await gateway.lines("facebook") == events


@pytest.mark.parametrize("content_type", ["image/png", "message/http"])
async def test_types_that_are_not_taken(gateway: Gateway, content_type: str) -> None:
    """A type that cannot hold events is 415 before the body is looked at. Nothing is kept."""
    problem(await gateway.send(encoded(facebook()), content_type=content_type), 415, "unsupported_type")
    assert await gateway.lines("facebook") == await gateway.lines("rejected") == []


async def test_a_form_is_not_taken(gateway: Gateway) -> None:
    """A file upload is 415: an event is the body, not a part of it."""
    problem(
        await gateway.http.post(f"{gateway.url}/events", files={"file": encoded(facebook())}), 415, "unsupported_type"
    )


async def test_other_paths_and_methods(gateway: Gateway) -> None:
    """Unknown paths are 404, methods that a path does not take 405 with those that it does."""
    for path in ("/", "/event", "/events/1", "/health", "/documents"):
        problem(await gateway.http.get(gateway.url + path), 404, "unknown_path")
    for method in ("GET", "PUT", "PATCH", "DELETE"):
        answer = await gateway.http.request(method, f"{gateway.url}/events")
        problem(answer, 405, "wrong_method")
        assert answer.headers["allow"] == "POST"
    assert (await gateway.http.post(f"{gateway.url}/metrics")).headers["allow"] == "GET"


async def test_pages(gateway: Gateway) -> None:
    """Live, ready and metrics are served beside the events; no cache keeps them."""
    live, ready, metrics = [
        await gateway.http.get(gateway.url + page) for page in ("/health/live", "/health/ready", "/metrics")
    ]
    assert (live.status_code, live.json()) == (200, {"status": "live"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "missing": {}})
    assert metrics.headers["content-type"].startswith("text/plain")
    assert "sluice_build_info{" in metrics.text
    assert [page.headers["cache-control"] for page in (live, ready, metrics)] == ["no-store"] * 3


async def test_a_body_that_is_cut_off_is_not_taken(gateway: Gateway) -> None:
    """A sender that goes away in the middle of its body leaves nothing behind, even where the part is valid JSON."""
    before = await gateway.metric("gateway_requests_rejected_total", rejection="truncated")
    event = encoded(facebook())
    _, writer = await asyncio.open_connection(LOOPBACK, gateway.port)
    writer.write(b"POST /events HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (len(event) + 1) + event)
    await writer.drain()
    writer.close()

    async def noticed() -> bool:
        return await gateway.metric("gateway_requests_rejected_total", rejection="truncated") == before + 1

    await eventually(noticed, what="the body was rejected as truncated")
    assert await gateway.lines("facebook") == []


async def test_the_doors_ledger_balances(gateway: Gateway) -> None:
    """Of the events received each was accepted, failed or left without an answer, and is counted once as such."""

    async def counted() -> dict[str, float]:
        names = ("received", "accepted", "failed", "unconfirmed", "processed")
        text = (await gateway.http.get(f"{gateway.url}/metrics")).text
        return {
            name: sum(
                float(line.rpartition(" ")[2])
                for line in text.splitlines()
                if line.startswith((f"gateway_events_{name}_total{{", f"gateway_events_{name}_total "))
            )
            for name in names
        }

    before = await counted()
    await gateway.post([facebook(), tiktok(), b"{}"])
    await gateway.post([b"{}"])
    await gateway.send(b"not json")
    after = await counted()
    grown = {name: after[name] - before[name] for name in after}
    assert grown == {"received": 4, "accepted": 2, "failed": 2, "unconfirmed": 0, "processed": 2}


async def test_log_lines_carry_the_correlation_id_and_no_payload(gateway: Gateway) -> None:
    """What became of a request stands in the log under its correlation ID; names and texts of its events do not."""
    await gateway.post(
        [changed(facebook(), "data.user.name", "No one Knows"), b'{"secret":1}'], x_correlation_id="c-log"
    )
    log = gateway.log()
    lines = [json.loads(line) for line in log.splitlines() if '"c-log"' in line]
    assert [line["event"] for line in lines] == ["events rejected", "request"]
    assert {"status": 202, "accepted": 1, "rejected": 1, "sampled": 1}.items() <= lines[-1].items()
    assert lines[-1]["bytes"] > 0 < lines[-1]["milliseconds"]
    assert all(line["service"] == "gateway" and line["level"] and line["timestamp"] for line in lines)
    assert "No one Knows" not in log
    assert "secret" not in log


async def test_old_and_early_events_are_rejected_by_the_arrival(gateway: Gateway) -> None:
    """The window of time is measured by the gateway's own clock."""
    now = datetime.now(UTC)
    moments = [now, now - timedelta(days=8), now + timedelta(hours=2)]
    answer = await gateway.post([facebook(at=moment) for moment in moments])
    assert [error["reason"] for error in answer.json()["errors"]] == ["too_old", "too_far_ahead"]
    assert answer.json()["accepted"] == 1


async def test_a_full_stream_is_503_at_once_and_rejected_ones_never_fail_good_ones(fresh_nats: FreshNats) -> None:
    """A stream without room is answered 503 with Retry-After; a full REJECTED costs copies alone, and is counted."""
    small: dict[str, Any] = {"STREAM_MAX_BYTES": str(1 << 20), "REJECTED_STREAM_MAX_BYTES": str(1 << 20)}
    async with start_gateway(fresh_nats, GATEWAY_PUBLISH_TIMEOUT_SECONDS=AN_HOUR, **small) as gateway:
        large = [changed(facebook(), "more", "x" * 200_000) for _ in range(2)]
        bad = b'{"a":"' + b"x" * 60_000 + b'"}'
        for _ in range(20):
            answer = await gateway.post([tiktok(), *[bad] * 10])
            assert answer.status_code == 202
        assert await gateway.metric("gateway_rejected_events_not_kept_total", reason="stream_full") >= 10
        while (answer := await gateway.post(large)).status_code == 202:
            pass
        answer = await gateway.post(large)  # it comes, so nothing has waited for room
        problem(answer, 503, "stream_full")
        assert int(answer.headers["retry-after"]) >= 1
        assert "Send the whole request again" in answer.json()["detail"]
        assert await gateway.metric("gateway_events_unconfirmed_total", source="facebook") >= 2


async def test_what_finds_no_room_is_503_at_once(fresh_nats: FreshNats) -> None:
    """Past the bytes in flight the answer comes at once, with Retry-After; what was taken before is still answered.
    Copies of rejected events need room too; where there is none they are left out, and fail nothing."""
    async with start_gateway(
        fresh_nats, GATEWAY_MAX_IN_FLIGHT_BYTES="500000", GATEWAY_PUBLISH_TIMEOUT_SECONDS=AN_HOUR
    ) as gateway:
        async with standing_still(gateway.supervisor.pid("nats")):
            held = asyncio.create_task(gateway.post([changed(facebook(), "more", "x" * 240_000), facebook()]))

            async def in_flight() -> bool:
                return await gateway.metric("gateway_requests_in_flight") == 1

            await eventually(in_flight, what="the first request is held")
            answer = await gateway.post([changed(tiktok(), "more", "x" * 260_000)])  # the first one has none yet
            problem(answer, 503, "overloaded")
            assert int(answer.headers["retry-after"]) >= 1
            assert not held.done()
            copied = asyncio.create_task(gateway.post([b"1"] * 2_000 + [tiktok()]))

            async def not_kept() -> bool:
                return await gateway.metric("gateway_rejected_events_not_kept_total", reason="no_room") > 0

            await eventually(not_kept, what="copies of rejected events find no room either")
        assert (await held).status_code == (await copied).status_code == 202
        assert (await gateway.post([changed(tiktok(), "more", "x" * 260_000)])).status_code in (202, 422)
