"""A report's query: understood to the dead letter, or rejected with the parameter and what is allowed."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest

from core.sources import SOURCES
from reporter.parameters import RANGE
from reporter.query_params import BadQuery, QueryParams
from reporter.relative_range import NAMES
from reporter.reports import REPORTS, AnyReport
from reporter.reports.demographics import DEMOGRAPHICS
from reporter.reports.event_kinds import EVENT_KINDS, EVENT_TYPES
from reporter.reports.events import EVENTS
from reporter.reports.funnel import FUNNEL, STEPS
from reporter.reports.revenue import REVENUE
from reporter.settings import ReporterSettings

SETTINGS = ReporterSettings()
DAY = {"from": "2026-11-22", "to": "2026-11-23"}


def ask(report: AnyReport, **parameters: str) -> Any:
    return ask_text(report, urlencode(DAY | {name.removesuffix("_"): value for name, value in parameters.items()}))


def ask_text(report: AnyReport, query_string: str) -> Any:
    return report.parse_query(QueryParams(query_string.encode(), report.parameters), SETTINGS)


@pytest.mark.parametrize(
    ("text", "zone", "expected"),
    [
        ("2026-11-22T07:00:00Z", "UTC", "2026-11-22T07:00:00"),
        ("2026-11-22T07:00:00+01:00", "UTC", "2026-11-22T06:00:00"),
        ("2026-11-22T07:00-03:30", "Asia/Tokyo", "2026-11-22T10:30:00"),
        ("2026-11-22T07:00:00.000001Z", "UTC", "2026-11-22T07:00:00.000001"),
        ("2026-11-22T07:00:00.5Z", "UTC", "2026-11-22T07:00:00.500000"),
        ("2026-11-22T07:00:00.123456999Z", "UTC", "2026-11-22T07:00:00.123456"),
        ("2026-11-22T07:00:00.1234569+0100", "UTC", "2026-11-22T06:00:00.123456"),
        ("2026-11-22t07:00:00+01", "UTC", "2026-11-22T06:00:00"),
        ("2026-11-22T07:00-0330", "UTC", "2026-11-22T10:30:00"),
        ("2026-11-22T07:00:00z", "UTC", "2026-11-22T07:00:00"),
        ("2026-11-22T07:00:00 01:00", "UTC", "2026-11-22T06:00:00"),  # a + that was not escaped
        ("2026-11-22T07:00:00 0000", "UTC", "2026-11-22T07:00:00"),
        ("2026-11-22T07:00", "Europe/Berlin", "2026-11-22T06:00:00"),
        ("2026-11-22T07:00:00.25", "Asia/Kathmandu", "2026-11-22T01:15:00.250000"),
        ("2026-10-25T02:30", "Europe/Berlin", "2026-10-25T00:30:00"),  # the first of two
        ("2026-11-22", "UTC", "2026-11-22T00:00:00"),
        ("2026-11-22", "Asia/Kolkata", "2026-11-21T18:30:00"),
        ("2026-03-30", "Europe/Berlin", "2026-03-29T22:00:00"),
    ],
)
def test_instants_and_dates(text: str, zone: str, expected: str) -> None:
    """An instant stands for itself; a date begins where it begins in the time zone asked for."""
    query = ask(EVENTS, from_=text, to="2026-12-01", timeZone=zone)
    assert query.period.start == datetime.fromisoformat(expected).replace(tzinfo=UTC)


def test_a_plus_in_a_url_may_be_bare() -> None:
    """In a URL a bare + is a space; in an instant it can only mean a zone ahead of UTC."""
    for plus in ("+", "%2B", "%20"):
        query = ask_text(EVENTS, f"from=2026-11-22T07:00:00{plus}0100&to=2026-11-23")
        assert query.period.start == datetime(2026, 11, 22, 6, tzinfo=UTC)


BAD = [
    (EVENTS, "from=2026-11-22", "to", None),
    (EVENTS, "to=2026-11-22", "from", None),
    (EVENTS, "from=2026-11-22&to=2026-11-22", "to", None),
    (EVENTS, "from=2026-11-23&to=2026-11-22", "to", None),
    (EVENTS, "from=2026-03-29T02:30&to=2026-11-23&timeZone=Europe/Berlin", "from", None),  # skipped by the clock
    (EVENTS, "range=7d&from=2026-11-22", "from", None),
    (EVENTS, "range=7d&to=2026-11-22", "to", None),
    (EVENTS, "range=7", "range", NAMES),
    (EVENTS, "range=0d", "range", NAMES),
    (EVENTS, "range=next-week", "range", NAMES),
    (EVENTS, "range=99999w", "range", ()),
    (EVENTS, "range=7d&after=eyJub3ciOiIyMDI2LTAxLTAxVDAwOjAwOjAwIiwiYWZ0ZXIiOltdfQ", "after", None),  # no offset
    (EVENTS, "from=2026-11-22", "to", ()),
    (EVENTS, "groupBy=source", "from", ()),
    (EVENTS, "from=2026-11-22T07:00:00.0000000001Z&to=2026-11-23", "from", None),
    (EVENTS, "from=2026-11-22+07:00:00Z&to=2026-11-23", "from", None),
    (EVENTS, "from=2026-11-22T07:00:00%2B0060&to=2026-11-23", "from", None),
    (EVENTS, "from=2026-11-22T07:00:00%2B24&to=2026-11-23", "from", None),
    (EVENTS, "from=2026-11-22T25:00:00Z&to=2026-11-23", "from", None),
    (EVENTS, "from=2026-02-30&to=2026-11-23", "from", None),
    (EVENTS, "from=yesterday&to=2026-11-23", "from", None),
    (EVENTS, "from=&to=2026-11-23", "from", None),
    (EVENTS, "from=1999-12-31T23:59:59Z&to=2026-11-23", "from", None),
    (EVENTS, "from=2026-11-22&to=2101-01-01T00:00:01Z", "to", None),
    (EVENTS, "from=0001-01-01&to=2026-11-23&timeZone=Asia/Tokyo", "from", None),
    (EVENTS, "from=2026-11-22&to=2026-11-23&timeZone=CEST", "timeZone", None),
    (EVENTS, "from=2026-11-22&to=2026-11-23&timeZone=../../etc/passwd", "timeZone", None),
    (EVENTS, "from=2026-11-22&to=2026-11-23&source=x", "source", ("facebook", "tiktok")),
    (EVENTS, "from=2026-11-22&to=2026-11-23&source=", "source", ("facebook", "tiktok")),
    (EVENTS, "from=2026-11-22&to=2026-11-23&source=tiktok&source=tiktok", "source", None),
    (EVENTS, "from=2026-11-22&to=2026-11-23&compare=previous&compare=year", "compare", ()),
    (EVENTS, "from=2026-11-22&to=2026-11-23&funnelStage=middle", "funnelStage", ("top", "bottom")),
    (EVENTS, "from=2026-11-22&to=2026-11-23&groupBy=city", "groupBy", ("source", "funnelStage", "eventType")),
    (EVENTS, "from=2026-11-22&to=2026-11-23&groupBy=source,source", "groupBy", None),
    (EVENTS, "from=2026-11-22&to=2026-11-23&groupBy=source&groupBy=source", "groupBy", None),
    (EVENTS, "from=2026-11-22&to=2026-11-23&groupBy=source&groupBy=city", "groupBy", None),
    (EVENTS, "from=2026-11-22&to=2026-11-23&groupBy=source&groupBy=", "groupBy", None),
    (EVENTS, "from=2026-11-22&to=2026-11-23&interval=day&interval=hour", "interval", None),
    (EVENTS, "from=2026-11-22&to=2026-11-23&interval=decade", "interval", None),
    (EVENTS, "from=2026-11-22&to=2026-11-23T00:00:01Z&interval=minute", "interval", None),
    (EVENTS, "from=2000-01-01&to=2100-12-31&interval=15minutes", "interval", None),
    (EVENTS, "from=2026-11-22&to=2026-11-23&source=%ff", None, None),
    (EVENTS, "from=2026-11-22&to=2026-11-23&campaignId=c", "campaignId", tuple(p.name for p in EVENTS.parameters)),
    (EVENTS, "from=2026-11-22&to=2026-11-23&source=tiktok&funnelStage=top&eventType=purchase", "eventType",
     ("video.view", "like", "share", "comment")),
    (EVENTS, "from=2026-11-22&to=2026-11-23&source=tiktok&eventType=purchase,ad.view", "eventType", None),
    (EVENTS, "from=2000-02-01&to=2000-02-02&compare=year", "compare", None),
    (FUNNEL, "from=2026-11-22&to=2026-11-23&steps=ad.view", "steps", None),
    (FUNNEL, "from=2026-11-22&to=2026-11-23&steps=ad.view,purchase", "steps", EVENT_TYPES),
    (FUNNEL, "from=2026-11-22&to=2026-11-23&steps=ad.view,ad.click&source=tiktok", "steps",
     ("comment", "video.view", "like", "share", "profile.visit", "purchase", "follow")),
    (FUNNEL, "from=2026-11-22&to=2026-11-23&steps=ad.view,ad.click,ad.view", "steps", None),
    (FUNNEL, "from=2026-11-22&to=2026-11-23&groupBy=source", "groupBy", tuple(p.name for p in FUNNEL.parameters)),
    (REVENUE, "from=2026-11-22&to=2026-11-23&campaignId=c&metrics=conversion", "metrics", ()),
    (REVENUE, "from=2026-11-22&to=2026-11-23&groupBy=campaignId&metrics=conversion", "metrics", ()),
    (REVENUE, "from=2026-11-22&to=2026-11-23&metrics=share", "metrics", None),
    (REVENUE, "from=2026-11-22&to=2026-11-23&source=tiktok&campaignId=c", "campaignId", ("facebook",)),
    (REVENUE, "from=2026-11-22&to=2026-11-23&groupBy=campaignId&top=1001", "top", None),
    (REVENUE, "from=2026-01-01&to=2026-11-23&groupBy=campaignId&interval=day&top=1000", "interval", None),
    (REVENUE, "from=2026-11-22&to=2026-11-23&campaignId=%00", "campaignId", None),
    (REVENUE, "from=2026-11-22&to=2026-11-23&campaignId=" + "c" * 8193, "campaignId", None),
    (REVENUE, "from=2026-11-22&to=2026-11-23&groupBy=eventType", "groupBy", ("source", "campaignId")),
    (DEMOGRAPHICS, "from=2026-01-01&to=2026-11-23&interval=day", "interval", None),
    (DEMOGRAPHICS, "from=2026-11-22&to=2026-11-23&top=0", "top", None),
    (DEMOGRAPHICS, "from=2026-11-22&to=2026-11-23&top=1001", "top", None),
    (DEMOGRAPHICS, "from=2026-11-22&to=2026-11-23&metrics=purchases", "metrics", ("events", "revenue")),
    (DEMOGRAPHICS, "from=2026-11-22&to=2026-11-23&groupBy=gender:age", "groupBy", None),
    (DEMOGRAPHICS, "from=2026-11-22&to=2026-11-23&groupBy=age:gender&source=tiktok", "groupBy", None),
    (DEMOGRAPHICS, "from=2026-11-22&to=2026-11-23&top=%D9%A3", "top", None),
]  # fmt: skip


@pytest.mark.parametrize(("report", "query_string", "parameter", "allowed"), BAD, ids=[bad[1][:80] for bad in BAD])
def test_bad_queries_name_the_parameter(
    report: AnyReport, query_string: str, parameter: str | None, allowed: tuple[str, ...] | None
) -> None:
    """Whatever is wrong, the error names the parameter, and what is allowed where the list is closed."""
    with pytest.raises(BadQuery) as rejected:
        ask_text(report, query_string)
    assert rejected.value.parameter == parameter
    if allowed is not None:
        assert rejected.value.allowed == allowed


@pytest.mark.parametrize("report", REPORTS)
def test_lists_are_repeated_or_comma_separated(report: AnyReport) -> None:
    """Every list may be sent in repeated parameters, as generated clients do, comma separated, or both; all mean the
    same. Steps keep the order of the query, other lists have their own."""
    for parameter in report.parameters:
        if parameter.is_list:
            first, second = ("video.view", "comment") if parameter is STEPS else parameter.allowed[:2]
            name = parameter.name
            forms = [f"{name}={first},{second}", f"{name}={first}&{name}={second}"]
            if parameter is not STEPS:
                forms.append(f"{name}={second}&{name}={first}")
            for form in forms:
                params = QueryParams(f"{urlencode(DAY)}&{form}".encode(), report.parameters)
                assert params.get(parameter) == (first, second)
                report.parse_query(params, SETTINGS)
    three = urlencode(DAY) + "&groupBy=eventType&groupBy=source,funnelStage"
    assert ask_text(EVENTS, three).resolved.group_by == ("source", "funnelStage", "eventType")


def test_a_type_names_its_source() -> None:
    """purchase occurs in tiktok alone: nothing is said about facebook's freshness; comment occurs in both."""
    assert ask(EVENTS, eventType="purchase").sources == ("tiktok",)
    assert ask(EVENTS, eventType="comment").sources == ("facebook", "tiktok")
    assert ask(REVENUE, campaignId="c").sources == ("facebook",)


