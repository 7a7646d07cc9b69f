"""Every figure of every report equals a count of the same events in plain Python."""

import random
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import pairwise
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import httpx
import pytest

from collector.maintenance.breakdowns import BreakdownCounter
from ops.local import Servers
from reporter.reports.event_kinds import EVENT_KINDS
from tests.support.drawn import QUARTER, Kept, some_event, some_query
from tests.support.report_rows import collecting, connected, reporter
from tests.support.stack import fresh_database

STEPS = {"minute": timedelta(minutes=1), "15minutes": QUARTER, "hour": timedelta(hours=1)}
EVENTS = 4_000
LATE_EVENTS = 300
"""Events that are stored after the others are counted. They make about a third of the quarter-hours invalid."""
COUNTED_UNTIL = datetime(2026, 10, 27, tzinfo=UTC)
RECOUNTED = 100
QUERIES = 120
MICROSECOND = timedelta(microseconds=1)
REPORTED = """
    INSERT INTO watermarks (source, stored_until, pending_messages) VALUES ($1, $2, 0)
    ON CONFLICT (source) DO UPDATE SET stored_until = $2
"""
KNOWN_COUNTRIES = 996  # of at most 1,000: there is room for a few of those that come


class Given(NamedTuple):
    """What is stored, and a reporter to ask; collector: a connection that may write watermarks."""

    events: list[Kept]
    client: httpx.AsyncClient
    countries: set[str]
    collector: Any


@pytest.fixture(scope="module")
async def given(servers: Servers, template: None) -> AsyncIterator[Given]:
    rng = random.Random(7)
    events = [some_event(rng) for _ in range(EVENTS)]
    async with fresh_database(servers) as database:
        async with connected(database.owner_dsn) as owner:
            fill = "INSERT INTO known_countries SELECT 'filler ' || i FROM generate_series(1, $1::int) AS i"
            await owner.execute(fill, KNOWN_COUNTRIES)
            async with collecting(database.collector_dsn) as collected:
                for start in range(0, EVENTS - LATE_EVENTS, 500):
                    await collected.store(kept.event for kept in events[start : min(start + 500, EVENTS - LATE_EVENTS)])
                async with connected(database.collector_dsn) as session:
                    counters = [BreakdownCounter(session, source) for source in ("facebook", "tiktok")]
                    for counter in counters:
                        assert await counter.count_all(COUNTED_UNTIL) > 500
                    await collected.store(kept.event for kept in events[EVENTS - LATE_EVENTS :])
                    for counter in counters:  # these are valid again, and their hours, days and weeks are not
                        for _ in range(RECOUNTED):
                            await counter.count_quarter(COUNTED_UNTIL, timedelta(0))
                        assert await counter.uncounted(COUNTED_UNTIL) > 0
            countries = {row["country"] for row in await owner.fetch("SELECT country FROM known_countries")}
        async with (
            reporter(database.reporter_dsn) as client,
            connected(database.collector_dsn) as collector,
        ):
            yield Given(events, client, countries, collector)


def key_of(at: datetime, interval: str | None, zone: ZoneInfo) -> Any:
    """What all instants of one bucket share, and no two buckets do."""
    local = at.astimezone(zone)
    match interval:
        case None:
            return None
        case "day":
            return local.date()
        case "week":
            return local.date() - timedelta(days=local.weekday())
        case "month":
            return local.year, local.month
        case "quarter":
            return local.year, (local.month - 1) // 3
        case "year":
            return local.year
        case _:
            wall = local.replace(tzinfo=None)
            return wall - (wall - datetime.min) % STEPS[interval], local.utcoffset()


def check_buckets(rows: list[Any], start: datetime, end: datetime, interval: str | None, zone: ZoneInfo) -> None:
    """The rows' buckets follow one another from start to end, and each instant that begins one begins a row."""
    found = sorted({(datetime.fromisoformat(row["start"]), datetime.fromisoformat(row["end"])) for row in rows})
    assert found[0][0] == start
    assert found[-1][1] == end
    assert all(before[1] == after[0] for before, after in pairwise(found))
    keys = [key_of(begin, interval, zone) for begin, _ in found]
    assert len(set(keys)) == len(keys)
    step = timedelta(minutes=1 if interval == "minute" else 15)
    at = start - (start - datetime(2000, 1, 1, tzinfo=UTC)) % step + step
    walked = {key_of(start, interval, zone)}
    while at < end:
        walked.add(key_of(at, interval, zone))
        at += step
    assert set(keys) == walked


