"""The page at the reporter's root, in a real browser, on a running system: what it shows is what the API says."""

import asyncio
import csv
import io
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest
from playwright.async_api import Browser, Page, Route, async_playwright, expect

from core.sources import SOURCES
from reporter.page import DASHBOARD
from tests.support.events import NOON, changed, facebook, tiktok
from tests.support.processes import ROOT
from tests.support.system import System
from tests.support.tools import require, require_tool

AXE = ROOT / "tests/clients/typescript/node_modules/axe-core/axe.min.js"
SAFETY_MILLISECONDS = 30_000
REPORTS = ("events", "revenue", "funnel", "campaigns", "cities", "demographics")
FROM, TO = str((NOON - timedelta(days=1)).date()), str((NOON + timedelta(days=1)).date())
RANGE = {"from": FROM, "to": TO, "timeZone": "Europe/Berlin"}
DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True, "color_scheme": "dark",
}  # fmt: skip
# What a page may break without a word on the console.
LISTEN = "addEventListener('securitypolicyviolation', (event) => console.error('policy: ' + event.violatedDirective))"
WIDER = "document.documentElement.scrollWidth - innerWidth"
UNNAMED = """[...document.querySelectorAll('input, select, table, svg[role=img]')].filter((found) =>
    !(found.labels?.length || found.querySelector?.('caption') || found.getAttribute('aria-label'))).length"""


@pytest.fixture(scope="module")
def settings() -> dict[str, str]:
    return {"GATEWAY_WORKERS": "1"}


@pytest.fixture(scope="module")
async def filled(system: System) -> System:
    """Events of both sources and stages at several hours, one of them rejected."""
    events = [
        made(stage, at=NOON + timedelta(hours=hour))
        for hour in range(-5, 5)
        for made in (facebook, tiktok)
        for stage in ("top", "top", "bottom")
    ]
    answer = await system.post([*events, b'{"eventId": "nothing else"}'])
    assert answer.json()["rejected"] == 1
    await system.until_stored()
    return system


