"""Events for the reporter's tests: made with defaults, and stored by the collector's own store with their rollups."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from collector.batch import Entry
from collector.fetch import Message
from collector.parse import python_parser
from collector.sources import SOURCES
from collector.store import Store
from core.events import wire
from core.events.contract import Contract

# Any instant of the contract's years may be stored: reports have to be right at all of them.
ANY_TIME = Contract(max_age_days=40_000, max_ahead_seconds=4_000_000_000)

_numbers = itertools.count(1)


def text_of(at: datetime) -> str:
    """An instant as a sender writes it."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def facebook_event(
    at: datetime,
    event_type: str = "ad.view",
    *,
    age: int = 30,
    gender: str = "male",
    country: str = "France",
    city: str = "Paris",
    campaign_id: str = "camp-1",
    amount: str | None = None,
) -> dict[str, Any]:
    """A facebook event of this type; its stage follows."""
    engagement: dict[str, Any]
    if event_type in ("ad.view", "page.like", "comment", "video.view"):
        stage, engagement = "top", {"actionTime": text_of(at), "referrer": "groups", "videoId": None}
    else:
        stage = "bottom"
        engagement = {
            "adId": "ad-1",
            "campaignId": campaign_id,
            "clickPosition": "center",
            "device": "mobile",
            "browser": "Firefox",
            "purchaseAmount": amount,
        }
    user = {"userId": "u", "name": "n", "age": age, "gender": gender, "location": {"country": country, "city": city}}
    return _event("facebook", "fb", at, stage, event_type, user, engagement)


def tiktok_event(
    at: datetime,
    event_type: str = "like",
    *,
    followers: int = 10,
    country: str = "France",
    device: str = "iOS",
    amount: str | None = None,
) -> dict[str, Any]:
    """A tiktok event of this type; its stage follows."""
    engagement: dict[str, Any]
    if event_type in ("video.view", "like", "share", "comment"):
        stage = "top"
        engagement = {"watchTime": 1, "percentageWatched": 1, "device": device, "country": country, "videoId": "v"}
    else:
        stage = "bottom"
        engagement = {"actionTime": text_of(at), "profileId": None, "purchasedItem": None, "purchaseAmount": amount}
    user = {"userId": "u", "username": "n", "followers": followers}
    return _event("tiktok", "ttk", at, stage, event_type, user, engagement)


def _event(
    source: str, prefix: str, at: datetime, stage: str, event_type: str, user: object, engagement: object
) -> dict[str, Any]:
    return {
        "eventId": f"{prefix}-{next(_numbers)}",
        "timestamp": text_of(at),
        "source": source,
        "funnelStage": stage,
        "eventType": event_type,
        "data": {"user": user, "engagement": engagement},
    }


class Collected:
    """Stores events as collectors do: rows, rollups, partitions and all. Close it when done."""

    def __init__(self, collector_dsn: str) -> None:
        self._parsers = {name: python_parser(SOURCES[name], ANY_TIME) for name in ("facebook", "tiktok")}
        self._stores = {name: Store(collector_dsn, SOURCES[name], parse) for name, parse in self._parsers.items()}
        self._sequences = itertools.count(1)

    async def store(self, events: Iterable[dict[str, Any]]) -> None:
        """Store events of any source; fails if one of them was not."""
        lines: defaultdict[str, list[bytes]] = defaultdict(list)
        for event in events:
            lines[event["source"]].append(msgspec.json.encode(event))
        now = datetime.now(UTC)
        for source, events_of in lines.items():
            body = wire.encode([wire.Part("test", None, text_of(now), len(events_of))], events_of)
            message = Message(body, next(self._sequences), now, len(events_of), True, "")
            outcome = await self._stores[source].save([Entry(message, self._parsers[source](body, message.sequence))])
            assert outcome.stored == len(events_of), outcome.letters[:3]

    async def close(self) -> None:
        for store in self._stores.values():
            await store.close()