async def ask(given: Given, report: str, parameters: dict[str, str]) -> Any:
    response = await given.client.get(f"/reports/{report}", params=parameters)
    assert response.status_code == 200, response.text
    return response.json()


ATTRIBUTES = {"source": "source", "funnelStage": "funnel_stage", "eventType": "event_type"}
OF = {
    "facebook": ("age", "ageBand", "gender", "country", "city", "age:gender", "ageBand:gender"),
    "tiktok": ("followers", "country", "device"),
}
DIMENSIONS: dict[str, Callable[[Kept], str]] = {
    "source": lambda kept: kept.source,
    "funnelStage": lambda kept: kept.funnel_stage,
    "eventType": lambda kept: kept.event_type,
}


def share_of(part: int, whole: int) -> float | None:
    """A ratio as reports round it; nothing if there is nothing to divide by."""
    return round(part / whole, 6) if whole else None


@pytest.mark.parametrize("seed", range(QUERIES))
async def test_events(given: Given, seed: int) -> None:
    """Counts of events and their shares, by any bucket, filters of one or several values, and groups."""
    rng = random.Random(seed)
    kinds = rng.sample(EVENT_KINDS, rng.choice((1, 1, 2, 4)))
    sources, stages, types = (",".join(sorted({str(kind[part]) for kind in kinds})) for part in range(3))
    parameters, start, end, interval = some_query(
        rng, source=(sources,), funnelStage=(stages,), eventType=(types,), metrics=("share", "events,share")
    )
    by = rng.sample(sorted(DIMENSIONS), rng.randrange(4)) if interval != "15minutes" else []
    if by:
        parameters["groupBy"] = ",".join(by)
    zone = ZoneInfo(parameters["timeZone"])

    expected = Counter(
        (key_of(kept.at, interval, zone), *(DIMENSIONS[name](kept) for name in sorted(by)))
        for kept in given.events
        if start <= kept.at < end
        and all(DIMENSIONS[name](kept) in parameters[name].split(",") for name in DIMENSIONS if name in parameters)
    )
    answer = await ask(given, "events", parameters)
    found = {
        (key_of(datetime.fromisoformat(row["start"]), interval, zone), *(row[name] for name in sorted(by))): row
        for row in answer["rows"]
    }
    assert len(found) == len(answer["rows"])
    assert {key: row["events"] for key, row in found.items() if row["events"]} == expected
    of_bucket: Counter[Any] = Counter()
    for key, events in expected.items():
        of_bucket[key[0]] += events
    for key, row in found.items():
        assert ("share" in row) == ("metrics" in parameters)
        if "share" in row:
            assert row["share"] == share_of(expected[key], of_bucket[key[0]])
    assert answer["totals"] == {"events": expected.total()}
    check_buckets(answer["rows"], start, end, interval, zone)


STEP_LISTS = (
    "ad.view,checkout.complete",
    "ad.click,ad.view,page.like",
    "video.view,comment",
    "purchase,video.view,like",
)
FUNNELS = {"facebook": "ad.view,ad.click,checkout.complete", "tiktok": "video.view,profile.visit,purchase"}


