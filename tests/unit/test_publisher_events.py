"""The publisher's events: one by one, against the contract's and the corruption's tables written out by hand."""

import copy
import re
from datetime import UTC, datetime
from functools import cache
from random import Random
from typing import Any

import pytest

from bench.publisher.events import (
    CORRUPTION_TYPES,
    SOURCES,
    TYPES,
    Event,
    Fault,
    RandomValues,
    Reason,
    Source,
    corrupt,
    make,
)

NOW = datetime(2026, 11, 22, 7, 37, 39, 728_000, UTC)
UUID4 = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"


def events(number: int, seed: int = 1) -> list[Event]:
    """New events; the same for the same seed."""
    rng = Random(seed)
    fresh = RandomValues(rng, NOW.timestamp)
    return [make(rng, fresh) for _ in range(number)]


@cache
def one_of_each() -> dict[tuple[str, str, str], Event]:
    """One event of each source, stage and type."""
    return {(event["source"], event["funnelStage"], event["eventType"]): event for event in events(2_000)}


def matches(pattern: str, text: Any) -> bool:
    return isinstance(text, str) and re.fullmatch(pattern, text) is not None


def assert_keeps_contract(event: Event) -> None:
    """Asserts keys in the publisher's order, types, values, and null where and only where the type calls for it."""
    assert list(event) == ["eventId", "timestamp", "source", "funnelStage", "eventType", "data"]
    source, stage, event_type = event["source"], event["funnelStage"], event["eventType"]
    assert event_type in TYPES[source, stage]
    assert matches({"facebook": "fb-", "tiktok": "ttk-"}[source] + UUID4, event["eventId"])
    assert_instant(event["timestamp"])
    assert list(event["data"]) == ["user", "engagement"]
    user, engagement = event["data"]["user"], event["data"]["engagement"]
    assert matches(UUID4, user["userId"])

    if source == "facebook":
        assert list(user) == ["userId", "name", "age", "gender", "location"]
        assert matches(r"[A-Za-z.' -]+", user["name"])
        assert type(user["age"]) is int and 18 <= user["age"] <= 65
        assert user["gender"] in {"male", "female", "non-binary"}
        assert list(user["location"]) == ["country", "city"]
        assert all(matches(r"[A-Za-z.,&'() -]+", text) for text in user["location"].values())
    else:
        assert list(user) == ["userId", "username", "followers"]
        assert matches(r"\w[\w.-]*", user["username"])
        assert type(user["followers"]) is int and 0 <= user["followers"] <= 1_000_000

    if (source, stage) == ("facebook", "top"):
        assert list(engagement) == ["actionTime", "referrer", "videoId"]
        assert_instant(engagement["actionTime"])
        assert engagement["referrer"] in {"newsfeed", "marketplace", "groups"}
        assert_set_for(event_type == "video.view", "vid-[A-Za-z0-9]{8}", engagement["videoId"])
    elif (source, stage) == ("facebook", "bottom"):
        assert list(engagement) == ["adId", "campaignId", "clickPosition", "device", "browser", "purchaseAmount"]
        assert matches("ad-[A-Za-z0-9]{8}", engagement["adId"])
        assert matches("camp-[A-Za-z0-9]{5}", engagement["campaignId"])
        assert engagement["clickPosition"] in {"top_left", "bottom_right", "center"}
        assert engagement["device"] in {"mobile", "desktop"}
        assert engagement["browser"] in {"Chrome", "Firefox", "Safari"}
        assert_set_for(event_type == "checkout.complete", r"\d{2,3}\.\d\d", engagement["purchaseAmount"])
    elif (source, stage) == ("tiktok", "top"):
        assert list(engagement) == ["watchTime", "percentageWatched", "device", "country", "videoId"]
        assert type(engagement["watchTime"]) is int and 0 <= engagement["watchTime"] <= 300
        assert type(engagement["percentageWatched"]) is int and 0 <= engagement["percentageWatched"] <= 100
        assert engagement["device"] in {"Android", "iOS", "Desktop"}
        assert matches(r"[A-Za-z.,&'() -]+", engagement["country"])
        assert matches("vid-[A-Za-z0-9]{8}", engagement["videoId"])
    else:
        assert list(engagement) == ["actionTime", "profileId", "purchasedItem", "purchaseAmount"]
        assert_instant(engagement["actionTime"])
        assert_set_for(event_type == "profile.visit", "profile-[A-Za-z0-9]{6}", engagement["profileId"])
        assert_set_for(event_type == "purchase", "[A-Za-z ]+", engagement["purchasedItem"])
        assert_set_for(event_type == "purchase", r"\d{1,3}\.\d\d", engagement["purchaseAmount"])