def test_groups_are_those_that_the_contract_knows() -> None:
    """All dimensions give the 14 kinds of events, a filter fewer, no dimension one."""
    assert len(EVENT_KINDS) == 14
    assert ask(EVENTS, groupBy="eventType,funnelStage,source").groups == EVENT_KINDS
    assert len(ask(EVENTS, groupBy="eventType").groups) == 12  # two types occur in both sources
    assert len(ask(EVENTS, groupBy="source,funnelStage", source="tiktok").groups) == 2
    assert len(ask(EVENTS).groups) == 1


def test_the_answer_is_bounded() -> None:
    """25,000 rows are the most, buckets times groups: a day of minutes by kind, but not three months of hours."""
    assert len(ask(EVENTS, from_="2025-01-01", to="2027-01-01", interval="hour").period.bounds) == 2 * 8760 + 1
    with pytest.raises(BadQuery, match="14 for each bucket"):
        ask(EVENTS, from_="2026-01-01", to="2026-04-01", interval="hour", groupBy="source,funnelStage,eventType")


def test_a_campaign_may_be_any_text() -> None:
    """It is a value, never a part of a statement; empty text is a value too."""
    for campaign in ("", "a&b=c", "'; DROP TABLE facebook_events; --", "ünï"):
        assert ask(REVENUE, campaignId=campaign).resolved.campaign_id == campaign


