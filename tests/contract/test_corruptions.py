"""The publisher's sixteen corruptions over both sources and stages: the right reason and path, or none.

The function is picked apart from the event's own source, so some change nothing or only add a key that is not
listed: those events are valid, and rejecting one would lose it.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest

from bench.publisher.events import corrupt
from collector.parse.python import python_parser
from collector.sources import SOURCES
from core.events.contract import Contract, Invalid, Reason
from tests.support.events import MAKERS, SHAPES, Event, changed, encoded, message, microseconds

CONTRACT = Contract(max_age_days=7, max_ahead_seconds=3600)
TYPES = {
    ("facebook", "top"): "video.view",
    ("facebook", "bottom"): "checkout.complete",
    ("tiktok", "top"): "video.view",
    ("tiktok", "bottom"): "purchase",
}

# function, kind -> the shapes that it breaks, with the reason and the path; every other shape stays valid.
Broken = dict[tuple[str, str], tuple[Reason, str]]
ANY_FACEBOOK = [("facebook", "top"), ("facebook", "bottom")]
ANY_TIKTOK = [("tiktok", "top"), ("tiktok", "bottom")]
BREAKS: dict[tuple[str, int], Broken] = {
    ("facebook", 3): dict.fromkeys(ANY_FACEBOOK, (Reason.MISSING_FIELD, "$.data.user.name")),
    ("tiktok", 3): dict.fromkeys(ANY_TIKTOK, (Reason.MISSING_FIELD, "$.data.user.username")),
    ("facebook", 7): {
        ("facebook", "top"): (Reason.WRONG_TYPE, "$.data.engagement.actionTime"),
        ("facebook", "bottom"): (Reason.MISSING_FIELD, "$.data.engagement.adId"),
    },
    ("tiktok", 7): {
        ("tiktok", "top"): (Reason.OUT_OF_RANGE, "$.data.engagement.watchTime"),
        ("tiktok", "bottom"): (Reason.MISSING_FIELD, "$.data.engagement.purchasedItem"),
    },
    ("facebook", 8): dict.fromkeys(ANY_FACEBOOK, (Reason.NOT_ALLOWED, "$.data.user.gender")),
    ("tiktok", 8): dict.fromkeys(ANY_TIKTOK, (Reason.WRONG_TYPE, "$.data.user.followers")),
}
for function in MAKERS:  # these are the same in both functions, and break every event
    for corruption_type, said in {
        1: (Reason.INVALID_TIMESTAMP, "$.timestamp"),
        2: (Reason.MISSING_FIELD, "$.eventId"),
        4: (Reason.MISSING_FIELD, "$.data.user"),
        5: (Reason.NOT_ALLOWED, "$.funnelStage"),
        6: (Reason.WRONG_TYPE, "$.eventType"),
    }.items():
        BREAKS[function, corruption_type] = dict.fromkeys(SHAPES, said)


def every() -> list[Any]:
    """Function, kind, the event's own source and stage, and what it breaks."""
    return [
        pytest.param(
            function, corruption_type, shape, breaks.get(shape), id=f"{function}-{corruption_type}-on-{'-'.join(shape)}"
        )
        for (function, corruption_type), breaks in sorted(BREAKS.items())
        for shape in SHAPES
    ]


def valid(shape: tuple[str, str]) -> Event:
    source, stage = shape
    return changed(MAKERS[source](stage), "eventType", TYPES[shape])


def corrupted(event: Event, function: Any, corruption_type: int) -> Event:
    copied = copy.deepcopy(event)
    corrupt(copied, function, corruption_type)
    return copied


def test_there_are_sixteen() -> None:
    """Eight kinds of two functions, and none is left out."""
    assert sorted(BREAKS) == [
        (function, corruption_type) for function in sorted(MAKERS) for corruption_type in range(1, 9)
    ]


@pytest.mark.parametrize(("function", "corruption_type", "shape", "breaks"), every())
def test_a_corruption_is_reported_or_does_no_harm(
    function: str, corruption_type: int, shape: tuple[str, str], breaks: tuple[Reason, str] | None
) -> None:
    """at the gateway and in its own stream, a corrupt event has its reason and path; one that is still valid is
    taken."""
    event = corrupted(valid(shape), function, corruption_type)
    for source in (None, shape[0]):
        if breaks is None:
            read = CONTRACT.read(encoded(event), microseconds(), source)
            assert read == CONTRACT.read(encoded(valid(shape) | {"eventId": event["eventId"]}), microseconds())
        else:
            with pytest.raises(Invalid) as caught:
                CONTRACT.read(encoded(event), microseconds(), source)
            assert (caught.value.reason, caught.value.path) == breaks


@pytest.mark.parametrize(("function", "corruption_type", "shape", "breaks"), every())
def test_a_corruption_costs_one_event(
    function: str, corruption_type: int, shape: tuple[str, str], breaks: tuple[Reason, str] | None
) -> None:
    """As the last of a message, where the publisher puts it, a corrupt event leaves the others' rows as they are."""
    source, _ = shape
    good = [valid(shape), valid(shape)]
    parsed = python_parser(SOURCES[source], CONTRACT)(
        message(*good, corrupted(valid(shape), function, corruption_type)), 1
    )
    kept = sum(day.count for day in parsed.days.values())
    if breaks is None:
        assert (kept, parsed.invalid) == (3, [])
    else:
        assert kept == 2
        assert [(event.position, event.reason, event.path) for event in parsed.invalid] == [(2, *breaks)]


def test_a_purchase_that_has_no_item_is_left_alone() -> None:
    """The tiktok function deletes purchasedItem only where it is set: on other events it changes nothing."""
    visit = changed(changed(valid(("tiktok", "bottom")), "eventType", "follow"), "data.engagement.purchasedItem", None)
    assert corrupted(visit, "tiktok", 7) == visit
    CONTRACT.read(encoded(corrupted(visit, "tiktok", 7)), microseconds())
