"""Single events as the publisher generates them, and its sixteen corruptions of an event.

Invariant: `make` returns a valid event, with keys in the publisher's order. `corrupt` changes exactly what the
publisher would change, and returns whether and where the contract rejects the result.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, Literal, Protocol

from bench.publisher import words
from bench.publisher.values import FUNNEL, VALUES, Entity, Values

Source = Literal["facebook", "tiktok"]
Reason = Literal["missing_field", "wrong_type", "not_allowed", "out_of_range", "invalid_timestamp"]
Event = dict[str, Any]

TYPES: dict[tuple[Source, str], tuple[str, ...]] = {
    ("facebook", "top"): ("ad.view", "page.like", "comment", "video.view"),
    ("facebook", "bottom"): ("ad.click", "form.submission", "checkout.complete"),
    ("tiktok", "top"): ("video.view", "like", "share", "comment"),
    ("tiktok", "bottom"): ("profile.visit", "purchase", "follow"),
}
SOURCES: tuple[Source, ...] = ("facebook", "tiktok")
STAGES = ("top", "bottom")
CORRUPTION_TYPES = range(1, 9)  # of corruption

# Maps 256 byte values to 62 characters. The first eight are a quarter more frequent, which does not matter here.
ALPHANUMERIC = bytes(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"[byte % 62] for byte in range(256)
)

Clock = Callable[[], float]


class FreshValues(Protocol):
    """Source of the values that are new in every event."""

    def uuid(self) -> str: ...
    def instant(self) -> str: ...
    def alphanumeric(self, count: int) -> str: ...


@dataclass(frozen=True)
class RandomValues:
    """Fresh values from a random generator. now returns the instant, in seconds since 1970."""

    rng: Random
    now: Clock

    def uuid(self) -> str:
        digits = f"{self.rng.getrandbits(128):032x}"
        variant = self.rng.choice("89ab")
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"

    def instant(self) -> str:
        return instant(self.now())

    def alphanumeric(self, count: int) -> str:
        return self.rng.randbytes(count).translate(ALPHANUMERIC).decode()


def instant(seconds: float) -> str:
    """Return seconds since 1970 in the publisher's format: UTC, milliseconds, Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def make(rng: Random, fresh: FreshValues, values: Values = VALUES["publisher"]) -> Event:
    """Return one valid event. Sources are equally likely; so are stages and types, unless `values` has a funnel."""
    source: Source = rng.choice(SOURCES)
    if values.funnel:
        ((stage, event_type),) = rng.choices(list(FUNNEL[source]), list(FUNNEL[source].values()))
    else:
        stage = rng.choice(STAGES)
        event_type = rng.choice(TYPES[source, stage])
    draw = _EventValues(rng, fresh, values)
    return {
        "eventId": ("fb-" if source == "facebook" else "ttk-") + fresh.uuid(),
        "timestamp": fresh.instant(),
        "source": source,
        "funnelStage": stage,
        "eventType": event_type,
        "data": {"user": _USERS[source](draw), "engagement": _ENGAGEMENTS[source, stage](draw, event_type)},
    }


class _EventValues:
    """Random generators for the values of one event: its own, or that of its person, campaign and so on."""

    def __init__(self, rng: Random, fresh: FreshValues, values: Values) -> None:
        self._rng = rng
        self._fresh = fresh
        self._values = values

    def instant(self) -> str:
        return self._fresh.instant()

    def country(self, city: Random) -> str:
        """Return the country of a city. Large countries have more cities, unless each event has its own city."""
        return words.country(city) if self._values.city is None else words.country_by_size(city)

    def of(self, entity: Entity) -> tuple[Random, FreshValues]:
        """Return a generator and a source of ids for an entity. They are the same for the same entity."""
        drawn = self._values.draw(entity, self._rng)
        return (self._rng, self._fresh) if drawn is None else (drawn, RandomValues(drawn, lambda: 0.0))


def _facebook_user(draw: _EventValues) -> Event:
    person, fresh = draw.of("person")
    user = {
        "userId": fresh.uuid(),
        "name": words.person(person),
        "age": person.randint(18, 65),
        "gender": person.choice(("male", "female", "non-binary")),
    }
    city, _ = draw.of("city")
    return {**user, "location": {"country": draw.country(city), "city": words.city(city)}}


def _tiktok_user(draw: _EventValues) -> Event:
    person, fresh = draw.of("person")
    return {"userId": fresh.uuid(), "username": words.username(person), "followers": person.randint(0, 1_000_000)}


