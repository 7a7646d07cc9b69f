"""The source TikTok: its events as in the contract, and its declaration."""

from __future__ import annotations

from typing import Literal

import msgspec

from core.sources.declaration import AT, Dimension, Envelope, Example, Purchase, Source
from core.sources.fields import Amount, Count, Instant, Percentage, Text


class User(msgspec.Struct, rename="camel"):
    user_id: Text
    username: Text
    followers: Count


class TopEngagement(msgspec.Struct, rename="camel"):
    watch_time: Count
    percentage_watched: Percentage
    device: Literal["Android", "iOS", "Desktop"]
    country: Text
    video_id: Text


class BottomEngagement(msgspec.Struct, rename="camel"):
    action_time: Instant
    profile_id: Text | None
    purchased_item: Text | None
    purchase_amount: Amount | None


class TopData(msgspec.Struct):
    user: User
    engagement: TopEngagement


class BottomData(msgspec.Struct):
    user: User
    engagement: BottomEngagement


class Top(Envelope, tag_field="funnelStage", tag="top"):
    source: Literal["tiktok"]
    event_type: Literal["video.view", "like", "share", "comment"]
    data: TopData


class Bottom(Envelope, tag_field="funnelStage", tag="bottom"):
    source: Literal["tiktok"]
    event_type: Literal["profile.visit", "purchase", "follow"]
    data: BottomData


_USER = {"userId": "u-2", "username": "ada", "followers": 1234}

SOURCE = Source(
    name="tiktok",
    short_name="ttk",
    title="TikTok",
    color="purple",
    shapes=(Top, Bottom),
    purchase=Purchase("purchase", "data.engagement.purchaseAmount"),
    dimensions=(
        Dimension(
            "followers",
            "data.user.followers",
            bands=(
                (0, "0-999"),
                (1_000, "1000-9999"),
                (10_000, "10000-99999"),
                (100_000, "100000-999999"),
                (1_000_000, "1000000+"),
            ),
        ),
        Dimension("country", "data.engagement.country"),
        Dimension("device", "data.engagement.device"),
    ),
    funnel=("video.view", "profile.visit", "purchase"),
    examples={
        "top": Example(
            "like",
            _USER,
            {"watchTime": 20, "percentageWatched": 75, "device": "iOS", "country": "Peru", "videoId": "v-1"},
        ),
        "bottom": Example(
            "purchase",
            _USER,
            {"actionTime": AT, "profileId": None, "purchasedItem": "a lamp", "purchaseAmount": "12.50"},
        ),
    },
    columns={
        "event_time": "timestamp",
        "funnel_stage": "funnelStage",
        "event_type": "eventType",
        "followers": "data.user.followers",
        "event_id": "eventId",
        "user_id": "data.user.userId",
        "username": "data.user.username",
        "device": "data.engagement.device",
        "watch_time": "data.engagement.watchTime",
        "percentage_watched": "data.engagement.percentageWatched",
        "country": "data.engagement.country",
        "video_id": "data.engagement.videoId",
        "action_time": "data.engagement.actionTime",
        "profile_id": "data.engagement.profileId",
        "purchased_item": "data.engagement.purchasedItem",
        "purchase_amount": "data.engagement.purchaseAmount",
    },
)
