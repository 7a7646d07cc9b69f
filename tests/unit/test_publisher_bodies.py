"""The publisher's bodies: well-formed, of the right mix and size, new in every event, the same for the same seed."""

import json
import re
from collections import Counter
from datetime import UTC, datetime
from statistics import mean
from typing import Any

import pytest

from bench.publisher.bodies import Bodies, Body
from bench.publisher.events import SOURCES, STAGES, TYPES
from tests.unit.test_publisher_events import assert_keeps_contract

NOW = datetime(2026, 11, 22, 0, 0, 30, tzinfo=UTC).timestamp()  # half a minute past midnight
DAY = 24 * 3600


def bodies(seed: object = 1, **options: Any) -> Bodies:
    return Bodies(seed, now=lambda: NOW, **({"corrupt_share": 0.0} | options))


@pytest.fixture(scope="module")
def large() -> Body:
    return bodies().body(20_000)


@pytest.mark.parametrize("events", [1, 2, 63, 64, 65, 128, 1_000])
def test_a_body_is_an_array_of_that_many_valid_events(events: int) -> None:
    """Whatever the number, the body is one JSON array of so many events that keep the contract."""
    body = bodies().body(events)
    parsed = json.loads(body.content)
    assert body.events == len(parsed) == events
    for event in parsed:
        assert_keeps_contract(event)


def test_mix_is_even(large: Body) -> None:
    """Sources are even, stages are even, and types are even within a stage."""
    parsed = json.loads(large.content)
    share = Counter((event["source"], event["funnelStage"], event["eventType"]) for event in parsed)
    for source in SOURCES:
        for stage in STAGES:
            for event_type in TYPES[source, stage]:
                expected = 1 / 4 / len(TYPES[source, stage])
                assert share[source, stage, event_type] / len(parsed) == pytest.approx(expected, rel=0.12)


def test_sizes_are_those_of_the_publisher(large: Body) -> None:
    """Compact events average 425 bytes, those of facebook 459 and of tiktok 391, within 2 per cent."""
    lengths: dict[str, list[int]] = {source: [] for source in SOURCES}
    for event in json.loads(large.content):
        lengths[event["source"]].append(len(json.dumps(event, separators=(",", ":"))))
    assert mean(lengths["facebook"]) == pytest.approx(459, rel=0.02)
    assert mean(lengths["tiktok"]) == pytest.approx(391, rel=0.02)
    assert len(large.content) / large.events == pytest.approx(425, rel=0.02)


def test_compact_and_plain(large: Body) -> None:
    """The body is compact JSON in ASCII, as the publisher writes it."""
    assert json.dumps(json.loads(large.content), separators=(",", ":")).encode() == large.content


def test_every_event_is_new() -> None:
    """Over several bodies no event id, user id, ad or video comes twice, and campaigns hardly ever."""
    source = bodies()
    parsed = [event for _ in range(4) for event in json.loads(source.body(10_000).content)]
    for ids in (
        [event["eventId"] for event in parsed],
        [event["data"]["user"]["userId"] for event in parsed],
        [event["data"]["engagement"]["adId"] for event in parsed if "adId" in event["data"]["engagement"]],
        [video for event in parsed if (video := event["data"]["engagement"].get("videoId"))],
    ):
        assert len(set(ids)) == len(ids)
    campaigns = [event["data"]["engagement"].get("campaignId") for event in parsed]
    assert len(set(campaigns)) > 0.99 * sum(campaign is not None for campaign in campaigns)


def test_free_text_is_varied(large: Body) -> None:
    """Names are nearly unique, cities mostly, and some 200 countries appear."""
    users = [event["data"]["user"] for event in json.loads(large.content) if event["source"] == "facebook"]
    assert len({user["name"] for user in users}) > 0.8 * len(users)
    assert len({user["location"]["city"] for user in users}) > 0.6 * len(users)
    assert len({user["location"]["country"] for user in users}) > 200


