"""A URL of a report that worked before gives the same JSON now.

The answers in `golden/reports.json` were recorded by the release before `metrics`, `range` and `/v1`. They are compared
byte for byte, so a field that is added to every answer fails here. To record a deliberate change, run this file with
`RECORD_REPORTS=1`.
"""

import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from ops.local import Servers
from tests.support.events import Event, changed, facebook, tiktok
from tests.support.report_rows import collecting, reporter
from tests.support.stack import fresh_database

GOLDEN = Path(__file__).parent / "golden" / "reports.json"
START = datetime(2026, 3, 28, 3, tzinfo=UTC)  # the clocks of Berlin change on the next day
TYPES = {
    ("facebook", "top"): ("ad.view", "page.like", "comment", "video.view"),
    ("facebook", "bottom"): ("ad.click", "form.submission", "checkout.complete"),
    ("tiktok", "top"): ("video.view", "like", "share", "comment"),
    ("tiktok", "bottom"): ("profile.visit", "purchase", "follow"),
}
DAYS = "from=2026-03-28&to=2026-03-31"
RAGGED = "from=2026-03-28T05:07:03.5Z&to=2026-03-29T04:59:11%2B02:00"
URLS = (
    f"events?{DAYS}",
    f"events?{DAYS}&interval=day&groupBy=source,funnelStage&timeZone=Europe/Berlin",
    f"events?{DAYS}&interval=month&groupBy=eventType&compare=previous",
    f"events?{RAGGED}&interval=hour&source=facebook&timeZone=Asia/Kathmandu",
    f"events?{RAGGED}&funnelStage=bottom&eventType=purchase&compare=previous",
    f"events?{DAYS}&interval=day&groupBy=source&limit=2",
    f"events?{DAYS}&source=myspace",
    f"revenue?{DAYS}",
    f"revenue?{DAYS}&interval=week&groupBy=source&compare=previous",
    f"revenue?{RAGGED}&interval=15minutes&source=tiktok",
    f"revenue?{RAGGED}&campaignId=camp-1&interval=day",
    f"revenue?{RAGGED}&groupBy=campaignId,source&top=2",
    f"demographics?{DAYS}&groupBy=ageBand,gender,country,followers,device",
    f"demographics?{RAGGED}&interval=day&source=facebook&compare=previous",
    f"demographics?{RAGGED}&funnelStage=top&groupBy=country,city&top=3",
    f"demographics?{RAGGED}&eventType=video.view&source=tiktok&limit=1",
)


def stored_events() -> list[Event]:
    """Return 240 events over three days, each determined by its number."""
    events = []
    for number in range(240):
        source, stage = list(TYPES)[number % 4]
        at = START + timedelta(minutes=17 * number, milliseconds=number)
        event = (facebook if source == "facebook" else tiktok)(stage, at=at)
        types = TYPES[source, stage]
        event = changed(event, "eventType", types[number // 4 % len(types)])
        if stage == "bottom":
            event = changed(event, "data.engagement.purchaseAmount", None if number % 5 == 0 else f"{number}.25")
        if source == "facebook":
            event = changed(event, "data.user.age", number % 90)
            event = changed(event, "data.user.gender", ("male", "female", "non-binary")[number // 2 % 3])
            location = {"country": f"country {number % 3}", "city": f"city {number * number % 11}"}
            event = changed(event, "data.user.location", location)
            if stage == "bottom":
                event = changed(event, "data.engagement.campaignId", f"camp-{number % 7}")
        else:
            event = changed(event, "data.user.followers", number**3)
            if stage == "top":
                event = changed(event, "data.engagement.device", ("Android", "iOS", "Desktop")[number % 3])
                event = changed(event, "data.engagement.country", f"country {number % 3}")
        events.append(event)
    return events


@pytest.fixture(scope="module")
async def client(servers: Servers, template: None) -> AsyncIterator[httpx.AsyncClient]:
    async with fresh_database(servers) as database:
        async with collecting(database.collector_dsn) as collected:
            await collected.store(stored_events())
        async with reporter(database.reporter_dsn) as client:
            yield client


async def test_old_urls_give_the_same_json(client: httpx.AsyncClient) -> None:
    """Status and body of each URL are those that were recorded, except the correlation ID of a problem."""
    answers: dict[str, list[object]] = {}
    for url in URLS:
        response = await client.get(f"/reports/{url}", headers={"X-Correlation-Id": "compatibility"})
        answers[url] = [response.status_code, response.text]
    if os.environ.get("RECORD_REPORTS"):
        GOLDEN.parent.mkdir(exist_ok=True)
        GOLDEN.write_text(json.dumps(answers, indent=1) + "\n")
    recorded = json.loads(GOLDEN.read_text())
    assert list(recorded) == list(answers)
    for url, answer in answers.items():
        assert answer == recorded[url], url
