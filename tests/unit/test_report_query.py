"""A report's query: understood to the dead letter, or rejected with the parameter and what is allowed."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest

from reporter.query_params import BadQuery, QueryParams
from reporter.reports import AnyReport
from reporter.reports.demographics import DEMOGRAPHICS
from reporter.reports.event_kinds import EVENT_KINDS
from reporter.reports.events import EVENTS
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
    (EVENTS, "from=2026-11-22T07:00:00&to=2026-11-23", "from", None),
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
    (EVENTS, "from=2026-11-22&to=2026-11-23&source=tiktok&source=tiktok", "source", ()),
    (EVENTS, "from=2026-11-22&to=2026-11-23&funnelStage=middle", "funnelStage", ("top", "bottom")),
    (EVENTS, "from=2026-11-22&to=2026-11-23&groupBy=city", "groupBy", ("source", "funnelStage", "eventType")),
    (EVENTS, "from=2026-11-22&to=2026-11-23&groupBy=source,source", "groupBy", None),
    (EVENTS, "from=2026-11-22&to=2026-11-23&groupBy=source&groupBy=source", "groupBy", None),
    (EVENTS, "from=2026-11-22&to=2026-11-23&groupBy=source&groupBy=city", "groupBy", None),
    (EVENTS, "from=2026-11-22&to=2026-11-23&groupBy=source&groupBy=", "groupBy", None),
    (EVENTS, "from=2026-11-22&to=2026-11-23&interval=day&interval=hour", "interval", None),
    (EVENTS, "from=2026-11-22&to=2026-11-23&interval=year", "interval", None),
    (EVENTS, "from=2026-11-22&to=2026-11-23T00:00:01Z&interval=minute", "interval", None),
    (EVENTS, "from=2000-01-01&to=2100-12-31&interval=15minutes", "interval", None),
    (EVENTS, "from=2026-11-22&to=2026-11-23&source=%ff", None, None),
    (EVENTS, "from=2026-11-22&to=2026-11-23&campaignId=c", "campaignId", tuple(p.name for p in EVENTS.parameters)),
    (EVENTS, "from=2026-11-22&to=2026-11-23&source=tiktok&funnelStage=top&eventType=purchase", "eventType",
     ("video.view", "like", "share", "comment")),
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


@pytest.mark.parametrize("report", [EVENTS, REVENUE, DEMOGRAPHICS])
def test_lists_are_repeated_or_comma_separated(report: AnyReport) -> None:
    """Every list may be sent in repeated parameters, as generated clients do, comma separated, or both; all mean the
    same."""
    for parameter in report.parameters:
        if parameter.is_list:
            first, second = parameter.allowed[:2]
            name = parameter.name
            forms = (f"{name}={first},{second}", f"{name}={first}&{name}={second}", f"{name}={second}&{name}={first}")
            queries = [ask_text(report, f"{urlencode(DAY)}&{form}&source=facebook").resolved for form in forms]
            values = [query.metrics if name == "metrics" else query.group_by for query in queries]
            assert values == [(first, second)] * 3
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