def test_what_is_not_drawn_anew_is_varied() -> None:
    """Ids and instants aside, more than 50,000 different events come from the pool."""
    source = bodies()
    drawn = re.compile(rb"[0-9a-f-]{36}|(vid|ad|camp|profile)-[A-Za-z0-9]+|[0-9T:.-]+Z")
    seen = {text for _ in range(3) for text in drawn.sub(b"", source.body(50_000).content)[2:-2].split(b"},{")}
    assert len(seen) > 50_000


def test_stamps_rise_up_to_now(large: Body) -> None:
    """Stamps rise through the body and end at the clock's instant, all within its last second."""
    stamps = [stamp for _, _, stamp in large.valid_keys()]
    assert stamps == sorted(stamps)
    assert stamps[-1] == "2026-11-22T00:00:30.000Z"
    assert datetime.fromisoformat(stamps[0]).timestamp() > NOW - 1


def test_same_seed_same_bytes() -> None:
    """With seed and clock fixed, bodies are the same byte for byte, with every option on, in every part."""
    options = {"corrupt_share": 0.5, "duplicates": 0.2, "late": 0.2, "late_up_to_seconds": 3600.0}
    first, second = bodies(7, **options), bodies(7, **options)
    second.make_templates()  # made when first drawn or ahead: no difference
    sizes = (300, 1_000, 5)
    assert [first.body(size) for size in sizes] == [second.body(size) for size in sizes]
    assert bodies(8, **options).body(300) != bodies(7, **options).body(300)


def test_corrupt_event_is_extra_and_last() -> None:
    """A corrupt body has one event more, at the end; valid_keys() leaves it out exactly if it is invalid."""
    source = bodies(corrupt_share=1.0)
    found = Counter[bool]()
    for _ in range(200):
        body = source.body(3)
        parsed = json.loads(body.content)
        assert body.events == len(parsed) == 4
        assert body.corruption is not None
        for event in parsed[:3]:
            assert_keeps_contract(event)
        valid = parsed if body.corruption.fault is None else parsed[:3]
        assert body.invalid == 4 - len(valid)
        assert body.valid_keys() == [(event["source"], event["eventId"], event["timestamp"]) for event in valid]
        found[body.corruption.fault is None] += 1
    assert found[True] > 10
    assert found[False] > 100


def test_corrupt_share_holds() -> None:
    """A tenth of the bodies is corrupted when nothing else is asked for, by either function and every kind."""
    source = Bodies(3)
    corruptions = [source.body(1).corruption for _ in range(4_000)]
    corrupted = [corruption for corruption in corruptions if corruption]
    assert len(corrupted) / len(corruptions) == pytest.approx(0.10, abs=0.015)
    assert len({(corruption.function, corruption.corruption_type) for corruption in corrupted}) == 16


def test_duplicates_are_the_same_bytes() -> None:
    """A repeated event is byte for byte one that is sent elsewhere, and their number is reported exactly."""
    source = bodies(duplicates=0.25)
    made = [source.body(2_000) for _ in range(5)]
    texts = Counter(text for body in made for text in body.content[2:-2].split(b"},{"))
    repeated = sum(body.repeated for body in made)
    assert texts.total() - len(texts) == repeated
    assert repeated / texts.total() == pytest.approx(0.25, abs=0.02)
    assert len({re.findall(rb'"eventId":"([^"]+)"', text)[0] for text in texts}) == len(texts)


def test_late_events_lie_in_the_past() -> None:
    """Late events are out of order and up to the given age, across midnight too; the others are not touched."""
    body = bodies(late=0.3, late_up_to_seconds=2 * DAY).body(5_000)
    ages = [NOW - datetime.fromisoformat(stamp).timestamp() for _, _, stamp in body.valid_keys()]
    assert body.late / body.events == pytest.approx(0.3, abs=0.02)
    assert sum(age > 1 for age in ages) == pytest.approx(body.late, abs=2)
    assert DAY < max(ages) < 2 * DAY + 1
    for event in json.loads(body.content):
        assert_keeps_contract(event)
        assert event["data"]["engagement"].get("actionTime", event["timestamp"]) == event["timestamp"]


def test_shares_past_one_are_an_error() -> None:
    """An event cannot be both repeated and moved into the past."""
    with pytest.raises(ValueError, match="together exceed 1"):
        Bodies(1, duplicates=0.6, late=0.6)
