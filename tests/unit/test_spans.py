"""Which requests are traced, by each of the standard's samplers, and what goes on from there."""

import pytest

from core.correlation import is_sampled
from core.settings import TracesSampler
from core.spans import Span, Spans

TRACE = "0af7651916cd43dd8448eb211c80319c"
YES, NO, NEW = f"00-{TRACE}-b7ad6b7169203331-01", f"00-{TRACE}-b7ad6b7169203331-00", None


def begun(sampler: TracesSampler, ratio: float, traceparent: str | None) -> Span | None:
    return Spans("tests", "http://127.0.0.1:1", sampler, ratio).start("any", traceparent, "SERVER")


@pytest.mark.parametrize(
    ("sampler", "ratio", "traced"),
    [
        ("always_on", 0.0, {YES, NO, NEW}),
        ("always_off", 1.0, set()),
        ("traceidratio", 1.0, {YES, NO, NEW}),
        ("traceidratio", 0.0, set()),
        ("parentbased_always_on", 0.0, {YES, NEW}),
        ("parentbased_always_off", 1.0, {YES}),
        ("parentbased_traceidratio", 1.0, {YES, NEW}),
        ("parentbased_traceidratio", 0.0, {YES}),
    ],
)
def test_samplers_do_what_their_names_say(sampler: TracesSampler, ratio: float, traced: set[str | None]) -> None:
    """Of a sampled trace, of one that is not, and of a request without a trace."""
    assert {given for given in (YES, NO, NEW) if begun(sampler, ratio, given) is not None} == traced


def test_a_ratio_is_a_share() -> None:
    """About as many traces as it says are sampled."""
    spans = Spans("tests", "http://127.0.0.1:1", "parentbased_traceidratio", 0.1)
    assert 50 < sum(spans.start("any", None, "SERVER") is not None for _ in range(1000)) < 150


def test_anyone_who_goes_on_is_reported_to_sample() -> None:
    """A span's traceparent names its own trace, itself and that it is sampled; its child's, another span."""
    span = begun("parentbased_always_on", 1.0, YES)
    assert span is not None
    child = span.child("below")
    assert is_sampled(span.traceparent)
    assert span.traceparent.split("-")[1] == child.traceparent.split("-")[1] == TRACE
    assert len({YES, span.traceparent, child.traceparent}) == 3