@pytest.mark.parametrize("seed", range(QUERIES))
async def test_funnel(given: Given, seed: int) -> None:
    """Events of each step and their rates, of each source that has the steps, in any bucket and over the range."""
    rng = random.Random(seed)
    parameters, start, end, interval = some_query(rng, source=("facebook", "tiktok", "facebook,tiktok"))
    if interval in ("minute", "15minutes"):
        end = min(end, start + STEPS[interval] * 60)
        parameters["to"] = end.isoformat()
    types = {source: {str(kind.event_type) for kind in EVENT_KINDS if kind.source == source} for source in FUNNELS}
    funnels = {source: FUNNELS[source] for source in parameters.get("source", "facebook,tiktok").split(",")}
    steps = rng.choice((None, *STEP_LISTS))
    if steps and (having := [source for source in funnels if types[source].issuperset(steps.split(","))]):
        parameters["steps"] = steps
        funnels = dict.fromkeys(having, steps)
    zone = ZoneInfo(parameters["timeZone"])

    counted = Counter(
        (key, kept.source, kept.event_type)
        for kept in given.events
        if start <= kept.at < end
        for key in ((key_of(kept.at, interval, zone),), "all")
    )

    def figures(bucket: Any) -> list[tuple[Any, ...]]:
        expected = []
        for source, funnel in funnels.items():
            events = [counted[bucket, source, event_type] for event_type in funnel.split(",")]
            for number, event_type in enumerate(funnel.split(",")):
                rate = share_of(events[number], events[number - 1]) if number else None
                overall = share_of(events[number], events[0])
                expected.append((source, number + 1, event_type, events[number], rate, overall))
        return expected

    answer = await ask(given, "funnel", parameters)
    assert answer["query"]["steps"] == {source: funnel.split(",") for source, funnel in funnels.items()}
    assert set(answer["freshness"]) == set(funnels)
    names = ("source", "step", "eventType", "events", "rate", "overallRate")
    of_bucket: dict[str, list[tuple[Any, ...]]] = {}
    for row in answer["rows"]:
        of_bucket.setdefault(row["start"], []).append(tuple(row[name] for name in names))
    for begin, rows in of_bucket.items():
        assert rows == figures((key_of(datetime.fromisoformat(begin), interval, zone),))
    assert [tuple(total[name] for name in names) for total in answer["totals"]] == figures("all")
    check_buckets(answer["rows"], start, end, interval, zone)


@pytest.mark.parametrize("seed", range(QUERIES))
async def test_revenue(given: Given, seed: int) -> None:
    """Sums of money and counts of purchases, by any bucket, source and campaign; to the cent."""
    rng = random.Random(seed)
    parameters, start, end, interval = some_query(rng, source=("facebook", "tiktok", "facebook,tiktok"))
    by = rng.random() < 0.5
    if by:
        parameters["groupBy"] = "source"
    metrics: tuple[str, ...] = rng.choice(
        ((), ("averageOrderValue",), ("conversion",), ("averageOrderValue", "conversion", "revenue"))
    )
    if parameters.get("source") != "tiktok" and rng.random() < 0.4:
        parameters["campaignId"] = f"camp-{rng.randrange(20)}"
        metrics = tuple(metric for metric in metrics if metric != "conversion")
    if metrics:
        parameters["metrics"] = ",".join(metrics)
    sources = parameters.get("source", "facebook,tiktok").split(",")
    zone = ZoneInfo(parameters["timeZone"])

    def requested_for(kept: Kept) -> bool:
        campaign = kept.event["data"]["engagement"].get("campaignId")
        return (
            start <= kept.at < end
            and kept.event_type in ("checkout.complete", "purchase")
            and kept.source in sources
            and parameters.get("campaignId", campaign) == campaign
        )

    revenue: dict[Any, Decimal] = {}
    purchases: Counter[Any] = Counter()
    for kept in filter(requested_for, given.events):
        key = key_of(kept.at, interval, zone), kept.source if by else None
        revenue[key] = revenue.get(key, Decimal("0.00")) + (kept.amount or 0)
        purchases[key] += 1

    first_steps = Counter(
        (key_of(kept.at, interval, zone), kept.source if by else None)
        for kept in given.events
        if start <= kept.at < end and kept.source in sources
        and kept.event_type == {"facebook": "ad.view", "tiktok": "video.view"}[kept.source]
    )  # fmt: skip

    def derived(paid: Decimal, orders: int, views: int) -> dict[str, Any]:
        average = str((paid / orders).quantize(Decimal("0.01"), ROUND_HALF_UP)) if orders else None
        figures = {"averageOrderValue": average, "conversion": share_of(orders, views)}
        return {name: figure for name, figure in figures.items() if name in metrics}

    answer = await ask(given, "revenue", parameters)
    assert answer["currency"] is None
    found = {
        (key_of(datetime.fromisoformat(row["start"]), interval, zone), row.get("source")): row for row in answer["rows"]
    }
    assert len(found) == len(answer["rows"])
    assert {key: row["purchases"] for key, row in found.items() if row["purchases"]} == purchases
    for key, row in found.items():
        assert row["revenue"] == f"{revenue.get(key, Decimal(0)):.2f}"
        more = {name: row[name] for name in ("averageOrderValue", "conversion") if name in row}
        assert more == derived(revenue.get(key, Decimal(0)), purchases[key], first_steps[key])
    total = sum(revenue.values(), Decimal(0))
    totals = {"revenue": f"{total:.2f}", "purchases": purchases.total()}
    assert answer["totals"] == totals | derived(total, purchases.total(), first_steps.total())
    check_buckets(answer["rows"], start, end, interval, zone)


