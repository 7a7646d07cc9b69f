"""Single events as the publisher makes them, and the sixteen ways in which it corrupts one.

Invariant: `make` returns what the contract allows, keys in the publisher's order; `corrupt` changes exactly what
the publisher would have changed and says whether the contract then refuses the event, and where.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from random import Random
from typing import Any, Literal, Protocol

from bench import words

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
KINDS = range(1, 9)  # of corruption

# 256 byte values onto 62 letters and digits: the first eight come up a fifth more often, which harms nothing here.
ALPHANUMERIC = bytes(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"[byte % 62] for byte in range(256)
)

Clock = Callable[[], float]


class Fresh(Protocol):
    """What is new in every event, however it is made."""

    def uuid(self) -> str: ...
    def instant(self) -> str: ...
    def letters(self, count: int) -> str: ...


@dataclass(frozen=True)
class Drawn:
    """Fresh values drawn from `rng`; the instant is that of `now`, in seconds since 1970."""

    rng: Random
    now: Clock

    def uuid(self) -> str:
        digits = f"{self.rng.getrandbits(128):032x}"
        variant = self.rng.choice("89ab")
        return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{variant}{digits[17:20]}-{digits[20:]}"

    def instant(self) -> str:
        return instant(self.now())

    def letters(self, count: int) -> str:
        return self.rng.randbytes(count).translate(ALPHANUMERIC).decode()


def instant(seconds: float) -> str:
    """Seconds since 1970 as the publisher writes them: UTC, three digits of fraction, Z."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def make(rng: Random, fresh: Fresh) -> Event:
    """One valid event: source even, stage even, type even within the stage."""
    source, stage = rng.choice(SOURCES), rng.choice(STAGES)
    event_type = rng.choice(TYPES[source, stage])
    return {
        "eventId": ("fb-" if source == "facebook" else "ttk-") + fresh.uuid(),
        "timestamp": fresh.instant(),
        "source": source,
        "funnelStage": stage,
        "eventType": event_type,
        "data": {
            "user": _USERS[source](rng, fresh),
            "engagement": _ENGAGEMENTS[source, stage](rng, fresh, event_type),
        },
    }


def _facebook_user(rng: Random, fresh: Fresh) -> Event:
    return {
        "userId": fresh.uuid(),
        "name": words.person(rng),
        "age": rng.randint(18, 65),
        "gender": rng.choice(("male", "female", "non-binary")),
        "location": {"country": words.country(rng), "city": words.city(rng)},
    }


def _tiktok_user(rng: Random, fresh: Fresh) -> Event:
    return {"userId": fresh.uuid(), "username": words.username(rng), "followers": rng.randint(0, 1_000_000)}


def _facebook_top(rng: Random, fresh: Fresh, event_type: str) -> Event:
    return {
        "actionTime": fresh.instant(),
        "referrer": rng.choice(("newsfeed", "marketplace", "groups")),
        "videoId": f"vid-{fresh.letters(8)}" if event_type == "video.view" else None,
    }


def _facebook_bottom(rng: Random, fresh: Fresh, event_type: str) -> Event:
    return {
        "adId": f"ad-{fresh.letters(8)}",
        "campaignId": f"camp-{fresh.letters(5)}",
        "clickPosition": rng.choice(("top_left", "bottom_right", "center")),
        "device": rng.choice(("mobile", "desktop")),
        "browser": rng.choice(("Chrome", "Firefox", "Safari")),
        "purchaseAmount": words.price(rng, 10, 1000) if event_type == "checkout.complete" else None,
    }


def _tiktok_top(rng: Random, fresh: Fresh, _event_type: str) -> Event:
    return {
        "watchTime": rng.randint(1, 300),
        "percentageWatched": rng.randint(0, 100),
        "device": rng.choice(("Android", "iOS", "Desktop")),
        "country": words.country(rng),
        "videoId": f"vid-{fresh.letters(8)}",
    }


def _tiktok_bottom(rng: Random, fresh: Fresh, event_type: str) -> Event:
    bought = event_type == "purchase"
    return {
        "actionTime": fresh.instant(),
        "profileId": f"profile-{fresh.letters(6)}" if event_type == "profile.visit" else None,
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
    """What the contract finds wrong: the JSON path of the key, and why, in the contract's own words."""

    path: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Corruption:
    """Which function (named by the source that it was written for) and kind (1 to 8) went over an event.

    `fault` is None where the event stays valid: the function was written for the other source, and so changed
    nothing or only added a key that the contract does not list, or there was no purchased item to delete.
    """

    function: Source
    kind: int
    fault: Fault | None


def corrupt(event: Event, function: Source, kind: int) -> Corruption:
    """Corrupts `event` in place, with a function that need not be the one of its source."""
    user, engagement = event["data"]["user"], event["data"]["engagement"]
    top, facebook = event["funnelStage"] == "top", function == "facebook"
    fault: Fault | None
    match kind:
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
            raise ValueError(f"corruption kind {kind} is not one of 1 to 8")
    if kind in (3, 7, 8) and event["source"] != function:
        fault = None  # these kinds touch keys that only the function's own source has
    return Corruption(function, kind, fault)
