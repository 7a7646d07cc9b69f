"""Facebook's events, as the contract gives them."""

from __future__ import annotations

from typing import Literal

import msgspec

from core.events.fields import Amount, Instant, SmallCount, Text

Gender = Literal["male", "female", "non-binary"]
TopType = Literal["ad.view", "page.like", "comment", "video.view"]
BottomType = Literal["ad.click", "form.submission", "checkout.complete"]


class Location(msgspec.Struct):
    country: Text
    city: Text


class User(msgspec.Struct, rename="camel"):
    user_id: Text
    name: Text
    age: SmallCount
    gender: Gender
    location: Location


class TopEngagement(msgspec.Struct, rename="camel"):
    action_time: Instant
    referrer: Literal["newsfeed", "marketplace", "groups"]
    video_id: Text | None


class BottomEngagement(msgspec.Struct, rename="camel"):
    ad_id: Text
    campaign_id: Text
    click_position: Literal["top_left", "bottom_right", "center"]
    device: Literal["mobile", "desktop"]
    browser: Literal["Chrome", "Firefox", "Safari"]
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
    source: Literal["facebook"]
    event_type: TopType
    data: TopData


class Bottom(msgspec.Struct, tag_field="funnelStage", tag="bottom", rename="camel"):
    event_id: Text
    timestamp: Instant
    source: Literal["facebook"]
    event_type: BottomType
    data: BottomData


Event = Top | Bottom