def test_the_whole_time_can_be_requested_for() -> None:
    """Both ends of the contract's years are allowed."""
    period = ask(EVENTS, from_="2000-01-01T00:00:00Z", to="2101-01-01T00:00:00Z", interval="month").period
    assert len(period.bounds) == 101 * 12 + 1
    assert period.end - period.start > timedelta(days=36_800)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("today", ("2026-10-25T00:00+02:00", "2026-10-26T00:00+01:00")),
        ("yesterday", ("2026-10-24T00:00+02:00", "2026-10-25T00:00+02:00")),
        ("this-week", ("2026-10-19T00:00+02:00", "2026-10-26T00:00+01:00")),
        ("last-week", ("2026-10-12T00:00+02:00", "2026-10-19T00:00+02:00")),
        ("this-month", ("2026-10-01T00:00+02:00", "2026-11-01T00:00+01:00")),
        ("last-month", ("2026-09-01T00:00+02:00", "2026-10-01T00:00+02:00")),
        ("this-quarter", ("2026-10-01T00:00+02:00", "2027-01-01T00:00+01:00")),
        ("last-quarter", ("2026-07-01T00:00+02:00", "2026-10-01T00:00+02:00")),
        ("this-year", ("2026-01-01T00:00+01:00", "2027-01-01T00:00+01:00")),
        ("last-year", ("2025-01-01T00:00+01:00", "2026-01-01T00:00+01:00")),
        ("1d", ("2026-10-25T00:00+02:00", "2026-10-26T00:00+01:00")),
        ("7d", ("2026-10-19T00:00+02:00", "2026-10-26T00:00+01:00")),
        ("2w", ("2026-10-12T00:00+02:00", "2026-10-26T00:00+01:00")),
        ("24h", ("2026-10-24T20:00+02:00", "2026-10-25T19:00+01:00")),
        ("6h", ("2026-10-25T12:45+01:00", "2026-10-25T18:45+01:00")),
        ("30m", ("2026-10-25T18:04+01:00", "2026-10-25T18:34+01:00")),
    ],
)
def test_relative_ranges_follow_local_time(text: str, expected: tuple[str, str]) -> None:
    """On a Sunday evening in Berlin, after the clocks went back, every range has the bounds that a calendar shows."""
    now = datetime.fromisoformat("2026-10-25T18:33:20+01:00").astimezone(UTC)
    bounds = RANGE.read(text).bounds(now, ZoneInfo("Europe/Berlin"))
    assert bounds == tuple(datetime.fromisoformat(bound) for bound in expected)


