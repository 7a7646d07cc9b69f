"""Bad input, at every gateway: each answer says in a problem document of its own what is wrong, and nothing is
stored."""

import gzip
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from core.settings import load
from core.sources import SOURCES
from ops.local.up import variables
from ops.settings import OperatorSettings
from tests.support.events import encoded, facebook
from tests.support.operator import ops_json
from tests.support.system import ARRAY, System

MOST_BYTES = 100_000
EVENT = encoded(facebook())
RANGE = "from=2026-11-21&to=2026-11-22"


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    """A limit that a test can pass cheaply."""
    return {"GATEWAY_MAX_BODY_BYTES": str(MOST_BYTES)}


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The answer's problem document: whole, of this status, and under the request's correlation ID."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert {"type", "title", "status", "detail", "correlationId"} <= found.keys()
    assert found["status"] == status
    assert found["correlationId"] == answer.headers["X-Correlation-Id"]
    return found


# What is sent, with which headers beside those of an array; the answer's status, type and a part of its detail.
BAD_BODIES: Mapping[str, tuple[bytes, dict[str, str], int, str, str]] = {
    "not JSON": (b"nope", {}, 400, "not_json", "the body is not JSON"),
    "not UTF-8": (b"\xff\xfe[]", {}, 400, "not_json", "the body is not JSON"),
    "an array that does not close": (b"[" + EVENT, {}, 400, "not_json", "the array does not close"),
    "an array of rubbish": (b"[{]", {}, 400, "not_json", "the array does not close"),
    "a number": (b"42", {}, 400, "not_events", "not an array of events and not one event"),
    "null": (b"null", {}, 400, "not_events", "not an array of events and not one event"),
    "nothing": (b"", {}, 400, "empty_body", "the body is empty"),
    "spaces": (b" \n\t ", {}, 400, "empty_body", "the body is empty"),
    "an empty array": (b"[]", {}, 400, "no_events", "the body contains no event"),
    "lines without an event": (b"\n\n \n", {"Content-Type": "application/x-ndjson"}, 400, "empty_body", "empty"),
    "too large": (b" " * (MOST_BYTES + 1), {}, 413, "too_large", f"at most {MOST_BYTES} bytes"),
    "too large when inflated": (
        gzip.compress(b" " * (MOST_BYTES + 1)), {"Content-Encoding": "gzip"}, 413, "too_large", f"{MOST_BYTES} bytes",
    ),
    "too many events": (
        b"[" + b",".join([b"1"] * (MOST_BYTES // 256 + 1)) + b"]", {}, 413, "too_many_events", "events",
    ),
    "not gzip": (EVENT, {"Content-Encoding": "gzip"}, 400, "not_gzip", "the body is not gzip"),
    "gzip cut short": (
        gzip.compress(EVENT)[:-9], {"Content-Encoding": "gzip"}, 400, "not_gzip", "the gzip stream ends too early",
    ),
    "brotli": (EVENT, {"Content-Encoding": "br"}, 415, "unsupported_encoding", "send gzip"),
    "a picture": (EVENT, {"Content-Type": "image/png"}, 415, "unsupported_type", "not as image/png"),
    "a form": (
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n--b--\r\n',
        {"Content-Type": "multipart/form-data; boundary=b"}, 415, "unsupported_type", "not as multipart/form-data",
    ),
    "an object that is no event": (b'{"events": []}', {}, 422, "nothing_accepted", "no event of 1 is valid"),
    "an array of numbers": (b"[1, 2]", {}, 422, "nothing_accepted", "no event of 2 is valid"),
    "an array in an array": (b"[[" + EVENT + b"]]", {}, 422, "nothing_accepted", "no event of 1 is valid"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_BODIES)
async def test_a_bad_body_is_rejected_for_what_is_wrong_with_it(system: System, name: str) -> None:
    """POST /events names the fault in `type`, reports a person what to do in `detail`, and stores nothing."""
    body, headers, status, kind, detail = BAD_BODIES[name]
    answer = await system.http.post(system.services.endpoint, content=body, headers=ARRAY | headers)
    found = problem(answer, status)
    assert found["type"] == f"urn:sluice:problem:{kind}"
    assert detail in found["detail"]
    if status == 422:
        assert found["accepted"] == 0
        assert found["rejected"] == len(found["errors"]) > 0
        assert all(error["reason"] and error["path"] and error["detail"] for error in found["errors"])


async def test_what_was_rejected_stored_nothing_and_hindered_nothing(system: System) -> None:
    """After all these bodies, a good event is the only one in any table."""
    for body, headers, _, _, _ in BAD_BODIES.values():
        await system.http.post(system.services.endpoint, content=body, headers=ARRAY | headers)
    good = facebook()
    answer = await system.http.post(system.services.endpoint, content=encoded(good), headers=ARRAY)
    assert answer.status_code == 202
    await system.until_stored()
    stored = [row["event_id"] for source in SOURCES for row in await system.select(f"SELECT * FROM {source}_events")]
    assert stored == [good["eventId"]]


async def test_a_body_that_is_rejected_whole_is_a_dead_letter(
    system: System, settings: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    """An operator finds it in `dead-letters list`, under the answer's correlation ID. The ledger balances with it."""
    answer = await system.http.post(system.services.endpoint, content=b"hello", headers=ARRAY)
    await system.until_stored()
    operator_settings = load(OperatorSettings, variables(system.servers, system.services, settings))
    _, listed = await ops_json(operator_settings, capsys, "dead-letters", "list", "--reason", "not_json")
    (dead_letter,) = [
        dead_letter for dead_letter in listed if dead_letter["correlation_id"] == answer.json()["correlationId"]
    ]
    assert (dead_letter["kind"], dead_letter["source"], dead_letter["path"], dead_letter["length"]) == (
        "rejected",
        "unknown",
        "",
        5,
    )
    _, shown = await ops_json(operator_settings, capsys, "dead-letters", "show", dead_letter["id"])
    assert shown["event"] == "hello"
    await system.ledger()


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
async def test_the_gateway_takes_posts_alone(system: System, method: str) -> None:
    """405, with what is allowed."""
    answer = await system.http.request(method, system.services.endpoint)
    assert problem(answer, 405)["detail"] == "/events allows POST"
    assert answer.headers["Allow"] == "POST"


@pytest.mark.parametrize("path", ["/", "/event", "/events/facebook", "/reports/events"])
async def test_the_gateway_says_where_events_go(system: System, path: str) -> None:
    """404, with the path that takes events."""
    answer = await system.http.post(system.gateway + path, content=EVENT, headers=ARRAY)
    assert "POST /events" in problem(answer, 404)["detail"]


BAD_QUERIES: Mapping[str, tuple[str, str, str]] = {
    # path and query; the parameter at fault; a part of the detail
    "no range": ("/reports/events", "from", "is required"),
    "no end": ("/reports/events?from=2026-11-21", "to", "is required"),
    "no date": ("/reports/events?from=yesterday&to=2026-11-22", "from", "neither a date nor a time"),
    "no such day": ("/reports/revenue?from=2026-02-30&to=2026-11-22", "from", "does not exist"),
    "a skipped local time": (
        "/reports/revenue?from=2026-03-29T02:30&to=2026-11-22&timeZone=Europe/Berlin", "from", "does not exist",
    ),
    "two ranges": (f"/reports/funnel?{RANGE}&range=7d", "from", "not allowed with range"),
    "unknown range": ("/v1/reports/events?range=next-week", "range", "neither a number of minutes"),
    "a time after a space": ("/reports/events?from=2026-11-21+00:00:00Z&to=2026-11-22", "from", "2026-11-22T07:00:00Z"),
    "from after to": ("/reports/events?from=2026-11-22&to=2026-11-21", "to", "has to be after from"),
    "from is to": ("/reports/demographics?from=2026-11-22&to=2026-11-22", "to", "has to be after from"),
    "out of this world": ("/reports/events?from=1999-12-31&to=2026-11-22", "from", "has to be between"),
    "twice": (f"/reports/events?{RANGE}&from=2026-11-20", "from", "more than once"),
    "unknown zone": (f"/reports/events?{RANGE}&timeZone=Mars/Base", "timeZone", "not an IANA time zone"),
    "unknown filter": (f"/reports/events?{RANGE}&country=Peru", "country", "no such parameter"),
    "a filter of another report": (f"/reports/events?{RANGE}&campaignId=a", "campaignId", "no such parameter"),
    "unknown source": (f"/reports/events?{RANGE}&source=myspace", "source", "'myspace' is not allowed"),
    "empty source": (f"/reports/events?{RANGE}&source=", "source", "'' is not allowed"),
    "unknown stage": (f"/reports/events?{RANGE}&funnelStage=middle", "funnelStage", "'middle' is not allowed"),
    "unknown type": (f"/reports/events?{RANGE}&eventType=poke", "eventType", "'poke' is not allowed"),
    "a type of another source": (
        f"/reports/events?{RANGE}&eventType=like&source=facebook", "eventType", "does not occur with source=facebook",
    ),
    "unknown interval": (f"/reports/events?{RANGE}&interval=decade", "interval", "'decade' is not allowed"),
    "too many buckets": (
        "/reports/events?from=2000-01-01&to=2026-11-22&interval=15minutes", "interval", "a longer interval",
    ),
    "minutes of a year": ("/reports/events?from=2026-01-01&to=2026-11-22&interval=minute", "interval", "24 hours"),
    "unknown group": (f"/reports/events?{RANGE}&groupBy=city", "groupBy", "'city' is not allowed"),
    "a group twice": (f"/reports/events?{RANGE}&groupBy=source,source", "groupBy", "more than once"),
    "campaigns of tiktok": (f"/reports/revenue?{RANGE}&campaignId=a&source=tiktok", "campaignId", "no campaigns"),
    "conversion by campaign": (f"/reports/revenue?{RANGE}&campaignId=a&metrics=conversion", "metrics", "by campaign"),
    "steps of no source": (f"/reports/funnel?{RANGE}&steps=ad.view,purchase", "steps", "no source has all of"),
    "too many cities": (f"/reports/demographics?{RANGE}&top=1001", "top", "from 1 to 1000"),
    "cities by name": (f"/reports/demographics?{RANGE}&top=many", "top", "whole number"),
}  # fmt: skip
CLOSED = {"source", "funnelStage", "eventType", "groupBy"}


@pytest.mark.parametrize("name", BAD_QUERIES)
async def test_a_bad_query_is_rejected_by_its_parameter(system: System, name: str) -> None:
    """400 names the parameter, says what is wrong with it, and lists what is allowed where that is a closed list."""
    path, parameter, detail = BAD_QUERIES[name]
    found = problem(await system.get(path), 400)
    assert found["parameter"] == parameter
    assert detail in found["detail"]
    if parameter in CLOSED or "no such parameter" in detail:
        assert found["allowed"]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
async def test_reports_can_only_be_read(system: System, method: str) -> None:
    """405, with what is allowed."""
    answer = await system.http.request(method, f"{system.services.reports}/reports/events?{RANGE}")
    assert problem(answer, 405)
    assert "GET" in answer.headers["Allow"]


async def test_the_reporter_has_no_other_pages(system: System) -> None:
    """404, as a problem document."""
    problem(await system.get("/reports/nothing"), 404)


async def test_a_format_that_no_report_has_is_rejected(system: System) -> None:
    """406 names the formats that there are."""
    url = f"{system.services.reports}/reports/events?{RANGE}"
    answer = await system.http.get(url, headers={"Accept": "image/png"})
    assert "application/json, text/csv, application/vnd.apache.arrow.stream" in problem(answer, 406)["detail"]
