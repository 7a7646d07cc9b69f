"""One trace from the sender's traceparent to the row: spans of every service, beside the log and the correlation ID."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from tests.support.events import facebook, tiktok, without
from tests.support.otlp import Receiver, Span, receiving
from tests.support.system import ARRAY, System
from tests.support.waiting import eventually

SENDER = "00f067aa0ba902b7"
STEPS = ["parse", "wait", "store", "ack"]


@pytest.fixture(scope="module")
async def receiver() -> AsyncIterator[Receiver]:
    """Where this system's spans go."""
    async with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def settings(receiver: Receiver) -> dict[str, str]:
    """A system that is traced, and logs every request."""
    return {**receiver.settings, "LOG_LEVEL": "debug", "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test"}


def new_trace() -> str:
    return uuid4().hex


def sampled(trace_id: str, flags: str = "01") -> dict[str, str]:
    """Headers of a request that belongs to a trace."""
    return ARRAY | {"traceparent": f"00-{trace_id}-{SENDER}-{flags}"}


def children(spans: list[Span], parent: Span) -> list[Span]:
    return [span for span in spans if span.parent_id == parent.span_id]


async def test_one_trace_runs_from_the_sender_to_the_row(system: System, receiver: Receiver) -> None:
    """The gateway's span is the sender's child, publish the gateway's, and each collector's publish's, with its steps
    one after the other. The trace's ID is the correlation ID of spans, rows and log lines of gateway and collectors."""
    trace_id = new_trace()
    events = [facebook(), facebook(), tiktok()]
    answer = await system.post(events, sampled(trace_id))
    assert answer.json()["correlationId"] == trace_id
    spans = await receiver.trace(trace_id, 2 + 2 * (1 + len(STEPS)))

    (request,) = [span for span in spans if span.parent_id == SENDER]
    assert (request.service, request.name, request.kind, request.failed) == ("gateway", "POST /events", "SERVER", False)
    assert request.attributes == {
        "http.response.status_code": 202,
        "sluice.correlation_id": trace_id,
        "sluice.accepted": 3,
        "sluice.rejected": 0,
    }
    (publish,) = children(spans, request)
    assert (publish.service, publish.name, publish.kind) == ("gateway", "publish", "PRODUCER")
    assert request.began <= publish.began <= publish.ended <= request.ended
    collected = {span.service: span for span in children(spans, publish)}
    assert collected.keys() == {"collector-facebook", "collector-tiktok"}
    for source, count in {"facebook": 2, "tiktok": 1}.items():
        process = collected[f"collector-{source}"]
        assert (process.name, process.kind) == (f"process {source}", "CONSUMER")
        assert process.attributes["sluice.correlation_id"] == trace_id
        assert process.attributes["sluice.events"] == count
        steps = children(spans, process)
        assert [step.name for step in steps] == STEPS
        instants = [process.began, *(step.ended for step in steps)]
        assert [step.began for step in steps] == instants[:-1]
        assert process.ended == instants[-1]
        assert instants == sorted(instants)
        rows = await system.select(f"SELECT stream_sequence FROM {source}_events WHERE correlation_id = $1", trace_id)
        assert [row["stream_sequence"] for row in rows] == [process.attributes["sluice.stream_sequence"]] * count
    assert "request" in {
        line["event"] for line in system.log_lines("gateway") if line.get("correlation_id") == trace_id
    }
    for program in ("fb-collector", "ttk-collector"):
        lines = [line for line in system.log_lines(program) if trace_id in line.get("correlation_ids", ())]
        assert [line["event"] for line in lines] == ["batch stored"], program


async def test_a_senders_own_correlation_id_stands_in_its_trace(system: System, receiver: Receiver) -> None:
    """Where both are given, rows and logs have the correlation ID, and the spans of the trace name it."""
    trace_id, event = new_trace(), facebook()
    await system.post([event], sampled(trace_id) | {"X-Correlation-Id": "order-7"})
    spans = await receiver.trace(trace_id, 3 + len(STEPS))
    named = {span.attributes["sluice.correlation_id"] for span in spans if span.kind in ("SERVER", "CONSUMER")}
    assert named == {"order-7"}


async def test_the_senders_flag_decides(system: System, receiver: Receiver) -> None:
    """A trace that its sender does not sample gives no span anywhere, and its rows its ID all the same."""
    unsampled, later = new_trace(), new_trace()
    event = facebook()
    await system.post([event], sampled(unsampled, flags="00"))
    await system.until_stored()
    (row,) = await system.select("SELECT correlation_id FROM facebook_events WHERE event_id = $1", event["eventId"])
    assert row["correlation_id"] == unsampled
    await system.post([facebook()], sampled(later))
    await receiver.trace(later, 3 + len(STEPS))
    assert receiver.of(unsampled) == []


@pytest.mark.parametrize("given", ["", "00-zz-zz-01", f"00-{'0' * 32}-{SENDER}-01"])
async def test_without_a_usable_traceparent_a_trace_begins_at_the_gateway(
    system: System, receiver: Receiver, given: str
) -> None:
    """The request's span has no parent, and the collector's are of the same trace."""
    event = facebook()
    answer = await system.post([event], ARRAY | {"traceparent": given})

    async def begun() -> list[Span]:
        named = answer.json()["correlationId"]
        return [span for span in receiver.spans if span.attributes.get("sluice.correlation_id") == named]

    request = (await eventually(begun, what="the span of the request"))[0]
    assert (request.name, request.parent_id) == ("POST /events", "")
    await receiver.trace(request.trace_id, 3 + len(STEPS))


async def test_what_is_rejected_is_traced_as_well(system: System, receiver: Receiver) -> None:
    """Rejected events go on in the same trace, into the collector that keeps them; a request that is rejected as a
    whole has its status. Neither is a failure of ours."""
    trace_id, whole = new_trace(), new_trace()
    await system.post([facebook(), without(facebook(), "data.user")], sampled(trace_id))
    spans = await receiver.trace(trace_id, 2 + 2 * (1 + len(STEPS)))
    assert {"process facebook", "process rejected"} <= {span.name for span in spans}
    assert (spans[0].attributes["sluice.accepted"], spans[0].attributes["sluice.rejected"]) == (1, 1)

    await system.send(b"no JSON", headers=sampled(whole))
    (request,) = await receiver.trace(whole, 1)
    assert (request.attributes["http.response.status_code"], request.failed) == (400, False)


async def test_a_report_is_traced(system: System, receiver: Receiver) -> None:
    """Its span is the child of who asked, and query, read and answer are its own; one that is rejected has no steps."""
    fine, wrong = new_trace(), new_trace()
    url = f"{system.services.reports}/reports/events"
    requested = {"from": "2026-11-21", "to": "2026-11-22"}
    await system.http.get(url, params=requested, headers=sampled(fine))
    report, *steps = await receiver.trace(fine, 4)
    assert (report.service, report.name, report.kind) == ("reporter", "GET /reports/events", "SERVER")
    assert (report.parent_id, report.attributes["sluice.correlation_id"]) == (SENDER, fine)
    assert report.attributes["http.response.status_code"] == 200
    assert [step.name for step in steps] == ["query", "read", "answer"]
    assert {step.parent_id for step in steps} == {report.span_id}

    await system.http.get(url, params=requested | {"to": "never"}, headers=sampled(wrong))
    (report,) = await receiver.trace(wrong, 1)
    assert (report.attributes["http.response.status_code"], report.failed) == (400, False)
