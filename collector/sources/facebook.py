"""Facebook: which field of an event goes into which column of facebook_events."""

from __future__ import annotations

from functools import partial

from collector.copying import amount, one_of, smallint, text, timestamp
from collector.source import Column, Source
from core.events.facebook import Bottom, Top
from core.events.subjects import stream_of

SOURCE = Source(
    name="facebook",
    stream=stream_of("facebook"),
    reader=lambda contract: partial(contract.read, source="facebook"),
    shapes=(Top, Bottom),
    table="facebook_events",
    columns=(
        Column("event_time", "timestamp", timestamp),
        Column("funnel_stage", "funnelStage", one_of(("top", "bottom"))),
        Column(
            "event_type",
            "eventType",
            one_of(
                ("ad.view", "page.like", "comment", "video.view", "ad.click", "form.submission", "checkout.complete")
            ),
        ),
        Column("gender", "data.user.gender", one_of(("male", "female", "non-binary"))),
        Column("age", "data.user.age", smallint),
        Column("event_id", "eventId", text),
        Column("user_id", "data.user.userId", text),
        Column("user_name", "data.user.name", text),
        Column("country", "data.user.location.country", text),
        Column("city", "data.user.location.city", text),
        Column("action_time", "data.engagement.actionTime", timestamp),
        Column("referrer", "data.engagement.referrer", one_of(("newsfeed", "marketplace", "groups"))),
        Column("video_id", "data.engagement.videoId", text),
        Column("click_position", "data.engagement.clickPosition", one_of(("top_left", "bottom_right", "center"))),
        Column("device", "data.engagement.device", one_of(("mobile", "desktop"))),
        Column("browser", "data.engagement.browser", one_of(("Chrome", "Firefox", "Safari"))),
        Column("ad_id", "data.engagement.adId", text),
        Column("campaign_id", "data.engagement.campaignId", text),
        Column("purchase_amount", "data.engagement.purchaseAmount", amount),
    ),
)
