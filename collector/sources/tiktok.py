"""TikTok: which field of an event goes into which column of tiktok_events."""

from __future__ import annotations

from functools import partial

from collector.copying import amount, integer, one_of, smallint, text, timestamp
from collector.source import Column, Source
from core.events.subjects import stream_of
from core.events.tiktok import Bottom, Top

SOURCE = Source(
    name="tiktok",
    stream=stream_of("tiktok"),
    reader=lambda contract: partial(contract.read, source="tiktok"),
    shapes=(Top, Bottom),
    table="tiktok_events",
    columns=(
        Column("event_time", "timestamp", timestamp),
        Column("funnel_stage", "funnelStage", one_of(("top", "bottom"))),
        Column(
            "event_type",
            "eventType",
            one_of(("video.view", "like", "share", "comment", "profile.visit", "purchase", "follow")),
        ),
        Column("followers", "data.user.followers", integer),
        Column("event_id", "eventId", text),
        Column("user_id", "data.user.userId", text),
        Column("username", "data.user.username", text),
        Column("device", "data.engagement.device", one_of(("Android", "iOS", "Desktop"))),
        Column("watch_time", "data.engagement.watchTime", integer),
        Column("percentage_watched", "data.engagement.percentageWatched", smallint),
        Column("country", "data.engagement.country", text),
        Column("video_id", "data.engagement.videoId", text),
        Column("action_time", "data.engagement.actionTime", timestamp),
        Column("profile_id", "data.engagement.profileId", text),
        Column("purchased_item", "data.engagement.purchasedItem", text),
        Column("purchase_amount", "data.engagement.purchaseAmount", amount),
    ),
)
