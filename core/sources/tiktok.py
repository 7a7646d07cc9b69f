"""TikTok's events, as the contract gives them."""

from __future__ import annotations

from typing import Literal

import msgspec

from core.events.fields import Amount, Count, Instant, Percentage, Text

TopType = Literal["video.view", "like", "share", "comment"]
BottomType = Literal["profile.visit", "purchase", "follow"]


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


class Top(msgspec.Struct, tag_field="funnelStage", tag="top", rename="camel"):
    event_id: Text
    timestamp: Instant
    source: Literal["tiktok"]
    event_type: TopType
    data: TopData


class Bottom(msgspec.Struct, tag_field="funnelStage", tag="bottom", rename="camel"):
    event_id: Text
    timestamp: Instant
    source: Literal["tiktok"]
    event_type: BottomType
    data: BottomData


Event = Top | Bottom
