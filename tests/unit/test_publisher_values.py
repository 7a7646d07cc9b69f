"""How the publisher's values are distributed, and that every distribution keeps the contract."""

import json
from collections import Counter
from typing import Any

import pytest

from bench.publisher.bodies import Bodies
from bench.publisher.values import FUNNEL, VALUES
from ops.cli import arguments
from tests.unit.test_publisher_bodies import NOW
from tests.unit.test_publisher_events import assert_keeps_contract

Event = dict[str, Any]


def drawn(values: str, count: int = 20_000) -> list[Event]:
    events: list[Event] = json.loads(
        Bodies(1, corrupt_share=0.0, values=VALUES[values], now=lambda: NOW).body(count).content
    )
    return events


def campaigns(events: list[Event]) -> Counter[str]:
    engagements = (event["data"]["engagement"] for event in events)
    return Counter(one["campaignId"] for one in engagements if "campaignId" in one)


@pytest.mark.parametrize("values", VALUES)
def test_every_distribution_keeps_the_contract(values: str) -> None:
    """Events are valid, and each has an id of its own, however few different values they have."""
    events = drawn(values, 2_000)
    for event in events:
        assert_keeps_contract(event)
    assert len({event["eventId"] for event in events}) == len(events)


def test_one_value_for_all() -> None:
    """Only the id and the instant differ among the events of a type."""
    alike = {
        json.dumps(event | {"eventId": "", "timestamp": "", "data": _without_instant(event["data"])})
        for event in drawn("one")
    }
    assert len(alike) == len({(source, *key) for source in FUNNEL for key in FUNNEL[source]})
    assert len(campaigns(drawn("one"))) == 1


def _without_instant(data: Event) -> Event:
    return data | {"engagement": {key: value for key, value in data["engagement"].items() if key != "actionTime"}}


@pytest.mark.parametrize(("values", "most"), [("zipf-campaigns", 200), ("one-campaign", 1)])
def test_campaigns_alone(values: str, most: int) -> None:
    """Two distributions differ from the publisher's in their campaigns alone: people are new in every event."""
    events = drawn(values)
    assert 0 < len(campaigns(events)) <= most
    assert len({event["data"]["user"]["userId"] for event in events}) == len(events)


@pytest.mark.parametrize("values", ["zipf", "plausible"])
def test_few_values_are_frequent(values: str) -> None:
    """At most 200 campaigns, the first of them often, and large countries; people return, as the same each time."""
    events = drawn(values)
    found = campaigns(events)
    assert len(found) <= 200
    assert found.most_common(1)[0][1] > 0.08 * found.total()
    places = [event["data"]["user"]["location"] for event in events if event["source"] == "facebook"]
    assert Counter(place["country"] for place in places).most_common(1)[0][0] == "United States of America"
    assert len({place["city"] for place in places}) < 0.6 * len(places)
    users = [event["data"]["user"] for event in events if event["source"] == "tiktok"]
    returned = {user["userId"]: user for user in users}
    assert len(returned) < 0.8 * len(users)
    assert all(returned[user["userId"]] == user for user in users)


def test_the_funnel_narrows() -> None:
    """Plausible events get rarer from step to step: views, clicks or visits, forms or follows, purchases."""
    met = Counter((event["source"], event["eventType"]) for event in drawn("plausible"))
    for source, steps in (
        ("facebook", ("ad.view", "ad.click", "form.submission", "checkout.complete")),
        ("tiktok", ("video.view", "profile.visit", "follow", "purchase")),
    ):
        counts = [met[source, step] for step in steps]
        assert counts == sorted(counts, reverse=True)
        assert counts[-1] > 0


def test_operators_commands_know_the_same_names() -> None:
    """`ops up`, `demo` and `fill` take the distributions that the publisher has."""
    assert set(arguments.VALUES) == set(VALUES)