def assert_instant(text: Any) -> None:
    assert matches(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", text)
    datetime.fromisoformat(text)


def assert_set_for(wanted: bool, pattern: str, value: Any) -> None:
    assert matches(pattern, value) if wanted else value is None


def test_every_event_keeps_the_contract() -> None:
    """What is not corrupted is valid: every key is there, in order, of its type, within its values."""
    for event in events(3_000):
        assert_keeps_contract(event)


def test_an_event_is_stamped_with_the_clock() -> None:
    """The stamp is the clock's instant to the millisecond."""
    assert events(1)[0]["timestamp"] == "2026-11-22T07:37:39.728Z"


def test_same_seed_same_events() -> None:
    """The seed fixes every event, ids included."""
    assert events(50, seed=7) == events(50, seed=7)
    assert events(50, seed=7) != events(50, seed=8)


# What each function does to an event of its own source: the path that it breaks, per kind.
FACEBOOK_TOP = ("facebook", "top", "video.view")
FACEBOOK_BOTTOM = ("facebook", "bottom", "checkout.complete")
TIKTOK_TOP = ("tiktok", "top", "video.view")
TIKTOK_PURCHASE = ("tiktok", "bottom", "purchase")
TIKTOK_FOLLOW = ("tiktok", "bottom", "follow")
EVERY = (FACEBOOK_TOP, FACEBOOK_BOTTOM, TIKTOK_TOP, TIKTOK_PURCHASE, TIKTOK_FOLLOW)
NO_KEY = object()

Change = tuple[str, object]  # a path, and its value after it (NO_KEY: deleted)

# Kinds that break any event, whichever function it is.
ALWAYS: dict[int, tuple[Change, Reason]] = {
    1: (("timestamp", "invalid-timestamp"), "invalid_timestamp"),
    2: (("eventId", NO_KEY), "missing_field"),
    4: (("data.user", NO_KEY), "missing_field"),
    5: (("funnelStage", "invalid-stage"), "not_allowed"),
    6: (("eventType", ["unknown", "event"]), "wrong_type"),
}
# The others: (function, kind, event) -> what changes (None: nothing), and why that is rejected (None: it is not).
SOMETIMES: dict[tuple[Source, int, tuple[str, str, str]], tuple[Change | None, Reason | None]] = {
    ("facebook", 3, FACEBOOK_TOP): (("data.user.name", NO_KEY), "missing_field"),
    ("facebook", 3, FACEBOOK_BOTTOM): (("data.user.name", NO_KEY), "missing_field"),
    ("facebook", 3, TIKTOK_TOP): (None, None),
    ("facebook", 3, TIKTOK_PURCHASE): (None, None),
    ("facebook", 3, TIKTOK_FOLLOW): (None, None),
    ("facebook", 7, FACEBOOK_TOP): (("data.engagement.actionTime", -1), "wrong_type"),
    ("facebook", 7, FACEBOOK_BOTTOM): (("data.engagement.adId", NO_KEY), "missing_field"),
    ("facebook", 7, TIKTOK_TOP): (("data.engagement.actionTime", -1), None),
    ("facebook", 7, TIKTOK_PURCHASE): (None, None),
    ("facebook", 7, TIKTOK_FOLLOW): (None, None),
    ("facebook", 8, FACEBOOK_TOP): (("data.user.gender", "alien"), "not_allowed"),
    ("facebook", 8, FACEBOOK_BOTTOM): (("data.user.gender", "alien"), "not_allowed"),
    ("facebook", 8, TIKTOK_TOP): (("data.user.gender", "alien"), None),
    ("facebook", 8, TIKTOK_PURCHASE): (("data.user.gender", "alien"), None),
    ("facebook", 8, TIKTOK_FOLLOW): (("data.user.gender", "alien"), None),
    ("tiktok", 3, FACEBOOK_TOP): (None, None),
    ("tiktok", 3, FACEBOOK_BOTTOM): (None, None),
    ("tiktok", 3, TIKTOK_TOP): (("data.user.username", NO_KEY), "missing_field"),
    ("tiktok", 3, TIKTOK_PURCHASE): (("data.user.username", NO_KEY), "missing_field"),
    ("tiktok", 3, TIKTOK_FOLLOW): (("data.user.username", NO_KEY), "missing_field"),
    ("tiktok", 7, FACEBOOK_TOP): (("data.engagement.watchTime", -1), None),
    ("tiktok", 7, FACEBOOK_BOTTOM): (None, None),
    ("tiktok", 7, TIKTOK_TOP): (("data.engagement.watchTime", -1), "out_of_range"),
    ("tiktok", 7, TIKTOK_PURCHASE): (("data.engagement.purchasedItem", NO_KEY), "missing_field"),
    ("tiktok", 7, TIKTOK_FOLLOW): (None, None),
    ("tiktok", 8, FACEBOOK_TOP): (("data.user.followers", "not-a-number"), None),
    ("tiktok", 8, FACEBOOK_BOTTOM): (("data.user.followers", "not-a-number"), None),
    ("tiktok", 8, TIKTOK_TOP): (("data.user.followers", "not-a-number"), "wrong_type"),
    ("tiktok", 8, TIKTOK_PURCHASE): (("data.user.followers", "not-a-number"), "wrong_type"),
    ("tiktok", 8, TIKTOK_FOLLOW): (("data.user.followers", "not-a-number"), "wrong_type"),
}


def changed(event: Event, change: Change | None) -> Event:
    event = copy.deepcopy(event)
    if change is not None:
        *parents, key = change[0].split(".")
        place = event
        for parent in parents:
            place = place[parent]
        if change[1] is NO_KEY:
            del place[key]
        else:
            place[key] = change[1]
    return event


@pytest.mark.parametrize("of", EVERY, ids="-".join)
@pytest.mark.parametrize("corruption_type", CORRUPTION_TYPES)
@pytest.mark.parametrize("function", SOURCES)
def test_corruption_is_that_of_the_table(function: Source, corruption_type: int, of: tuple[Source, str, str]) -> None:
    """Each function and kind changes exactly what the table says, to any event, and reports what is rejected."""
    change, reason = ALWAYS[corruption_type] if corruption_type in ALWAYS else SOMETIMES[function, corruption_type, of]
    event = copy.deepcopy(one_of_each()[of])
    expected = changed(event, change)

    corruption = corrupt(event, function, corruption_type)

    assert event == expected
    assert (corruption.function, corruption.corruption_type) == (function, corruption_type)
    assert corruption.fault == (Fault(f"$.{change[0]}", reason) if change and reason else None)


def test_a_fifth_of_the_corrupt_events_is_valid() -> None:
    """With function and kind drawn apart from the source, about one corrupt event in five stays valid."""
    rng = Random(5)
    faults = [corrupt(event, rng.choice(SOURCES), rng.choice(CORRUPTION_TYPES)).fault for event in events(8_000)]
    assert faults.count(None) / len(faults) == pytest.approx(0.198, abs=0.02)


def test_an_unknown_kind_is_an_error() -> None:
    """There are eight kinds; another one is a mistake of the caller."""
    with pytest.raises(ValueError, match="kind 9"):
        corrupt(events(1)[0], "facebook", 9)