@pytest.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    chromium = require_tool("chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium)
        yield browser
        await browser.close()


class Visit:
    """The page as one visitor has it, and all that went wrong there."""

    def __init__(self, page: Page, system: System) -> None:
        self.page = page
        self.root = system.services.reports
        self.system = system
        self.wrong: list[str] = []
        self.elsewhere: list[str] = []
        page.on("console", lambda said: self.wrong.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda requested: self._requested(requested.url))

    def _requested(self, url: str) -> None:
        if not url.startswith((self.root, "data:")):
            self.elsewhere.append(url)

    async def open(self, **query: str) -> None:
        """Open a view and wait until its report, or what is wrong with it, stands there."""
        await self.page.goto(f"{self.root}/?{urlencode(query)}")
        await self.settled()

    async def settled(self) -> None:
        await expect(self.page.locator("#result[aria-busy=false]")).to_be_attached()
        await expect(self.page.locator("#result table, #errors .problem").first).to_be_visible()

    async def requested(self) -> dict[str, Any]:
        """What the API says to the very question that the page asked."""
        address = await self.page.locator("#json").get_attribute("href")
        answer = await self.system.get(str(address))
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def cells(self, rows: str) -> list[list[str]]:
        """The texts of a table's rows."""
        found: list[list[str]] = await self.page.locator(rows).evaluate_all(
            "rows => rows.map((row) => [...row.cells].map(({ textContent }) => textContent))"
        )
        return found

    def fine(self) -> None:
        """Nothing is on the console, nothing broke the policy, no other host was asked."""
        assert (self.wrong, self.elsewhere) == ([], [])


@pytest.fixture
async def visit(browser: Browser, filled: System, request: pytest.FixtureRequest) -> AsyncIterator[Visit]:
    context = await browser.new_context(**getattr(request, "param", DESKTOP))
    context.set_default_timeout(SAFETY_MILLISECONDS)
    expect.set_options(timeout=SAFETY_MILLISECONDS)
    await context.add_init_script(LISTEN)
    yield Visit(await context.new_page(), filled)
    await context.close()


def plain(text: str) -> str:
    return text.replace(",", "")


async def test_the_pipeline_is_shown(visit: Visit, tmp_path: Path) -> None:
    """Its tiles and the table by source say what /pipeline says, and follow it without being asked to."""
    await visit.open(report="events", **RANGE)
    state = (await visit.system.get("/pipeline")).json()
    stored = sum(source["eventsStored"] for source in state["sources"].values())
    page = visit.page
    await expect(page.locator('[data-tile="Stored"]')).to_contain_text(f"{stored} in total")
    await expect(page.locator('[data-tile="Ledger"]')).to_contain_text("balances")
    await expect(page.locator('[data-tile="Rejected"] .value')).to_have_text("1")
    await expect(page.locator("#state")).to_have_text("All is well: stored within seconds, nothing lost")
    await expect(page.locator("#figures")).to_contain_text("1 rejected")
    await expect(page.locator("#tiles")).to_be_hidden()
    await page.get_by_text("Pipeline details").click()
    await expect(page.locator("#tiles")).to_be_visible()
    await page.get_by_text("By source, with the ledger").click()
    await expect(page.locator("#by-source tbody tr")).to_have_count(2)
    await visit.system.post([facebook(), facebook(at=datetime.now(UTC))])
    await expect(page.locator('[data-tile="Stored"]')).to_contain_text(f"{stored + 2} in total")
    await page.screenshot(path=tmp_path / "desktop.png", full_page=True)
    visit.fine()


async def test_events_and_revenue_are_what_the_api_gives(visit: Visit) -> None:
    """Every bucket and group of the table, the sums and the total; the CSV is the API's own."""
    for report, figure in (("events", "events"), ("revenue", "revenue")):
        await visit.open(report=report, interval="hour", **RANGE)
        said = await visit.requested()
        assert said["query"]["interval"] == "hour"
        wanted: dict[str, list[str]] = {}
        for row in said["rows"]:
            part = "" if row["complete"] else " · partial"
            wanted.setdefault(row["start"][:16].replace("T", " ") + part, []).append(str(row[figure]))
        shown = await visit.cells("#result tbody tr")
        assert {row[0]: [plain(cell) for cell in row[1:-1]] for row in shown} == wanted
        (last,) = await visit.cells("#result tfoot tr")
        assert plain(last[-1]) == str(said["totals"][figure])
        await expect(visit.page.locator("#total")).to_have_text(last[-1])
        await expect(visit.page.get_by_role("status").filter(has_text="rows")).to_contain_text(
            f"{report.capitalize()}: {last[-1]} in"
        )
        async with visit.page.expect_download() as downloading:
            await visit.page.get_by_role("link", name="CSV").click()
        lines = list(csv.DictReader(io.StringIO((await (await downloading.value).path()).read_text())))
        assert [line[figure] for line in lines] == [str(row[figure]) for row in said["rows"]]
    visit.fine()


async def test_demographics_are_what_the_api_gives(visit: Visit) -> None:
    """Each dimension of each source has a table with a bar for each value."""
    await visit.open(report="demographics", **RANGE)
    said = await visit.requested()
    for row in said["rows"]:
        for dimension, title in (("ageBand", "age band"), ("country", "country"), ("device", "device")):
            card = f'[aria-label="{SOURCES[row["source"]].title}: {title}"] tbody tr'
            shown = [[cells[0], plain(cells[2])] for cells in await visit.cells(card)]
            assert shown == [[share["value"], str(share["events"])] for share in row.get(dimension) or []]
    visit.fine()


async def test_what_is_selected_stands_in_the_address(visit: Visit) -> None:
    """With the keyboard alone: another source gives other figures, the address shows them again, Back goes back."""
    page = visit.page
    await visit.open(report="events", **RANGE)
    every = (await visit.requested())["totals"]["events"]
    await page.get_by_role("combobox", name="Source", exact=True).focus()
    await page.keyboard.press("ArrowDown")
    await expect(page).to_have_url(re.compile("source=facebook"))
    await expect(page.locator("#json")).to_have_attribute("href", re.compile("source=facebook"))
    said = await visit.requested()
    assert 0 < said["totals"]["events"] < every
    await expect(page.locator("#total")).to_have_text(str(said["totals"]["events"]))
    await page.reload()
    await expect(page.locator("#total")).to_have_text(str(said["totals"]["events"]))
    await expect(page.get_by_role("combobox", name="Source", exact=True)).to_have_value("facebook")
    await page.go_back()
    await expect(page.locator("#total")).to_have_text(str(every))
    await page.get_by_role("radio", name="Events").focus()
    await page.keyboard.press("ArrowRight")
    await expect(page.locator("#total")).to_have_text(re.compile(r"\.\d\d$"))  # revenue
    visit.fine()


async def test_times_are_of_the_selected_zone(visit: Visit) -> None:
    """From and to are by the zone's clocks: the same day is another one in Kathmandu, and its events are asked for."""
    await visit.open(report="events", interval="hour", timeZone="Asia/Kathmandu", **{"from": FROM, "to": TO})
    said = await visit.requested()
    assert datetime.fromisoformat(said["query"]["from"]) == datetime.fromisoformat(f"{FROM}T00:00+05:45")
    assert (await visit.cells("#result tbody tr"))[0][0] == f"{FROM} 00:00"
    at = NOON + timedelta(minutes=15)  # 18:00 there
    await visit.page.locator("[name=from]").fill(f"{at.date()}T18:00")
    await expect(visit.page.locator("#json")).to_have_attribute("href", re.compile("12%3A15%3A00Z"))
    await visit.settled()
    assert datetime.fromisoformat((await visit.requested())["query"]["from"]) == at
    visit.fine()


@pytest.mark.parametrize("zone", ["Z", "+00:00", "+0000", "+00", " 0000"])
async def test_the_controls_show_any_zone_of_an_address(visit: Visit, zone: str) -> None:
    """A range whose zone is written as senders write it is asked for, and shown by the zone's clocks."""
    await visit.open(report="events", timeZone="UTC", **{"from": f"2026-10-25T10:30:15{zone}", "to": "2026-10-26"})
    assert (await visit.requested())["query"]["from"] == "2026-10-25T10:30:15Z"
    await expect(visit.page.locator("[name=from]")).to_have_value("2026-10-25T10:30")
    visit.fine()


@pytest.mark.parametrize(
    ("bounds", "zone"),
    [
        (("2026-10-25T10:30:15Z", "2026-10-25T10:30:45.5Z"), "UTC"),
        (("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"), "Europe/Berlin"),  # 02:30 both, as clocks are turned back
    ],
)
async def test_a_given_range_is_requested_for_as_it_is(visit: Visit, bounds: tuple[str, str], zone: str) -> None:
    """What the address holds is asked for to the microsecond, though the controls show minutes; what is changed there
    is asked for by the zone's clocks, the first of two where they show a time twice."""
    await visit.open(report="events", timeZone=zone, **dict(zip(("from", "to"), bounds, strict=True)))
    query = (await visit.requested())["query"]
    assert [datetime.fromisoformat(query[name]) for name in ("from", "to")] == [*map(datetime.fromisoformat, bounds)]
    await visit.page.get_by_role("combobox", name="Interval").select_option("minute")
    await visit.settled()
    assert bounds[0].replace(":", "%3A") in visit.page.url
    await visit.page.locator("[name=from]").fill("2026-10-25T02:30")
    first = "2026-10-25T02:30:00Z" if zone == "UTC" else "2026-10-25T00:30:00Z"
    await expect(visit.page.locator("#json")).to_have_attribute("href", re.compile(urlencode({"from": first})))
    await visit.settled()
    visit.fine()


async def test_the_period_before_is_what_the_api_gives(visit: Visit) -> None:
    """It stands beside each bucket of each report, and a dash beside those that have not begun; buckets that are not
    over are marked in the table and hatched in the chart, and the headline says how far the period before counts."""
    before = NOON - timedelta(days=4)
    await visit.system.post([made("bottom", at=before) for made in (facebook, tiktok)])
    await visit.system.until_stored()
    day = timedelta(days=1)
    running = {"from": str((NOON - day).date()), "to": str((NOON + 3 * day).date())}  # until the end of tomorrow
    for report, figure in (("events", "Events"), ("revenue", "Revenue"), ("demographics", "Events")):
        await visit.open(report=report, interval="day", compare="previous", timeZone="UTC", **running)
        said = await visit.requested()
        wanted: dict[str, list[Decimal]] = {row["start"]: [] for row in said["rows"]}
        for row in said["rows"]:
            previous = row[f"previous{figure}"]
            wanted[row["start"]] += [Decimal(previous)] if previous is not None else []
        cells = await visit.cells("#result table:has(tfoot) tbody tr")
        shown = [plain(row[-1]) for row in cells]
        assert shown == [str(sum(figures)) if figures else "–" for figures in wanted.values()]
        assert shown[1][0] in "123456789"
        assert shown[-1] == "–"
        assert [row[0].endswith(" · partial") for row in cells] == [False, False, True, True]
        counted = datetime.fromisoformat(said["query"]["compare"]["countedUntil"])
        assert counted.date() == (NOON - 3 * day).date()
        await expect(visit.page.locator(".headline")).to_contain_text("the same part of the previous period")
    await visit.system.post([facebook("bottom", at=datetime.now(UTC))])
    await visit.system.until_stored()
    await visit.open(report="events", interval="day", compare="previous", timeZone="UTC", **running)
    await expect(visit.page.locator('.chart [role=img] rect[fill="url(#part)"]')).to_have_count(1)
    await expect(visit.page.locator(".legend")).to_contain_text(
        "partial: the range cuts the bucket, or it has not ended"
    )
    visit.fine()


async def test_other_is_reported_from_every_campaign(visit: Visit) -> None:
    """All campaigns that are not listed are (other); one of that name, of a similar one or of none stands beside it, in
    the page as in its CSV, which a spreadsheet opens without running what a sender wrote."""
    at = NOON - timedelta(days=5)
    campaigns = ["other", "(other)", "", "=1+1"]
    await visit.system.post(
        [changed(facebook("bottom", at=at), "data.engagement.campaignId", campaign) for campaign in campaigns]
    )
    await visit.system.until_stored()
    day = {"from": str(at.date()), "to": str((at + timedelta(days=1)).date()), "timeZone": "UTC"}
    await visit.open(report="revenue", groupBy="campaignId", interval="day", **day)
    names = await visit.page.locator(".legend li").all_text_contents()
    assert sorted(names) == sorted(["other", "'(other)", '""', "=1+1", "(other)"])
    async with visit.page.expect_download() as downloading:
        await visit.page.get_by_role("link", name="CSV").click()
    download = await downloading.value
    assert download.suggested_filename == f"sluice-revenue-{at.date()}-{at.date()}.csv"
    content = (await download.path()).read_bytes()
    assert content.startswith(b"\xef\xbb\xbfstart,localStart,")
    lines = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
    assert sorted(line["campaignId"] for line in lines) == sorted(["other", "'(other)", "", "'=1+1", "(other)"])
    visit.fine()


async def test_a_mistake_is_shown_well(visit: Visit) -> None:
    """The problem names the parameter and what is allowed, its control is marked; the mistake fixed, it is gone."""
    page, week = visit.page, {**RANGE, "from": str((NOON - timedelta(days=7)).date())}
    await visit.open(report="events", interval="minute", **week)
    alert = page.get_by_role("alert")
    await expect(alert).to_contain_text("Interval: minute is for ranges up to 24 hours")
    await expect(alert.get_by_role("listitem")).to_have_text(
        ["15minutes", "hour", "day", "week", "month", "quarter", "year"]
    )
    await expect(page.get_by_role("combobox", name="Interval")).to_have_attribute("aria-invalid", "true")
    await page.get_by_role("combobox", name="Interval").select_option("day")
    await expect(page.locator("#total")).to_be_visible()
    await expect(alert).to_be_empty()
    await expect(page.get_by_role("combobox", name="Interval")).not_to_have_attribute("aria-invalid", "true")
    await page.get_by_role("combobox", name="Time zone").fill("Mars/Olympus")
    await page.keyboard.press("Enter")
    await expect(alert).to_contain_text("'Mars/Olympus' is not an IANA time zone")
    await visit.open(report="events", **{**RANGE, "from": "yesterday"})
    await expect(alert).to_contain_text("'yesterday' is neither a date nor a time")
    await visit.open(report="revenue", groupBy="campaignId", source="tiktok", **RANGE)
    await expect(alert).to_contain_text("Group by: tiktok has no campaigns")
    await visit.open(report="events", range="lately")
    await expect(alert).to_contain_text("'lately' is neither a number of minutes")
    await visit.open(report="events", groupBy="colour", range="90d")
    await expect(alert).to_contain_text("'colour' is not allowed")
    # The browser itself notes each answer that is not 2xx; nothing else is there.
    assert [said for said in visit.wrong if "status of 400" not in said] == []
    assert visit.elsewhere == []


async def test_nothing_is_loaded_one_after_the_other(visit: Visit) -> None:
    """All scripts are asked for before the first has come, and the report before the description of the API has; it is
    asked for once."""
    scripts = {name for name, media_type in DASHBOARD.items() if media_type == "text/javascript"}
    requested: list[str] = []
    waiting: dict[str, asyncio.Event] = {"scripts": asyncio.Event(), "report": asyncio.Event()}

    def note(url: str) -> None:
        requested.append(url.removeprefix(visit.root))
        if {f"/page/{name}" for name in scripts} <= set(requested):
            waiting["scripts"].set()
        if requested[-1].startswith("/reports/"):
            waiting["report"].set()

    async def after(what: str, route: Route) -> None:
        await waiting[what].wait()
        await route.continue_()

    visit.page.on("request", lambda request: note(request.url))
    await visit.page.route("**/page/dashboard.js", lambda route: after("scripts", route))
    await visit.page.route("**/openapi.json", lambda route: after("report", route))
    await visit.open(report="revenue", interval="hour", groupBy="source", **RANGE)
    assert len([path for path in requested if path.startswith("/reports/")]) == 1
    assert requested.count("/openapi.json") == 1
    visit.fine()


async def test_a_lost_network_is_waited_for(visit: Visit) -> None:
    """If the reporter or its database does not answer, the page says so and when it asks again; figures that it has
    stay, greyed; when there is an answer again, all is as before."""
    page, shown = visit.page, visit.page.locator("#result")
    await visit.open(report="events", **RANGE)
    total = await page.locator("#total").text_content()
    wrong = page.locator("#errors .problem")
    await page.route("**/reports/events?*", lambda route: route.abort())
    await page.get_by_role("button", name="Show").click()
    await expect(wrong).to_contain_text("The reporter does not answer")
    await expect(page.locator("#status")).to_have_text(re.compile(r"Retrying in \d+ s"))
    await expect(shown).to_have_class("stale")
    await expect(page.locator("#total")).to_have_text(str(total))
    await page.unroute("**/reports/events?*")
    away = {"title": "Service Unavailable", "status": 503, "detail": "the database does not answer"}
    await page.route("**/reports/events?*", lambda route: route.fulfill(status=503, json=away))
    await expect(wrong).to_contain_text("the database does not answer")
    await page.unroute("**/reports/events?*")
    await expect(wrong).to_have_count(0)
    await expect(shown).not_to_have_class("stale")
    await expect(page.locator("#total")).to_have_text(str(total))
    await page.context.set_offline(True)
    await page.get_by_role("combobox", name="Source", exact=True).select_option("facebook")
    await expect(wrong).to_contain_text("The reporter does not answer")
    await page.context.set_offline(False)
    await expect(wrong).to_have_count(0)
    await expect(page.locator("#total")).not_to_have_text(str(total))


@pytest.mark.parametrize("lost", ["dashboard.js", "time.js"])
async def test_a_script_that_does_not_come_is_reported(visit: Visit, lost: str) -> None:
    """Where a part of the page's script was not loaded, it says so and what to do; a visit with all of it does not."""
    reported = visit.page.get_by_text("The page's script did not load")
    await visit.page.route(f"**/{lost}", lambda route: route.abort())
    await visit.page.goto(visit.root)
    await expect(reported).to_be_visible()
    await visit.page.unroute(f"**/{lost}")
    await reported.get_by_role("link", name="reload").click()
    await visit.settled()
    await expect(reported).to_be_hidden()


async def test_the_description_is_requested_for_until_it_comes(visit: Visit) -> None:
    """What the controls offer comes from the API's description: where it cannot be read that is said, until it can."""
    await visit.page.route("**/openapi.json", lambda route: route.abort())
    await visit.page.goto(f"{visit.root}/?{urlencode(RANGE)}")
    await expect(visit.page.locator("#errors")).to_contain_text("API description cannot be loaded")
    await visit.page.unroute("**/openapi.json")
    await visit.settled()
    await expect(visit.page.locator("#errors .problem")).to_have_count(0)
    await expect(visit.page.get_by_role("group", name="Group by").get_by_role("checkbox").first).to_be_visible()


async def test_an_empty_range_and_no_answer(visit: Visit) -> None:
    """Where there is nothing, that is said. If the reporter does not answer, its last figures are greyed with their
    age; when it answers again, they are not."""
    await visit.open(report="events", **{"from": "2020-01-01", "to": "2020-01-02"}, timeZone="UTC")
    await expect(visit.page.get_by_text("No events of this range are stored.")).to_be_visible()
    visit.fine()
    await visit.page.context.set_offline(True)
    await expect(visit.page.locator("#state")).to_contain_text("does not answer")
    await visit.page.get_by_text("Pipeline details").click()
    await expect(visit.page.locator("#tiles.stale")).to_be_visible()
    await expect(visit.page.locator("#age")).to_have_text(re.compile(r"^These figures are \d+ s old\.$"))
    await visit.page.context.set_offline(False)
    await expect(visit.page.locator("#state")).to_contain_text("All is well")
    await expect(visit.page.locator("#tiles.stale")).to_have_count(0)
    await expect(visit.page.locator("#age")).to_be_hidden()


@pytest.mark.parametrize("visit", [PHONE], indirect=True)
async def test_it_fits_a_phone(visit: Visit, tmp_path: Path) -> None:
    """Each report fits a small, dark screen without sideways scrolling, and everything on it has a name."""
    for report in REPORTS:
        await visit.open(report=report, compare="previous", **RANGE)
        await visit.page.get_by_text("Pipeline details").click()
        await expect(visit.page.locator("#tiles .value").first).to_be_visible()
        assert await visit.page.evaluate(WIDER) <= 0
        assert await visit.page.evaluate(UNNAMED) == 0
        await visit.page.screenshot(path=tmp_path / f"phone-{report}.png", full_page=True)
    visit.fine()


async def test_a_funnel_is_what_the_api_gives(visit: Visit) -> None:
    """Each source has its steps with bars, events and rates; with an interval each bucket, too."""
    await visit.open(report="funnel", interval="day", compare="previous", **RANGE)
    answer = await visit.requested()
    for source, declared in SOURCES.items():
        steps = [step for step in answer["totals"] if step["source"] == source]
        cells = await visit.cells(f'[aria-label="{declared.title}: funnel"] tbody tr')
        assert [plain(row[2]) for row in cells] == [str(step["events"]) for step in steps]
        assert [row[4] for row in cells] == [rate(step["overallRate"]) for step in steps]
        assert [row[3] for row in cells[1:]] == [rate(step["rate"]) for step in steps[1:]]
        assert [plain(row[5]) for row in cells] == [str(step["previousEvents"]) for step in steps]
        rows = [row for row in answer["rows"] if row["source"] == source]
        buckets = await visit.cells(f'[aria-label^="{declared.title}: steps by day"] tbody tr')
        assert [plain(cell) for row in buckets for cell in row[1:-1]] == [str(row["events"]) for row in rows]
    visit.fine()


def rate(ratio: float | None) -> str:
    return "–" if ratio is None else f"{100 * ratio:.2f} %"


@pytest.mark.parametrize(("report", "dimension"), [("campaigns", "campaignId"), ("cities", "city")])
async def test_a_ranking_is_sorted_and_searched(visit: Visit, report: str, dimension: str) -> None:
    """All values of a long range are listed. With the keyboard alone they are sorted and searched, and the address
    keeps both."""
    at = NOON - timedelta(days=2 if report == "campaigns" else 3)
    prices = {"alpha-9": 10, "beta-9": 30, "gamma-9": 20}
    path = "data.engagement.campaignId" if report == "campaigns" else "data.user.location.city"
    events = [
        changed(changed(facebook("bottom", at=at), path, name), "data.engagement.purchaseAmount", f"{price}.00")
        for name, price in prices.items()
        for _ in range(price // 10)
    ]
    await visit.system.post(events)
    await visit.system.until_stored()
    day = {"from": str(at.date()), "to": str((at + timedelta(days=1)).date()), "timeZone": "UTC"}
    await visit.open(report=report, **day)
    rows = (await visit.requested())["rows"]
    listed = (
        [row[dimension] for row in rows] if report == "campaigns" else [share["value"] for share in rows[0]["city"]]
    )
    listed = [name for name in listed if name is not None]  # other is empty here, and the page leaves it out
    assert await names(visit) == listed == ["beta-9", "gamma-9", "alpha-9"]
    page = visit.page
    heading = page.get_by_role("button", name="Campaign" if report == "campaigns" else "City")
    await heading.focus()
    await page.keyboard.press("Enter")
    assert await names(visit) == sorted(prices)
    await expect(page.locator("th", has=heading)).to_have_attribute("aria-sort", "ascending")
    await expect(heading).to_be_focused()
    await page.keyboard.press("Enter")
    await page.get_by_role("searchbox").focus()
    await page.keyboard.type("MMA")
    assert await names(visit) == ["gamma-9"]
    await expect(page.get_by_text("1 of 3 found")).to_be_visible()
    await page.keyboard.press("Control+a")
    await page.keyboard.type("a-9")
    await expect(page).to_have_url(re.compile("sort=-name&search=a-9"))
    await page.reload()
    await visit.settled()
    assert await names(visit) == sorted(prices, reverse=True)
    await expect(page.get_by_role("searchbox")).to_have_value("a-9")
    visit.fine()


async def names(visit: Visit) -> list[str]:
    """Return the first column of the table of campaigns or cities."""
    return [row[0] for row in await visit.cells(".ranking tbody tr")]


async def test_a_series_can_be_switched_off(visit: Visit) -> None:
    """With the keyboard: the chart leaves the series out, the table keeps it, and the address has it."""
    await visit.open(report="events", interval="hour", **RANGE)
    page, before = visit.page, await visit.cells("#result tbody tr")
    series = page.locator('.chart [role=img] rect.s0:not([fill="url(#part)"])')
    await expect(series.first).to_be_visible()
    button = page.get_by_role("button", name="Facebook")
    await button.focus()
    await page.keyboard.press("Enter")
    await expect(button).to_have_attribute("aria-pressed", "false")
    await expect(series).to_have_count(0)
    assert await visit.cells("#result tbody tr") == before
    await expect(page).to_have_url(re.compile("off=Facebook"))
    await page.reload()
    await visit.settled()
    await expect(button).to_have_attribute("aria-pressed", "false")
    await button.click()
    await expect(series.first).to_be_visible()
    assert "off=" not in page.url
    visit.fine()


async def test_ranges_are_selected_by_name(visit: Visit) -> None:
    """Each preset is a range of the API, relative to now in the zone. A custom range starts with the shown one."""
    page = visit.page
    await visit.open(report="revenue", timeZone="Asia/Kathmandu")
    select = page.get_by_role("combobox", name="Range")
    values = await select.locator("option").evaluate_all("options => options.map(({ value }) => value)")
    presets = {"today", "yesterday", "this-week", "last-week", "this-month", "last-month", "7d", "30d"}
    assert presets <= set(values)
    for value in filter(None, values):
        await select.select_option(value)
        await expect(page.locator("#json")).to_have_attribute("href", re.compile(f"range={value}&"))
        await visit.settled()
        answer = await visit.requested()
        assert answer["query"]["range"] == value
    await select.select_option("last-month")
    await expect(page).to_have_url(re.compile("range=last-month"))
    await visit.settled()
    answer = await visit.requested()
    await select.select_option("")
    start = datetime.fromisoformat(answer["query"]["from"]).astimezone(ZoneInfo("Asia/Kathmandu"))
    await expect(page.locator("[name=from]")).to_have_value(f"{start:%Y-%m-%dT%H:%M}")
    await visit.settled()
    custom = await visit.requested()
    assert [custom["query"][name] for name in ("from", "to")] == [answer["query"][name] for name in ("from", "to")]
    visit.fine()


async def test_nothing_is_offered_that_is_rejected(visit: Visit) -> None:
    """Every option of every control, one after the other in each report, gives an answer."""
    page = visit.page
    for report in REPORTS:
        for source in ("", *SOURCES):
            if source == "tiktok" and report in ("campaigns", "cities"):
                continue  # only an address can combine these
            await visit.open(report=report, range="7d", source=source, timeZone="UTC")
            for name in ("interval", "funnelStage", "eventType", "compare", "source", "range"):
                control = page.locator(f"[name={name}]")
                if not await control.is_visible():
                    continue
                options = await control.locator("option").evaluate_all("all => all.map(({ value }) => value)")
                for value in options:
                    if not await control.is_visible():
                        break  # a report with one possible source has no control for it
                    await control.select_option(value)
                    await visit.settled()
                    assert (await visit.system.get(str(await page.locator("#json").get_attribute("href")))).is_success
            for box in await page.locator("[name=groupBy]").all():
                await box.click()
                await visit.settled()
                assert (await visit.system.get(str(await page.locator("#json").get_attribute("href")))).is_success
    visit.fine()


@pytest.mark.parametrize("visit", [DESKTOP, PHONE], indirect=True, ids=["light", "phone"])
async def test_axe_finds_nothing(visit: Visit) -> None:
    """axe-core finds no violation in any report, with the details of the pipeline open."""
    require(AXE.exists(), "axe-core, which make setup installs with npm")
    await visit.page.add_init_script(AXE.read_text())
    for report in REPORTS:
        await visit.open(report=report, compare="previous", **RANGE)
        await visit.page.get_by_text("Pipeline details").click()
        await expect(visit.page.locator("#tiles .value").first).to_be_visible()
        checked = await visit.page.evaluate("axe.run()")
        assert [(found["id"], found["nodes"][0]["html"]) for found in checked["violations"]] == []
        assert len(checked["passes"]) > 10
    visit.fine()
