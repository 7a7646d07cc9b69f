"""A whole, valid event of each source and stage, for documentation."""

from __future__ import annotations

from typing import Any, Final

AT: Final = "2000-01-01T00:00:00.000Z"
"""A placeholder for each instant. What shows an example replaces it by the present, because old events are refused."""

_FACEBOOK_USER: Final = {
    "userId": "u-1",
    "name": "Ada Example",
    "age": 36,
    "gender": "female",
    "location": {"country": "Norway", "city": "Bergen"},
}
_TIKTOK_USER: Final = {"userId": "u-2", "username": "ada", "followers": 1234}


def _event(name: str, source: str, stage: str, kind: str, user: dict[str, Any], **engagement: Any) -> dict[str, Any]:
    return {
        "eventId": name,
        "timestamp": AT,
        "source": source,
        "funnelStage": stage,
        "eventType": kind,
        "data": {"user": user, "engagement": engagement},
    }


EXAMPLES: Final[dict[str, dict[str, Any]]] = {
    "facebook top": _event(
        "fb-1", "facebook", "top", "video.view", _FACEBOOK_USER, actionTime=AT, referrer="newsfeed", videoId="v-1"
    ),
    "facebook bottom": _event(
        "fb-2", "facebook", "bottom", "checkout.complete", _FACEBOOK_USER,
        adId="ad-1", campaignId="c-1", clickPosition="center", device="mobile", browser="Firefox",
        purchaseAmount="203.95",
    ),
    "tiktok top": _event(
        "ttk-1", "tiktok", "top", "like", _TIKTOK_USER,
        watchTime=20, percentageWatched=75, device="iOS", country="Peru", videoId="v-1",
    ),
    "tiktok bottom": _event(
        "ttk-2", "tiktok", "bottom", "purchase", _TIKTOK_USER,
        actionTime=AT, profileId=None, purchasedItem="a lamp", purchaseAmount="12.50",
    ),
}  # fmt: skip
"""By source and stage."""