def band(followers: int) -> str:
    for name, least in (("1000000+", 10**6), ("100000-999999", 10**5), ("10000-99999", 10**4), ("1000-9999", 10**3)):
        if followers >= least:
            return name
    return "0-999"


BANDS = {17: "0-17", 24: "18-24", 34: "25-34", 44: "35-44", 54: "45-54", 64: "55-64", 10**6: "65+"}


def values_of(kept: Kept, countries: set[str]) -> dict[str, Any]:
    """What the event says of who caused it, by dimension."""
    user, engagement = kept.event["data"]["user"], kept.event["data"]["engagement"]
    if kept.source == "tiktok":
        found: dict[str, Any] = {"followers": band(user["followers"])}
        if kept.funnel_stage == "top":
            country = engagement["country"]
            found |= {"country": country if country in countries else None, "device": engagement["device"]}
        return found
    age, location = user["age"], user["location"]
    label, band_name = str(age) if age < 120 else "120+", next(name for most, name in BANDS.items() if age <= most)
    return {
        "age": label,
        "ageBand": band_name,
        "gender": user["gender"],
        "age:gender": (label, user["gender"]),
        "ageBand:gender": (band_name, user["gender"]),
        "country": location["country"] if location["country"] in countries else None,
        "city": location["city"],
    }


def largest(counts: Counter[Any], top: int) -> set[Any]:
    """The values with the largest figures."""
    return {value for value, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:top]}


def listed(counts: Counter[Any], values: set[Any]) -> dict[Any, Any]:
    """These values, and the rest as None."""
    found: dict[Any, Any] = {}
    for value, figure in counts.items():
        name = value if value in values else None
        found[name] = found.get(name, 0) + figure
    return found


def key_of_share(share: Any) -> Any:
    """The value of a share, or both values of a pair."""
    return (share["value"], share["second"]) if "second" in share else share["value"]


def json_name(dimension: str) -> str:
    """age:gender is ageGender in an answer."""
    first, _, second = dimension.partition(":")
    return first + second.capitalize()


