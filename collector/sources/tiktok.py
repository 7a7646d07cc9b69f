"""TikTok: which field of an event goes into which column of tiktok_events."""

from __future__ import annotations

from functools import partial

from collector.copying import Kind
from collector.rollup import Audience, Dimension
from collector.source import Column, Source
from core.events.subjects import stream_of
from core.events.tiktok import Bottom, Top

_FOLLOWERS = (
    (0, "0-999"),
    (1_000, "1000-9999"),
    (10_000, "10000-99999"),
    (100_000, "100000-999999"),
    (1_000_000, "1000000+"),
)

SOURCE = Source(
    name="tiktok",
    stream=stream_of("tiktok"),
    reader=lambda contract: partial(contract.read, source="tiktok"),
    shapes=(Top, Bottom),
    table="tiktok_events",
    audience=Audience(
        purchase="purchase",
        amount="data.engagement.purchaseAmount",
        dimensions=(
            Dimension("followers", "data.user.followers", _FOLLOWERS),
            Dimension("device", "data.engagement.device"),
            Dimension("country", "data.engagement.country"),
        ),
    ),
    columns=(
        Column("event_time", "timestamp", Kind.TIMESTAMP),
        Column("funnel_stage", "funnelStage", Kind.LABEL),
        Column("event_type", "eventType", Kind.LABEL),
        Column("followers", "data.user.followers", Kind.INTEGER),
        Column("event_id", "eventId", Kind.TEXT),
        Column("user_id", "data.user.userId", Kind.TEXT),
        Column("username", "data.user.username", Kind.TEXT),
        Column("device", "data.engagement.device", Kind.LABEL),
        Column("watch_time", "data.engagement.watchTime", Kind.INTEGER),
        Column("percentage_watched", "data.engagement.percentageWatched", Kind.SMALLINT),
        Column("country", "data.engagement.country", Kind.TEXT),
        Column("video_id", "data.engagement.videoId", Kind.TEXT),
        Column("action_time", "data.engagement.actionTime", Kind.TIMESTAMP),
        Column("profile_id", "data.engagement.profileId", Kind.TEXT),
        Column("purchased_item", "data.engagement.purchasedItem", Kind.TEXT),
        Column("purchase_amount", "data.engagement.purchaseAmount", Kind.AMOUNT),
    ),
)