def test_a_relative_range_ends_in_the_future() -> None:
    """The query that a relative range resolves to holds now, and the answer repeats its text."""
    query = ask_text(EVENTS, "range=7d&interval=day&timeZone=Asia/Kathmandu")
    assert query.period.start < datetime.now(UTC) < query.period.end
    assert len(query.period.bounds) == 8
    assert query.resolved.range == "7d"


def test_a_filter_of_one_value_is_no_list() -> None:
    """An answer repeats a single value as text, several as a list."""
    assert ask(EVENTS, source="tiktok").resolved.source == "tiktok"
    assert ask(EVENTS, source="tiktok,facebook").resolved.source == ("facebook", "tiktok")
    assert ask(REVENUE, source="tiktok,facebook").resolved.source == ("facebook", "tiktok")
    assert ask(REVENUE, source="tiktok,facebook", campaignId="c").resolved.source == "facebook"
    assert ask(DEMOGRAPHICS, eventType="comment,like").resolved.event_type == ("comment", "like")


def test_a_funnel_has_the_sources_that_have_its_steps() -> None:
    """Without steps each source has its own; given steps keep their order and leave out other sources."""
    assert ask(FUNNEL).resolved.steps == {name: source.funnel for name, source in SOURCES.items()}
    assert ask(FUNNEL, source="tiktok").sources == ("tiktok",)
    assert ask(FUNNEL, steps="video.view,purchase").resolved.steps == {"tiktok": ("video.view", "purchase")}
    both = ask(FUNNEL, steps="video.view,comment").resolved.steps
    assert both == {"facebook": ("video.view", "comment"), "tiktok": ("video.view", "comment")}
