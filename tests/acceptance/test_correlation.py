"""One correlation ID from gateway to row: in the answer, in the log, on the row, and on what was rejected."""

import asyncio
from typing import Any

import pytest

from tests.support.events import Event, facebook, tiktok, without
from tests.support.system import ARRAY, System
from tests.support.waiting import eventually

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """The default level: every request is in the log."""
    return {}


async def stored_ids(system: System, *events: Event) -> set[str]:
    """The correlation IDs of these events' rows."""
    await system.until_stored()
    found = set()
    for event in events:
        (row,) = await system.select(
            f"SELECT correlation_id FROM {event['source']}_events WHERE event_id = $1", event["eventId"]
        )
        found.add(row["correlation_id"])
    return found


def logged(system: System, program: str, correlation_id: str) -> list[dict[str, Any]]:
    return [line for line in system.log_lines(program) if line.get("correlation_id") == correlation_id]


async def test_the_senders_id_goes_from_gateway_to_row(system: System) -> None:
    """Given in X-Correlation-Id, it is in the answer's header and body, in a line of the gateway's log and in each
    row, of either source."""
    events = [facebook(), tiktok("bottom")]
    answer = await system.post(events, ARRAY | {"X-Correlation-Id": "order-4711.a:b"})
    assert answer.headers["X-Correlation-Id"] == "order-4711.a:b"
    assert answer.json()["correlationId"] == "order-4711.a:b"
    assert await stored_ids(system, *events) == {"order-4711.a:b"}
    (line,) = logged(system, "gateway", "order-4711.a:b")
    assert line["event"] == "request"
    assert (line["status"], line["accepted"], line["level"]) == (202, 2, "info")
    assert line["service"] == "gateway"


async def test_a_rejected_event_keeps_it_too(system: System) -> None:
    """It stands in rejected_events beside the reason, and in the log; the good event of the same request has it."""
    bad, good = without(facebook(), "data.user"), tiktok()
    answer = await system.post([good, bad], ARRAY | {"X-Correlation-Id": "partly-rejected"})
    assert answer.json()["rejected"] == 1
    assert await stored_ids(system, good) == {"partly-rejected"}
    (row,) = await system.select(
        "SELECT event_id, reason, path FROM rejected_events WHERE correlation_id = 'partly-rejected'"
    )
    assert tuple(row) == (bad["eventId"], "missing_field", "$.data.user")
    assert "events rejected" in {line["event"] for line in logged(system, "gateway", "partly-rejected")}


async def test_without_one_the_trace_is_taken(system: System) -> None:
    """The trace ID of a W3C traceparent names the request where the sender gave no correlation ID."""
    event = facebook()
    answer = await system.post([event], ARRAY | {"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})
    assert answer.json()["correlationId"] == TRACE
    assert await stored_ids(system, event) == {TRACE}


@pytest.mark.parametrize("given", [None, "", "with space", "x" * 129, '"; DROP TABLE--', "ü"])
async def test_without_a_usable_one_a_new_one_is_made(system: System, given: str | None) -> None:
    """What cannot name a request safely is not repeated anywhere; each request gets an ID of its own."""
    headers: dict[str, Any] = {} if given is None else {"X-Correlation-Id": given.encode()}
    events = [facebook(), facebook()]
    ids = [(await system.post([event], ARRAY | headers)).json()["correlationId"] for event in events]
    assert len(set(ids)) == 2
    assert given not in ids
    assert all(len(made) == 32 and int(made, 16) for made in ids)
    assert await stored_ids(system, *events) == set(ids)


async def test_requests_that_share_a_message_keep_their_own(system: System) -> None:
    """However requests are put together on their way, each row has the ID of its own request."""
    events = {f"shared-{number}": facebook() for number in range(40)}
    await asyncio.gather(*(system.post([event], ARRAY | {"X-Correlation-Id": name}) for name, event in events.items()))
    for name, event in events.items():
        assert await stored_ids(system, event) == {name}


async def test_a_rejected_request_is_found_in_the_log(system: System) -> None:
    """Anyone who was answered 400 can be helped: the ID of the answer leads to the reason in the log."""
    answer = await system.http.post(system.services.endpoint, content=b"nope", headers=ARRAY)
    (line,) = logged(system, "gateway", answer.json()["correlationId"])
    assert (line["status"], line["rejection"]) == (400, "not_json")


async def test_a_report_has_one_as_well(system: System) -> None:
    """The reporter answers under the ID that it was asked with, and logs it."""
    url = f"{system.services.reports}/reports/events?from=2026-11-21&to=2026-11-22"
    answer = await system.http.get(url, headers={"X-Correlation-Id": "asked-by-ada"})
    assert answer.headers["X-Correlation-Id"] == "asked-by-ada"

    async def reported() -> list[dict[str, Any]]:
        return logged(system, "reporter", "asked-by-ada")

    (line,) = await eventually(reported, what="a line in the reporter's log")
    assert (line["path"], line["status"]) == ("/reports/events", 200)
    assert line["bytes"] == len(answer.content)


async def test_logs_hold_no_payload(system: System) -> None:
    """Names, cities and user ids of events are nowhere in a log, be the events good or bad."""
    marks = {"data.user.name": "Zaphod-Name", "data.user.userId": "Zaphod-Id"}
    good = facebook()
    good["data"]["user"] |= {"name": marks["data.user.name"], "userId": marks["data.user.userId"]}
    good["data"]["user"]["location"]["city"] = "Zaphod-City"
    await system.post([good, without(good, "timestamp")])
    await system.until_stored()
    for file in (system.folder / "logs").iterdir():
        assert "Zaphod" not in file.read_text(), file.name
