"""Where a request comes from: whose correlation ID it carries, and when it came."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import cast

import pytest
from litestar.types import Receive, Scope, Send

from core.sources.fields import instant, moment_of
from gateway.correlation import origin
from reporter.correlation import current_correlation_id, with_correlation_id

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"
NEW = re.compile(r"[0-9a-f]{32}")


@pytest.mark.parametrize("given", ["a", "order-17_b.C:9", "x" * 128])
def test_the_senders_id_is_taken(given: str) -> None:
    """A usable X-Correlation-Id is taken as it is, even where there is a trace as well."""
    assert origin({"x-correlation-id": given, "traceparent": TRACEPARENT}).correlation_id == given


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "é", 'a"b', "a\nb", "a\n", "<script>"])
def test_an_id_that_could_do_harm_is_replaced(given: str) -> None:
    """An ID that is too long or holds anything but dead letters, digits and . _ : - is replaced by a new one."""
    assert NEW.fullmatch(origin({"x-correlation-id": given}).correlation_id)


def test_else_the_trace_is_the_id() -> None:
    """Without a usable ID the trace ID of a valid traceparent names the request, and the trace goes on."""
    came = origin({"x-correlation-id": "?", "traceparent": TRACEPARENT})
    assert (came.correlation_id, came.traceparent) == (TRACE, TRACEPARENT)


@pytest.mark.parametrize("more", ["", "-what-is-to-come"])
def test_a_later_version_of_traceparent_is_read(more: str) -> None:
    """A version after 00 may say more; what is known of it is used."""
    later = f"01-{TRACE}-b7ad6b7169203331-01{more}"
    assert origin({"traceparent": later})[:2] == (TRACE, later)


@pytest.mark.parametrize(
    "given",
    [
        "",
        TRACE,
        TRACEPARENT.upper(),
        TRACEPARENT + "-more",
        TRACEPARENT + "\n",
        "ff" + TRACEPARENT[2:],
        f"00-{'0' * 32}-b7ad6b7169203331-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"01-{TRACE}-b7ad6b7169203331-01-" + "x" * 300,
    ],
)
def test_a_traceparent_that_is_none_is_left_out(given: str) -> None:
    """An invalid traceparent is neither passed on nor used."""
    came = origin({"traceparent": given})
    assert came.traceparent is None
    assert NEW.fullmatch(came.correlation_id)


@pytest.mark.parametrize(
    "headers",
    [
        {"x-correlation-id": "order-17"},
        {"x-correlation-id": "not usable", "traceparent": TRACEPARENT},
        {"traceparent": f"01-{TRACE}-b7ad6b7169203331-01-more"},
    ],
)
async def test_gateway_and_reporter_name_a_request_alike(headers: dict[str, str]) -> None:
    """The same headers give the same correlation ID at both."""
    found: list[str | None] = []

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        found.append(current_correlation_id())

    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    await with_correlation_id(app)(
        cast(Scope, {"type": "http", "path": "/", "headers": raw}), cast(Receive, None), cast(Send, None)
    )
    assert found == [origin(headers).correlation_id]


def test_new_ids_differ() -> None:
    """Each request without an ID gets one of its own."""
    assert len({origin({}).correlation_id for _ in range(1000)}) == 1000


def test_the_instant_is_the_same_in_both_forms() -> None:
    """received_at is RFC 3339 in UTC with microseconds, and received is that very instant as a number."""
    before = datetime.now(UTC)
    came = origin({})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", came.received_at)
    assert instant(came.received_at) == came.received
    assert before <= moment_of(came.received) <= datetime.now(UTC)