def _facebook_top(draw: _EventValues, event_type: str) -> Event:
    rng, _ = draw.of("circumstance")
    _, thing = draw.of("thing")
    return {
        "actionTime": draw.instant(),
        "referrer": rng.choice(("newsfeed", "marketplace", "groups")),
        "videoId": f"vid-{thing.alphanumeric(8)}" if event_type == "video.view" else None,
    }


def _facebook_bottom(draw: _EventValues, event_type: str) -> Event:
    rng, _ = draw.of("circumstance")
    _, campaign = draw.of("campaign")
    return {
        "adId": f"ad-{campaign.alphanumeric(8)}",
        "campaignId": f"camp-{campaign.alphanumeric(5)}",
        "clickPosition": rng.choice(("top_left", "bottom_right", "center")),
        "device": rng.choice(("mobile", "desktop")),
        "browser": rng.choice(("Chrome", "Firefox", "Safari")),
        "purchaseAmount": words.price(rng, 10, 1000) if event_type == "checkout.complete" else None,
    }


def _tiktok_top(draw: _EventValues, _event_type: str) -> Event:
    rng, _ = draw.of("circumstance")
    city, _ = draw.of("city")
    _, thing = draw.of("thing")
    return {
        "watchTime": rng.randint(1, 300),
        "percentageWatched": rng.randint(0, 100),
        "device": rng.choice(("Android", "iOS", "Desktop")),
        "country": draw.country(city),
        "videoId": f"vid-{thing.alphanumeric(8)}",
    }


def _tiktok_bottom(draw: _EventValues, event_type: str) -> Event:
    rng, thing = draw.of("thing")
    bought = event_type == "purchase"
    return {
        "actionTime": draw.instant(),
        "profileId": f"profile-{thing.alphanumeric(6)}" if event_type == "profile.visit" else None,
        "purchasedItem": words.item(rng) if bought else None,
        "purchaseAmount": words.price(rng, 5, 500) if bought else None,
    }


_USERS = {"facebook": _facebook_user, "tiktok": _tiktok_user}
_ENGAGEMENTS = {
    ("facebook", "top"): _facebook_top,
    ("facebook", "bottom"): _facebook_bottom,
    ("tiktok", "top"): _tiktok_top,
    ("tiktok", "bottom"): _tiktok_bottom,
}


@dataclass(frozen=True, slots=True)
class Fault:
    """A violation of the contract: JSON path of the key, and the contract's reason."""

    path: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Corruption:
    """A corruption of an event: the publisher's function, named by its source, and the type of corruption (1 to 8).

    fault is None if the event is still valid: the function is the other source's, so it changed nothing or added an
    unknown key, or there was no purchased item to delete.
    """

    function: Source
    corruption_type: int
    fault: Fault | None


def corrupt(event: Event, function: Source, corruption_type: int) -> Corruption:
    """Corrupt `event` in place. `function` may be that of the other source."""
    user, engagement = event["data"]["user"], event["data"]["engagement"]
    top, facebook = event["funnelStage"] == "top", function == "facebook"
    fault: Fault | None
    match corruption_type:
        case 1:
            event["timestamp"] = "invalid-timestamp"
            fault = Fault("$.timestamp", "invalid_timestamp")
        case 2:
            del event["eventId"]
            fault = Fault("$.eventId", "missing_field")
        case 3:
            key = "name" if facebook else "username"
            user.pop(key, None)
            fault = Fault(f"$.data.user.{key}", "missing_field")
        case 4:
            del event["data"]["user"]
            fault = Fault("$.data.user", "missing_field")
        case 5:
            event["funnelStage"] = "invalid-stage"
            fault = Fault("$.funnelStage", "not_allowed")
        case 6:
            event["eventType"] = ["unknown", "event"]
            fault = Fault("$.eventType", "wrong_type")
        case 7 if top:
            key = "actionTime" if facebook else "watchTime"
            engagement[key] = -1
            fault = Fault(f"$.data.engagement.{key}", "wrong_type" if facebook else "out_of_range")
        case 7:
            key = "adId" if facebook else "purchasedItem"
            was_set = engagement.get(key) is not None
            if was_set:
                del engagement[key]
            fault = Fault(f"$.data.engagement.{key}", "missing_field") if was_set else None
        case 8:
            key, value = ("gender", "alien") if facebook else ("followers", "not-a-number")
            user[key] = value
            fault = Fault(f"$.data.user.{key}", "not_allowed" if facebook else "wrong_type")
        case _:
            raise ValueError(f"corruption kind {corruption_type} is not one of 1 to 8")
    if corruption_type in (3, 7, 8) and event["source"] != function:
        fault = None  # these kinds touch keys that only the function's own source has
    return Corruption(function, corruption_type, fault)