@pytest.mark.parametrize("seed", range(QUERIES))
async def test_demographics(given: Given, seed: int) -> None:
    """Every value of every dimension, by any bucket and filter; what is past the bound or the top counts as other."""
    rng = random.Random(seed)
    kind = rng.choice(EVENT_KINDS)
    parameters, start, end, interval = some_query(
        rng, source=(str(kind.source),), funnelStage=(str(kind.funnel_stage),), eventType=(str(kind.event_type),)
    )
    if interval in ("minute", "15minutes", "hour", "day"):
        end = min(end, start + STEPS.get(interval, timedelta(days=1)) * 20)
        parameters["to"] = end.isoformat()
    sources = ["facebook", "tiktok"]
    if filtered := {name: DIMENSIONS[name] for name in DIMENSIONS if name in parameters}:
        sources = [source for source in sources if any(
            str(k.source) == source and all(getattr(k, ATTRIBUTES[name]) == parameters[name] for name in filtered)
            for k in EVENT_KINDS
        )]  # fmt: skip
    known = ["age", "ageBand", "gender", "country", "city", "followers", "device", "age:gender", "ageBand:gender"]
    by = rng.sample(known, rng.randrange(1, 7)) if rng.random() < 0.7 else []
    if by and any(dimension in OF[source] for dimension in by for source in sources):
        parameters["groupBy"] = ",".join(by)
    else:
        by = [dimension for dimension in known if dimension != "ageBand" and ":" not in dimension]
    metrics = rng.choice((None, "events", "revenue", "events,revenue"))
    if metrics:
        parameters["metrics"] = metrics
    with_revenue = "revenue" in (metrics or "")
    top = rng.choice((1, 5, 50))
    parameters["top"] = str(top)
    zone = ZoneInfo(parameters["timeZone"])

    expected: dict[Any, Counter[Any]] = {}
    revenue: dict[Any, Any] = {}
    cities: dict[str, Counter[Any]] = {"events": Counter(), "revenue": Counter()}
    for kept in given.events:
        if start <= kept.at < end and all(of(kept) == parameters[name] for name, of in filtered.items()):
            for dimension, value in {"events": None, **values_of(kept, given.countries)}.items():
                key = key_of(kept.at, interval, zone), kept.source, dimension
                expected.setdefault(key, Counter())[value] += 1
                revenue.setdefault(key, Counter())[value] += kept.amount or 0
                if dimension == "city":
                    cities["events"][value] += 1
                    cities["revenue"][value] += kept.amount or 0  # type: ignore[assignment]
    listed_cities = largest(cities["revenue" if metrics == "revenue" else "events"], top)

    answer = await ask(given, "demographics", parameters)
    assert answer["notes"] == []
    assert "exact" not in answer
    seen = set()
    for row in answer["rows"]:
        bucket, source = key_of(datetime.fromisoformat(row["start"]), interval, zone), row["source"]
        seen.add((bucket, source))
        assert row["events"] == expected.get((bucket, source, "events"), Counter()).total()
        assert set(row) == {
            "start",
            "end",
            "complete",
            "source",
            "events",
            *(["revenue"] if with_revenue else []),
            *(json_name(name) for name in by if name in OF[source]),
        }
        if with_revenue:
            paid = sum(revenue.get((bucket, source, "events"), Counter()).values(), Decimal(0))
            assert row["revenue"] == f"{paid:.2f}"
        for dimension in set(by) & set(OF[source]):
            found = row[json_name(dimension)]
            shares = {key_of_share(share): share for share in found}
            assert len(shares) == len(found)
            counted, amounts = (
                listed(of.get((bucket, source, dimension), Counter()), listed_cities) if dimension == "city"
                else of.get((bucket, source, dimension), Counter())
                for of in (expected, revenue)
            )  # fmt: skip
            assert {value: share["events"] for value, share in shares.items()} == counted
            if with_revenue:
                assert {value: Decimal(share["revenue"]) for value, share in shares.items()} == amounts
            else:
                assert not any("revenue" in share for share in found)
    assert len(seen) == len(answer["rows"])
    assert {(bucket, source) for bucket, source, _ in expected} <= seen
    assert answer["totals"]["events"] == sum(
        counts.total() for (_, _, name), counts in expected.items() if name == "events"
    )
    check_buckets(answer["rows"], start, end, interval, zone)


@pytest.mark.parametrize("seed", range(20))
async def test_campaigns(given: Given, seed: int) -> None:
    """The campaigns with most revenue each have their rows, in every bucket; the rest is other."""
    rng = random.Random(seed)
    parameters, start, end, interval = some_query(rng)
    if interval in ("minute", "15minutes", "hour"):
        end = min(end, start + STEPS[interval] * 40)
        parameters["to"] = end.isoformat()
    top = rng.choice((1, 3, 100))
    zone = ZoneInfo(parameters["timeZone"])
    paid: dict[str, dict[Any, Decimal]] = {}
    for kept in given.events:
        if start <= kept.at < end and kept.event_type == "checkout.complete":
            of = paid.setdefault(kept.event["data"]["engagement"]["campaignId"], {})
            key = key_of(kept.at, interval, zone)
            of[key] = of.get(key, Decimal(0)) + (kept.amount or 0)
    first = sorted(paid, key=lambda campaign: (-sum(paid[campaign].values()), campaign))[:top]
    expected: dict[Any, Decimal] = {}
    for campaign, of in paid.items():
        for key, amount in of.items():
            group = key, campaign if campaign in first else None
            expected[group] = expected.get(group, Decimal(0)) + amount
    answer = await ask(given, "revenue", parameters | {"groupBy": "campaignId", "top": str(top)})
    assert answer["query"]["source"] == "facebook"
    found = {
        (key_of(datetime.fromisoformat(row["start"]), interval, zone), row["campaignId"]): Decimal(row["revenue"])
        for row in answer["rows"]
    }
    assert len(found) == len(answer["rows"])
    assert {key: amount for key, amount in found.items() if amount} == {k: a for k, a in expected.items() if a}
    assert [row["campaignId"] for row in answer["rows"][: len(first) + 1]] == [*first, None]


DERIVED = ("share", "averageOrderValue", "conversion", "rate", "overallRate")


