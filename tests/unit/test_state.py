"""The judgement of the system's state: every fact that is bad or missing is a problem, the worst first."""

from __future__ import annotations

from typing import Any

import pytest

from core.events.subjects import REJECTED
from core.state import GatewayFacts, SourceFacts, level, problems

WELL = SourceFacts("facebook", 0.2, 3, 10, 100, paused=False, no_collector="")
GATEWAY = GatewayFacts(0, "")


def test_all_is_well() -> None:
    """No problem where everything is known and well."""
    assert problems([WELL], GATEWAY, {}) == []
    assert level([]) == "good"


@pytest.mark.parametrize(
    ("changed", "check", "said"),
    [
        ({"lag_seconds": 31.0}, "lag", "EVENTS_FACEBOOK: 3 messages waiting, the oldest 31.0 s"),
        ({"lag_seconds": None}, "lag", "facebook has no watermark yet"),
        ({"stream_bytes": 81}, "room in streams", "EVENTS_FACEBOOK is 81% full; when it is full, requests get 503"),
        ({"paused": True}, "paused", "facebook is paused: its events are accepted and queued"),
        ({"no_collector": "no collector fetches facebook"}, "collectors", "no collector fetches facebook"),
        ({"stop_reason": "no rights"}, "stopped", "a collector of facebook stopped: no rights"),
        ({"lost": 1}, "lost", "1 message of facebook lost: published, and never stored"),
    ],
)
def test_each_fact_is_a_problem(changed: dict[str, Any], check: str, said: str) -> None:
    """Each alone is named, and nothing is called well."""
    (found,) = problems([WELL._replace(**changed)], GATEWAY, {})
    assert (found.part, found.check, found.text) == ("facebook", check, said)
    assert level([found]) in ("warn", "bad")


def test_titles_stay_while_figures_change() -> None:
    """The title of a problem is the same at every moment: what reads it aloud is not interrupted."""
    one, other = (problems([WELL._replace(lag_seconds=lag, waiting=9)], GATEWAY, {})[0] for lag in (31.0, 99.0))
    assert one.title == other.title
    assert one.text != other.text


def test_the_worst_comes_first() -> None:
    """Requests that are turned away come before what only waits; rejected events are no emergency."""
    rejected = WELL._replace(name=REJECTED, stream_bytes=99)
    paused = WELL._replace(paused=True)
    dead = {("tiktok", "unstorable"): 2}
    found = problems([paused, rejected], GatewayFacts(7, ""), dead)
    assert [problem.check for problem in found] == ["requests", "paused", "room in streams", "dead letters"]
    assert found[0].text == "7 requests got 500 or 503 in the last minute"
    assert found[-1].text == "2 accepted events of tiktok could not be stored: unstorable"
    assert [problem.level for problem in found] == ["bad", "warn", "warn", "warn"]


def test_gateways_that_are_not_heard() -> None:
    """What gateways answer is either known or a problem."""
    (found,) = problems([WELL], GatewayFacts(0, "no gateway has reported yet"), {})
    assert (found.part, found.check, found.level) == ("gateway", "requests", "warn")
