"""What may be sent, and in which form: arrays, single objects and lines, plain or gzip; each event for itself.

By two workers that share the port, as by default.
"""

import asyncio
import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from bench.publisher.post import Poster
from tests.support.events import NOON, Event, changed, encoded, facebook, rfc3339, tiktok, without
from tests.support.gateway import workers_of
from tests.support.system import ARRAY, System
from tests.support.waiting import eventually

LINES = {"Content-Type": "application/x-ndjson"}
GZIP = {"Content-Encoding": "gzip"}
WORKERS = 2
CONNECTIONS = 24  # each goes to either worker by chance


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """Two workers, whatever the default is."""
    return {"GATEWAY_WORKERS": str(WORKERS)}


def pretty(events: list[Event]) -> bytes:
    return json.dumps(events, indent=4).replace("\n", "\r\n").encode()


def lines(events: list[Event]) -> bytes:
    return b"\n".join(map(encoded, events)) + b"\n"


def spaced_lines(events: list[Event]) -> bytes:
    return b"\r\n\r\n".join(b"  " + encoded(event) for event in events)


# How events are written, and the headers that say so.
FORMS: dict[str, tuple[Callable[[list[Event]], bytes], dict[str, str]]] = {
    "array": (lambda events: json.dumps(events).encode(), ARRAY),
    "array, pretty-printed": (pretty, ARRAY),
    "array, with a byte order mark": (lambda events: b"\xef\xbb\xbf" + json.dumps(events).encode(), ARRAY),
    "array, of no type": (lambda events: json.dumps(events).encode(), {}),
    "array, gzip": (lambda events: gzip.compress(json.dumps(events).encode()), ARRAY | GZIP),
    "array, gzip in two members": (
        lambda events: b"".join(map(gzip.compress, (pretty(events)[:500], pretty(events)[500:]))), ARRAY | GZIP,
    ),
    "lines": (lines, LINES),
    "lines, with empty ones between": (spaced_lines, LINES),
    "lines, under the type of an array": (lines, ARRAY),
    "one after the other": (lambda events: b"".join(map(encoded, events)), ARRAY),
    "lines, in UTF-16": (lambda events: lines(events).decode().encode("utf-16"), {}),
    "array, gzip without its header": (lambda events: gzip.compress(json.dumps(events).encode()), ARRAY),
    "array, under curl's type": (
        lambda events: json.dumps(events).encode(), {"Content-Type": "application/x-www-form-urlencoded"},
    ),
    "lines, gzip": (lambda events: gzip.compress(lines(events)), LINES | GZIP),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
async def test_every_form_is_taken(system: System, form: str) -> None:
    """The same events, whatever they are written as: all are accepted, and stored unchanged (the oracle sees to it)."""
    write, headers = FORMS[form]
    events = [maker(stage) for maker in (facebook, tiktok) for stage in ("top", "bottom") for _ in range(5)]
    answer = await system.send(write(events), list(map(encoded, events)), headers)
    assert answer.status_code == 202, answer.text
    assert {**answer.json(), "correlationId": ""} == {
        "correlationId": "",
        "accepted": len(events),
        "rejected": 0,
        "errors": [],
    }


@pytest.mark.parametrize("write", [encoded, lambda event: json.dumps(event, indent=2).encode()])
async def test_a_single_object_is_one_event(system: System, write: Callable[[Event], bytes]) -> None:
    """Without an array around it, on one line or many."""
    event = tiktok("bottom")
    answer = await system.send(write(event), [encoded(event)])
    assert (answer.status_code, answer.json()["accepted"]) == (202, 1)


async def test_each_event_stands_for_itself(system: System) -> None:
    """Of a mixed request the good are accepted, and each of the bad is named by its index, id, reason and path."""
    good = [facebook(), tiktok("bottom"), facebook("bottom")]
    old = datetime.now(UTC) - timedelta(days=8)
    amount = "data.engagement.purchaseAmount"
    bad: list[tuple[Event | bytes, str, str]] = [
        (without(facebook(), "eventId"), "missing_field", "$.eventId"),
        (changed(tiktok(), "data.user.followers", "many"), "wrong_type", "$.data.user.followers"),
        (changed(facebook(), "data.user.gender", "alien"), "not_allowed", "$.data.user.gender"),
        (changed(tiktok(), "data.engagement.watchTime", -1), "out_of_range", "$.data.engagement.watchTime"),
        (changed(tiktok("bottom"), amount, "1e3"), "invalid_amount", f"$.{amount}"),
        (changed(facebook(), "data.user.name", "a\0b"), "invalid_text", "$.data.user.name"),
        (changed(facebook(), "eventId", ""), "empty", "$.eventId"),
        (changed(facebook(), "data.user.location.city", "x" * 8193), "too_long", "$.data.user.location.city"),
        (changed(facebook(), "timestamp", "invalid-timestamp"), "invalid_timestamp", "$.timestamp"),
        (facebook(at=old), "too_old", "$.timestamp"),
        (tiktok(at=datetime.now(UTC) + timedelta(hours=2)), "too_far_ahead", "$.timestamp"),
        (b"17", "wrong_type", "$"),
    ]  # fmt: skip
    events = [event for event, _, _ in bad]
    mixed = [good[0], *events[:6], good[1], *events[6:], good[2]]
    answer = await system.post(mixed)
    assert answer.status_code == 202
    reported = answer.json()
    assert (reported["accepted"], reported["rejected"]) == (len(good), len(bad))
    indexes = [*range(1, 7), *range(8, 14)]
    expected = [
        (index, event.get("eventId") or None if isinstance(event, dict) else None, reason, path)
        for index, (event, reason, path) in zip(indexes, bad, strict=True)
    ]
    found = [(error["index"], error["eventId"] or None, error["reason"], error["path"]) for error in reported["errors"]]
    assert found == expected


async def test_the_answer_lists_a_hundred_and_counts_all(system: System) -> None:
    """A thousand bad events are counted and kept; the first hundred are listed."""
    bad = [encoded({"source": "facebook", "number": number}) for number in range(1000)]
    event = facebook()
    answer = await system.http.post(
        system.services.endpoint, content=b"[" + b",".join([*bad, encoded(event)]) + b"]", headers=ARRAY
    )
    reported = answer.json()
    assert (reported["accepted"], reported["rejected"]) == (1, 1000)
    assert [error["index"] for error in reported["errors"]] == list(range(100))
    await system.until_stored()
    (row,) = await system.select(
        "SELECT count(*) AS kept FROM rejected_events WHERE correlation_id = $1", reported["correlationId"]
    )
    assert row["kept"] == 1000
    # The oracle takes answers that name all they rejected: report it of each event by itself.
    accepted = {"accepted": 1, "rejected": 0, "errors": []}
    rejected = {"accepted": 0, "rejected": 1, "errors": [{"index": 0}]}
    for raw in bad:
        system.oracle.answered([raw], 422, json.dumps(rejected).encode())
    system.oracle.answered([encoded(event)], 202, json.dumps(accepted).encode())


async def test_unknown_keys_are_ignored_and_stored_nowhere(system: System) -> None:
    """Senders add fields: they make no event invalid, at any depth, and end in no column."""
    event = changed(facebook(), "data.user.shoeSize", 43) | {"version": "2"}
    event = changed(event, "data.engagement.purchaseAmount", "9.99")  # of the other stage: unknown here
    answer = await system.post([event])
    assert answer.json()["accepted"] == 1
    await system.until_stored()
    (row,) = await system.select("SELECT * FROM facebook_events WHERE event_id = $1", event["eventId"])
    assert row["purchase_amount"] is None
    assert 43 not in tuple(row)


async def test_all_of_unicode_comes_back(system: System) -> None:
    """Any text but NUL, as UTF-8 or escaped, stands in the row as it was sent, and in the report."""
    at = NOON + timedelta(hours=3)
    name = "Ада \U0001f680 \u202e\ud7ff \t\"\\' ﷽"
    plain = changed(facebook(at=at), "data.user.location.city", name)
    escaped = json.dumps(changed(facebook(at=at), "data.user.location.city", name), ensure_ascii=True).encode()
    assert (await system.post([plain, escaped])).json()["accepted"] == 2
    await system.until_stored()
    report = await system.report("demographics", at, at + timedelta(minutes=1))
    assert report["rows"][0]["city"] == [{"value": name, "events": 2}]


async def test_an_instant_means_the_same_in_every_zone(system: System) -> None:
    """An event counts at its own instant, however its zone is written."""
    at = NOON + timedelta(hours=4)
    words = [
        rfc3339(at),
        rfc3339(at + timedelta(hours=5, minutes=45)).replace("Z", "+05:45"),
        f"{at:%Y-%m-%dT%H:%M:%SZ}",
    ]
    assert (await system.post([facebook() | {"timestamp": text} for text in words])).json()["accepted"] == 3
    await system.until_stored()
    report = await system.report("events", at, at + timedelta(milliseconds=1))
    assert report["totals"]["events"] == 3


async def test_both_workers_serve(system: System) -> None:
    """Two processes share the port: each takes some of many connections, and /metrics adds them up."""
    before = await accepted_by_metrics(system)
    poster = Poster(system.services.endpoint)
    events = [encoded(tiktok()) for _ in range(CONNECTIONS)]
    answers = await asyncio.gather(*(poster.post(event) for event in events))
    parent = psutil.Process(system.supervisor.pid("gateway"))
    workers = workers_of(parent.pid)
    taken = {worker.pid: established(worker, system.services.ports["gateway"]) for worker in workers}
    poster.close()
    for event, answer in zip(events, answers, strict=True):
        system.oracle.answered([event], answer.status, answer.payload)
    assert {worker.ppid() for worker in workers} == {parent.pid}
    assert len(taken) == WORKERS
    assert sum(taken.values()) >= CONNECTIONS
    assert all(taken.values()), taken

    async def all_counted() -> bool:  # each worker hands on what it counted a few times a second
        return await accepted_by_metrics(system) == before + CONNECTIONS

    await eventually(all_counted, what="/metrics counts what all workers accepted")


def established(process: psutil.Process, port: int) -> int:
    """How many connections to `port` this process serves."""
    connections = process.net_connections("tcp")
    return sum(one.status == psutil.CONN_ESTABLISHED and one.laddr[1] == port for one in connections)


async def accepted_by_metrics(system: System) -> float:
    lines = (await system.http.get(system.gateway + "/metrics")).text.splitlines()
    return sum(float(line.split()[1]) for line in lines if line.startswith("gateway_events_accepted_total"))
