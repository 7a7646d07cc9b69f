"""Events and messages for tests: valid ones by default, each changed only where the test says so.

facebook("bottom", at=noon) | {"eventType": "ad.click"}     an event is a plain dict
changed(event, "data.user.age", 40)                         a copy with one key set, by its path
message(event, b"not json", parts=[2])                      the bytes of one message on the wire
"""

import copy
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from core.events import wire
from core.sources.fields import microseconds_of

Event = dict[str, Any]

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=1)
"""Noon of yesterday (UTC): an instant that the contract takes at any hour, far from both ends of its day."""


def rfc3339(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def facebook(stage: str = "top", *, at: datetime = NOON, event_id: str | None = None) -> Event:
    """A valid facebook event; of the bottom stage it is a checkout of 203.95."""
    engagement = {
        "top": {"actionTime": rfc3339(at), "referrer": "groups", "videoId": None},
        "bottom": {
            "adId": "ad-1",
            "campaignId": "camp-1",
            "clickPosition": "center",
            "device": "mobile",
            "browser": "Firefox",
            "purchaseAmount": "203.95",
        },
    }
    return {
        "eventId": event_id or f"fb-{uuid4()}",
        "timestamp": rfc3339(at),
        "source": "facebook",
        "funnelStage": stage,
        "eventType": {"top": "page.like", "bottom": "checkout.complete"}[stage],
        "data": {
            "user": {
                "userId": "u-1",
                "name": "Ada Example",
                "age": 36,
                "gender": "female",
                "location": {"country": "Norway", "city": "Bergen"},
            },
            "engagement": engagement[stage],
        },
    }


def tiktok(stage: str = "top", *, at: datetime = NOON, event_id: str | None = None) -> Event:
    """A valid tiktok event; of the bottom stage it is a purchase of 12.50."""
    engagement = {
        "top": {"watchTime": 20, "percentageWatched": 75, "device": "iOS", "country": "Peru", "videoId": "vid-1"},
        "bottom": {
            "actionTime": rfc3339(at),
            "profileId": None,
            "purchasedItem": "a lamp",
            "purchaseAmount": "12.50",
        },
    }
    return {
        "eventId": event_id or f"ttk-{uuid4()}",
        "timestamp": rfc3339(at),
        "source": "tiktok",
        "funnelStage": stage,
        "eventType": {"top": "share", "bottom": "purchase"}[stage],
        "data": {
            "user": {"userId": "u-1", "username": "ada", "followers": 1234},
            "engagement": engagement[stage],
        },
    }


MAKERS = {"facebook": facebook, "tiktok": tiktok}
SHAPES = tuple((source, stage) for source in MAKERS for stage in ("top", "bottom"))


def changed(event: Event, path: str, value: Any) -> Event:
    """A copy of the event with the key at `path` (dotted, from the event) set."""
    copied = copy.deepcopy(event)
    holder, key = _holder(copied, path)
    holder[key] = value
    return copied


def without(event: Event, path: str) -> Event:
    """A copy of the event without the key at `path`."""
    copied = copy.deepcopy(event)
    holder, key = _holder(copied, path)
    del holder[key]
    return copied


def paths(event: Event, prefix: str = "") -> list[str]:
    """Every path of the event, of objects too."""
    found = []
    for key, value in event.items():
        found.append(prefix + key)
        if isinstance(value, dict):
            found += paths(value, f"{prefix}{key}.")
    return found


def encoded(event: Event | bytes) -> bytes:
    """An event as its sender writes it; bytes stand as they are."""
    if isinstance(event, bytes):
        return event
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def part(events: int, correlation_id: str = "test-1", received_at: datetime | None = None) -> wire.Part:
    """One request's part of a message, received now unless reported otherwise."""
    return wire.Part(correlation_id, None, rfc3339(received_at or datetime.now(UTC)), events)


def message(*events: Event | bytes, parts: Sequence[wire.Part] | None = None) -> bytes:
    """The bytes of one message, all of one request unless `parts` says otherwise."""
    return wire.encode(parts or [part(len(events))], [encoded(event) for event in events])


def microseconds(moment: datetime | None = None) -> int:
    """An instant as the contract counts it; now by default."""
    return microseconds_of(moment or datetime.now(UTC))


def _holder(event: Event, path: str) -> tuple[Event, str]:
    *outer, key = path.split(".")
    for name in outer:
        event = event[name]
    return event, key
