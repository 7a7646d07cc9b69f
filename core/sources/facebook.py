"""The source Facebook: its events as in the contract, and its declaration."""

from __future__ import annotations

from typing import Literal

import msgspec

from core.sources.declaration import AT, Coarser, Dimension, Envelope, Example, Purchase, Source
from core.sources.fields import Amount, Instant, SmallCount, Text


class Location(msgspec.Struct):
    country: Text
    city: Text


class User(msgspec.Struct, rename="camel"):
    user_id: Text
    name: Text
    age: SmallCount
    gender: Literal["male", "female", "non-binary"]
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


class Top(Envelope, tag_field="funnelStage", tag="top"):
    source: Literal["facebook"]
    event_type: Literal["ad.view", "page.like", "comment", "video.view"]
    data: TopData


class Bottom(Envelope, tag_field="funnelStage", tag="bottom"):
    source: Literal["facebook"]
    event_type: Literal["ad.click", "form.submission", "checkout.complete"]
    data: BottomData


_USER = {
    "userId": "u-1",
    "name": "Ada Example",
    "age": 36,
    "gender": "female",
    "location": {"country": "Norway", "city": "Bergen"},
}

SOURCE = Source(
    name="facebook",
    short_name="fb",
    title="Facebook",
    color="blue",
    shapes=(Top, Bottom),
    purchase=Purchase("checkout.complete", "data.engagement.purchaseAmount"),
    campaign="data.engagement.campaignId",
    dimensions=(
        Dimension(
            "age",
            "data.user.age",
            bands=(*((age, str(age)) for age in range(120)), (120, "120+")),
            coarser=Coarser(
                "ageBand",
                ((0, "0-17"), (18, "18-24"), (25, "25-34"), (35, "35-44"), (45, "45-54"), (55, "55-64"), (65, "65+")),
            ),
        ),
        Dimension("gender", "data.user.gender"),
        Dimension("country", "data.user.location.country"),
        Dimension("city", "data.user.location.city", ranked=True),
    ),
    pairs=(("age", "gender"),),
    funnel=("ad.view", "ad.click", "checkout.complete"),
    examples={
        "top": Example("video.view", _USER, {"actionTime": AT, "referrer": "newsfeed", "videoId": "v-1"}),
        "bottom": Example(
            "checkout.complete",
            _USER,
            {
                "adId": "ad-1",
                "campaignId": "c-1",
                "clickPosition": "center",
                "device": "mobile",
                "browser": "Firefox",
                "purchaseAmount": "203.95",
            },
        ),
    },
    columns={
        "event_time": "timestamp",
        "funnel_stage": "funnelStage",
        "event_type": "eventType",
        "gender": "data.user.gender",
        "age": "data.user.age",
        "event_id": "eventId",
        "user_id": "data.user.userId",
        "user_name": "data.user.name",
        "country": "data.user.location.country",
        "city": "data.user.location.city",
        "action_time": "data.engagement.actionTime",
        "referrer": "data.engagement.referrer",
        "video_id": "data.engagement.videoId",
        "click_position": "data.engagement.clickPosition",
        "device": "data.engagement.device",
        "browser": "data.engagement.browser",
        "ad_id": "data.engagement.adId",
        "campaign_id": "data.engagement.campaignId",
        "purchase_amount": "data.engagement.purchaseAmount",
    },
)