def previous_name(name: str) -> str:
    return f"previous{name[0].upper()}{name[1:]}"


@pytest.mark.parametrize("seed", range(60))
async def test_the_previous_period(given: Given, seed: int) -> None:
    """Beside each figure is that of the same report of the period before or of the year before, bucket by bucket."""
    rng = random.Random(seed)
    report = rng.choice(("events", "revenue", "funnel", "demographics"))
    parameters, *_, interval = some_query(rng)
    if interval in ("minute", "15minutes", "hour"):
        parameters["to"] = (datetime.fromisoformat(parameters["from"]) + STEPS[interval] * 30).isoformat()
    if report == "demographics":
        parameters["groupBy"] = "age,gender,country,followers,device"
    elif report != "funnel":
        parameters |= {
            "groupBy": "source",
            "metrics": "share" if report == "events" else "averageOrderValue,conversion",
        }
    compared = rng.choice(("previous", "year"))
    now = await ask(given, report, parameters | {"compare": compared})
    compare = now["query"]["compare"]
    assert compare["to"] <= now["query"]["from"] or compared == "year"
    alone = len({row["start"] for row in now["rows"]}) == 1  # one bucket stands beside one
    requested = {name: value for name, value in parameters.items() if name != "interval" or not alone}
    before = await ask(given, report, requested | {"from": compare["from"], "to": compare["countedUntil"]})
    for number, row in enumerate(now["rows"]):
        then = before["rows"][number] if number < len(before["rows"]) else None
        for name in ("events", "revenue", "purchases", *DERIVED):
            if name in row:
                assert row[previous_name(name)] == (then[name] if then else None)
        for shares in (row[name] for name in ("age", "gender", "country", "followers", "device") if name in row):
            assert all((share["previous"] is None) == (then is None) for share in shares)
        if then:
            for name in ("age", "gender", "country", "followers", "device"):
                if name in then:
                    previous = {share["value"]: share["previous"] for share in row[name] if share["previous"]}
                    assert previous == {share["value"]: share["events"] for share in then[name]}
    totals = (
        [(now["totals"], before["totals"])] if report != "funnel" else zip(now["totals"], before["totals"], strict=True)
    )
    for total, total_before in totals:
        for name, figure in total_before.items():
            if name not in ("source", "step", "eventType"):
                assert total[previous_name(name)] == figure


@pytest.mark.parametrize(
    ("start", "end", "more", "expected"),
    [
        ("2026-04-01", "2026-07-01", {"interval": "month"}, ("2025-04-01", "2025-07-01")),
        ("2024-02-29", "2024-03-01", {}, ("2023-02-28", "2023-03-01")),
        ("2024-02-28T12:00:00Z", "2024-02-29T06:00:00Z", {}, ("2023-02-28T12:00:00Z", "2023-03-01T06:00:00Z")),
        ("2026-11-16", "2026-11-30", {"interval": "week"}, ("2025-11-17", "2025-12-01")),
        ("2025-01-01", "2027-01-01", {"interval": "year"}, ("2024-01-01", "2026-01-01")),
    ],
)
async def test_the_year_before(
    given: Given, start: str, end: str, more: dict[str, str], expected: tuple[str, str]
) -> None:
    """compare=year is the same range of the calendar one year earlier; weeks stay whole."""
    answer = await ask(given, "events", {"from": start, "to": end, "compare": "year", **more})
    compare = answer["query"]["compare"]
    assert tuple(compare[name].removesuffix("T00:00:00Z") for name in ("from", "to")) == expected


def local_day(at: datetime, zone: ZoneInfo) -> tuple[date, timedelta]:
    """The day that the local clock shows, and the time since its start."""
    day = at.astimezone(zone).date()
    return day, at - datetime.combine(day, time(), zone).astimezone(UTC)


def beside(
    at: datetime, start: datetime, before: tuple[datetime, datetime], *, by_days: bool, zone: ZoneInfo
) -> datetime:
    """The instant that has passed as much of the bucket `before` as `at` has of the one that begins at start."""
    moved = before[0] + (at - start)
    if by_days:
        (today, passed), (first, _), (then, _) = (local_day(each, zone) for each in (at, start, before[0]))
        moved = datetime.combine(then + (today - first), time(), zone).astimezone(UTC) + passed
    return min(max(moved, before[0]), before[1])


