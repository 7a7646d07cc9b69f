"""Facebook: which field of an event goes into which column of facebook_events."""

from __future__ import annotations

from functools import partial

from collector.copying import Kind
from collector.rollup import Audience, Dimension
from collector.source import Column, Source
from core.events.facebook import Bottom, Top
from core.events.subjects import stream_of

SOURCE = Source(
    name="facebook",
    stream=stream_of("facebook"),
    reader=lambda contract: partial(contract.read, source="facebook"),
    shapes=(Top, Bottom),
    table="facebook_events",
    audience=Audience(
        purchase="checkout.complete",
        amount="data.engagement.purchaseAmount",
        dimensions=(
            Dimension("age", "data.user.age", (*((age, str(age)) for age in range(120)), (120, "120+"))),
            Dimension("gender", "data.user.gender"),
            Dimension("country", "data.user.location.country"),
        ),
    ),
    columns=(
        Column("event_time", "timestamp", Kind.TIMESTAMP),
        Column("funnel_stage", "funnelStage", Kind.LABEL),
        Column("event_type", "eventType", Kind.LABEL),
        Column("gender", "data.user.gender", Kind.LABEL),
        Column("age", "data.user.age", Kind.SMALLINT),
        Column("event_id", "eventId", Kind.TEXT),
        Column("user_id", "data.user.userId", Kind.TEXT),
        Column("user_name", "data.user.name", Kind.TEXT),
        Column("country", "data.user.location.country", Kind.TEXT),
        Column("city", "data.user.location.city", Kind.TEXT),
        Column("action_time", "data.engagement.actionTime", Kind.TIMESTAMP),
        Column("referrer", "data.engagement.referrer", Kind.LABEL),
        Column("video_id", "data.engagement.videoId", Kind.TEXT),
        Column("click_position", "data.engagement.clickPosition", Kind.LABEL),
        Column("device", "data.engagement.device", Kind.LABEL),
        Column("browser", "data.engagement.browser", Kind.LABEL),
        Column("ad_id", "data.engagement.adId", Kind.TEXT),
        Column("campaign_id", "data.engagement.campaignId", Kind.TEXT),
        Column("purchase_amount", "data.engagement.purchaseAmount", Kind.AMOUNT),
    ),
)
