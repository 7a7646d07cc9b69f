"""`sluice report`: request a report from the reporter over HTTP and print it.

The options are the parameters that each report declares. The reporter validates their values; the command prints its
error message and returns code 2.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import orjson
from rich.markup import escape

from core import http_client
from core.errors import SluiceError
from ops.cli.arguments import moment
from ops.cli.connection import Unreachable
from ops.cli.output import console, safe, table
from ops.cli.parser import command
from ops.settings import OperatorSettings
from reporter.formats import LIKE_OTHER, OTHER
from reporter.query_params import AnyParameter
from reporter.reports import AnyReport
from reporter.reports.audience import DIMENSIONS, json_name
from reporter.reports.demographics import DEMOGRAPHICS
from reporter.reports.events import EVENTS
from reporter.reports.funnel import FUNNEL
from reporter.reports.report import VERSION_PREFIX
from reporter.reports.revenue import REVENUE

REPORTS: Final[tuple[tuple[AnyReport, str], ...]] = (
    (EVENTS, "count events"),
    (REVENUE, "sum revenue and purchases"),
    (FUNNEL, "count events by the steps of a funnel, with the rates from step to step"),
    (DEMOGRAPHICS, "count events by age, country and so on"),
)
ACCEPT: Final = {"text": "application/json", "json": "application/json", "csv": "text/csv"}
DEFAULT_FROM: Final = "24h"
REQUEST_TIMEOUT_SECONDS: Final = 120.0
"""Longer than the time-out of the reporter (REPORTER_STATEMENT_TIMEOUT_SECONDS)."""
INCOMPLETE_MARK: Final = "~"
EXAMPLES: Final[dict[str, tuple[str, ...]]] = {
    "events": (
        "sluice report events --from 7d --interval day",
        "sluice report events --from 2026-11-22 --to 2026-11-23 --group-by source,funnelStage",
    ),
    "revenue": (
        "sluice report revenue --from 24h --group-by source",
        "sluice report revenue --from 30d --format csv",
        "sluice report revenue --range this-month --metrics averageOrderValue,conversion --compare year",
    ),
    "funnel": (
        "sluice report funnel --range 7d",
        "sluice report funnel --range last-month --interval week --steps ad.view,ad.click,checkout.complete",
    ),
    "demographics": ("sluice report demographics --from 7d", "sluice report demographics --from 7d --format json"),
}
NUMBERS: Final = (
    "events",
    "revenue",
    "purchases",
    "average order value",
    "conversion",
    "share",
    "rate",
    "step",
    "error",
)
"""Columns that end with these are numbers."""
_VALUES: Final = frozenset({"value", "second"})
_FIGURES: Final = {"previous": "previousEvents", "previousError": "previousEventsError"}
_AGO: Final = re.compile(r"[0-9]{1,6}[smhd]")


def options(group: Any) -> None:
    """Add a command for each report, with an option for each of its parameters."""
    for report, summary in REPORTS:
        document = (
            f"the answer of GET {VERSION_PREFIX}{report.path}, which the reporter describes in its OpenAPI document"
        )
        parser = command(
            group, report.name, summary, examples=EXAMPLES[report.name], document=document, formats=tuple(ACCEPT)
        )
        for parameter in report.parameters:
            _option(parser, parameter)
        parser.set_defaults(run=lambda settings, options, report=report: run(settings, report, options))


def _option(parser: argparse.ArgumentParser, parameter: AnyParameter) -> None:
    name = "--" + _words(parameter.name).replace(" ", "-")
    words = parameter.description.replace("`", "").replace("%", "%%")
    if parameter.allowed:
        words += f" One of: {', '.join(parameter.allowed)}" + (", comma separated." if parameter.is_list else ".")
    if parameter.name == "from":
        words = (
            "Start, inclusive: 2026-11-22T07:00:00Z, a date or a local time in --time-zone, or an age: 2h, 3d "
            f"(default {DEFAULT_FROM})"
        )
    elif parameter.name == "to":
        words = "End, exclusive; written like --from (default: now)"
    parser.add_argument(
        name, dest=parameter.name, metavar="WHEN" if parameter.name in ("from", "to") else "VALUE", help=words
    )


async def run(settings: OperatorSettings, report: AnyReport, options: argparse.Namespace) -> int:
    """Request a report and print it; return 2 if the reporter rejects the query. Raises Unreachable."""
    query = {parameter.name: getattr(options, parameter.name) for parameter in report.parameters}
    if query["range"] is None:
        query |= {"from": query["from"] or DEFAULT_FROM, "to": query["to"] or "0s"}
    query |= {name: _when(query[name]) for name in ("from", "to") if query[name] is not None}
    address = f"{settings.reporter_url.rstrip('/')}{VERSION_PREFIX}{report.path}?" + urlencode(
        {name: value for name, value in query.items() if value is not None}
    )
    try:
        status, body = await asyncio.to_thread(
            http_client.get,
            address,
            seconds=REQUEST_TIMEOUT_SECONDS,
            accept=ACCEPT[options.format],
            headers=http_client.bearer(settings.reporter_token),
        )
    except OSError as error:
        raise Unreachable("the reporter", settings.reporter_url, "REPORTER_URL", error) from error
    if status != 200:
        message = _problem(status, body)
        if status == 401:
            message += " (REPORTER_TOKEN, REPORTER_TOKEN_FILE)"
        if status >= 500:
            raise SluiceError(message)
        sys.stderr.write(f"sluice: {message}\n")
        return 2
    if options.format == "text":
        _print(orjson.loads(body), report)
    else:
        sys.stdout.buffer.write(body if body.endswith(b"\n") else body + b"\n")
        sys.stdout.buffer.flush()
    return 0


def _when(text: str) -> str:
    """Return an age as an instant. The reporter parses every other text, in --time-zone."""
    return moment(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if _AGO.fullmatch(text) else text


def _problem(status: int, body: bytes) -> str:
    """Return a problem document as one sentence."""
    try:
        problem = orjson.loads(body)
        allowed = f"; allowed: {', '.join(problem['allowed'])}" if problem.get("allowed") else ""
        return f"{problem['detail']}{allowed}"
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return f"the reporter answered {status} without a problem document: is REPORTER_URL correct?"


def _print(answer: Mapping[str, Any], report: AnyReport) -> None:
    """Print a table of the rows; below it the totals, their freshness and notes."""
    lines = list(_shares(answer["rows"]) if report is DEMOGRAPHICS else answer["rows"])
    names = [name for name in (lines[0] if lines else ()) if name not in ("end", "complete")]
    cells = [[_text(name, line[name]) + _mark(name, line) for name in names] for line in lines]
    shown = table([_words(name) for name in names], cells, cut=("campaign id", "value"))
    for column, name in zip(shown.columns, names, strict=True):
        column.justify = "right" if _words(name).endswith(NUMBERS) else "left"
    query, out = answer["query"], console()
    out.print(shown)
    zone = ZoneInfo(query["timeZone"])
    sums = _steps(answer["totals"]) if report is FUNNEL else _figures(answer["totals"])
    out.print(f"\ntotal: {sums}; {_period(query, zone)}, time zone {zone.key}")
    if report is FUNNEL:
        out.print("a funnel counts events, not people")
    if not all(line["complete"] for line in lines):
        out.print(
            f"{INCOMPLETE_MARK} marks an incomplete bucket: the range cuts it, it has not ended, or its events are not "
            "all stored"
        )
    if query["compare"]:
        out.print(f"previous: {_period(query['compare'], zone)}{_so_far(query['compare'], zone)}")
    for source, fresh in answer["freshness"].items():
        out.print(f"{source}: includes all events accepted up to {fresh['storedUntil'] or '(not known yet)'}")
    if not answer.get("exact", True):
        out.print("not exact: rare values were cut off; the columns of errors have the largest error of each figure")
    for note in answer.get("notes", ()):
        out.print(escape(note))
    if answer["next"]:
        out.print(f"more rows follow: --after {answer['next']}")


def _figures(totals: Mapping[str, Any]) -> str:
    return ", ".join(f"{_words(name)} {_text(name, value)}" for name, value in totals.items())


def _steps(totals: Sequence[Mapping[str, Any]]) -> str:
    """Return the steps of each source with their events and the rate from the step before."""
    funnels: dict[str, list[str]] = {}
    for step in totals:
        rate = "" if step["rate"] is None else f" ({_text('rate', step['rate'])})"
        funnels.setdefault(step["source"], []).append(f"{step['eventType']} {_text('events', step['events'])}{rate}")
    return "; ".join(f"{source}: {', '.join(steps)}" for source, steps in funnels.items())


def _period(of: Mapping[str, Any], zone: ZoneInfo) -> str:
    start, end = (datetime.fromisoformat(of[name]).astimezone(zone).isoformat(" ") for name in ("from", "to"))
    return f"from {start} to {end}"


def _so_far(compare: Mapping[str, Any], zone: ZoneInfo) -> str:
    if compare["countedUntil"] == compare["to"]:
        return ""
    at = datetime.fromisoformat(compare["countedUntil"]).astimezone(zone).isoformat(" ", "seconds")
    return f", counted until {at}: the same share of it as has passed of the current period"


def _shares(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield one line for each value of each dimension of demographics."""
    for row in rows:
        for dimension in DIMENSIONS:
            for share in row.get(json_name(dimension)) or ():
                line = {"start": row["start"], "complete": row["complete"], "source": row["source"]}
                value = f"{share['value']}, {share['second']}" if "second" in share else share["value"]
                figures = {_FIGURES.get(name, name): figure for name, figure in share.items() if name not in _VALUES}
                yield line | {"dimension": dimension, "value": value} | figures


def _words(name: str) -> str:
    """Return a name of the API in words: campaignId becomes campaign id."""
    return re.sub("([A-Z])", r" \1", name).lower()


def _mark(name: str, line: Mapping[str, Any]) -> str:
    return f" {INCOMPLETE_MARK}" if name == "start" and not line["complete"] else ""


def _text(name: str, value: Any) -> str:
    if value is None:
        return OTHER if name in ("campaignId", "value") else ""
    if name == "start":
        return datetime.fromisoformat(value).isoformat(" ", "minutes").removesuffix("+00:00")
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.2%}"
    return f"'{value}" if LIKE_OTHER.fullmatch(value) else safe(value)