@pytest.mark.parametrize("seed", range(QUERIES))
async def test_a_running_range_is_compared_so_far(given: Given, seed: int) -> None:
    """With a watermark anywhere in or around the range, previous figures count the same part of the period before,
    across changes of clocks; a bucket is complete if the range does not cut it and the watermark has passed its end."""
    rng = random.Random(seed)
    parameters, start, end, interval = some_query(rng)
    if interval in STEPS:
        end = start + STEPS[interval] * 30
        parameters["to"] = end.isoformat()
    zone = ZoneInfo(parameters["timeZone"])
    if rng.random() < 0.5:  # whole days
        start, end = (
            datetime.combine(at.astimezone(zone).date(), time(), zone) for at in (start, end + timedelta(days=1))
        )
        parameters |= {"from": str(start.date()), "to": str(end.date())}
        if interval == "minute":
            del parameters["interval"]
            interval = None
        start, end = start.astimezone(UTC), end.astimezone(UTC)
    until = start + (end - start) * rng.uniform(-0.1, 1.1)
    later = until + timedelta(hours=rng.randrange(3))
    for source, at in zip(rng.sample(("facebook", "tiktok"), 2), (until, later), strict=True):
        await given.collector.execute(REPORTED, source, at)
    now = await ask(given, "events", parameters | {"compare": "previous"})
    compare = {name: datetime.fromisoformat(at) for name, at in now["query"]["compare"].items()}
    alone = len(now["rows"]) == 1
    requested = {name: value for name, value in parameters.items() if name != "interval" or not alone}
    whole = await ask(
        given, "events", requested | {"from": now["query"]["compare"]["from"], "to": now["query"]["compare"]["to"]}
    )
    buckets, before = (
        [(datetime.fromisoformat(row["start"]), datetime.fromisoformat(row["end"])) for row in said["rows"]]
        for said in (now, whole)
    )
    whole_days = all(not local_day(bound, zone)[1] for bound in (start, end))
    by_days = whole_days if alone else interval not in STEPS
    expected: list[int | None] = []
    counted_until = compare["to"] if until >= end or len(before) < len(buckets) else compare["from"]
    for number, (begin, finish) in enumerate(buckets):
        if number >= len(before) or (until <= begin and number):
            expected.append(None)
            continue
        cut = before[number][1]
        if until <= begin:
            cut = before[number][0]
        elif until < finish:
            cut = beside(until, begin, before[number], by_days=by_days, zone=zone)
        counted_until = cut if until < end else compare["to"]
        expected.append(sum(before[number][0] <= kept.at < cut for kept in given.events))
    assert [row["previousEvents"] for row in now["rows"]] == expected
    assert now["totals"]["previousEvents"] == sum(filter(None, expected))
    assert compare["countedUntil"] == counted_until
    assert [row["complete"] for row in now["rows"]] == [
        finish <= until
        and key_of(begin - MICROSECOND, interval, zone) != key_of(begin, interval, zone)
        and key_of(finish - MICROSECOND, interval, zone) != key_of(finish, interval, zone)
        if interval
        else finish <= until
        for begin, finish in buckets
    ]


@pytest.mark.parametrize("report", ["events", "revenue", "funnel", "demographics"])
async def test_pages_together_are_the_whole(given: Given, report: str) -> None:
    """Page by page the same rows come as at once, with the totals of all; the last page has no next."""
    parameters = {"from": "2026-03-01", "to": "2026-11-10", "interval": "week", "timeZone": "Europe/Berlin"}
    if report not in ("demographics", "funnel"):
        parameters["groupBy"] = "source"
    whole = await ask(given, report, parameters)
    rows: list[Any] = []
    after: dict[str, str] = {}
    while True:
        page = await ask(given, report, parameters | {"limit": "7"} | after)
        assert page["totals"] == whole["totals"]
        assert 0 < len(page["rows"]) <= 7
        rows += page["rows"]
        if page["next"] is None:
            break
        after = {"after": page["next"]}
    assert rows == whole["rows"]


async def test_countries_past_the_bound_are_among_the_events(given: Given) -> None:
    """The events above do hold countries that have no rollup of their own: what the tests say of other is tried."""
    came = {f"country {number}" for number in range(13)}
    assert came & given.countries
    assert came - given.countries
