"""`ops report`: the reporter's reports in a terminal, asked for over HTTP like everybody else's.

The options are the parameters that the reports declare, so there is none that the reporter does not know; their values
are the reporter's to judge. What it rejects is told in one sentence, code 2.
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

from core import ask
from core.errors import SluiceError
from ops.cli.arguments import moment
from ops.cli.connection import Unreachable
from ops.cli.output import console, safe, table
from ops.settings import OperatorSettings
from reporter.formats import LIKE_OTHER, OTHER
from reporter.query import AnyParameter
from reporter.reports import AnyReport
from reporter.reports.audience import DIMENSIONS
from reporter.reports.demographics import DEMOGRAPHICS
from reporter.reports.events import EVENTS
from reporter.reports.revenue import REVENUE

REPORTS: Final[tuple[tuple[AnyReport, str], ...]] = (
    (EVENTS, "how many events there were"),
    (REVENUE, "what was paid"),
    (DEMOGRAPHICS, "who the events come from"),
)
ACCEPT: Final = {"text": "application/json", "json": "application/json", "csv": "text/csv"}
SINCE: Final = "24h"
PATIENCE_SECONDS: Final = 120.0
"""Longer than any report may take: the reporter gives up by itself (REPORTER_STATEMENT_TIMEOUT_SECONDS)."""
PART: Final = "~"
_AGO: Final = re.compile(r"[0-9]{1,6}[smhd]")


def options(group: Any) -> None:
    """A command for each report, with an option for each of its parameters."""
    for report, what in REPORTS:
        parser = group.add_parser(report.name, help=what, description=f"{what[0].upper()}{what[1:]}.")
        for parameter in report.parameters:
            _option(parser, parameter)
        parser.add_argument("--format", choices=tuple(ACCEPT), default="text", help="for people, or for programs")
        parser.set_defaults(run=lambda settings, given, report=report: run(settings, report, given))


def _option(parser: argparse.ArgumentParser, parameter: AnyParameter) -> None:
    name = "--" + _words(parameter.name).replace(" ", "-")
    words = parameter.description.replace("`", "").replace("%", "%%")
    if parameter.allowed:
        words += f" Of: {', '.join(parameter.allowed)}" + (", comma separated." if parameter.several else ".")
    if parameter.name == "from":
        words = (
            f"First instant, inclusive: 2026-11-22T07:00:00Z, a date in --time-zone, or how long ago: 2h, 3d ({SINCE})"
        )
    elif parameter.name == "to":
        words = "End, exclusive; written like --from (now)"
    parser.add_argument(name, dest=parameter.name, metavar="WHEN" if parameter.required else "VALUE", help=words)


async def run(settings: OperatorSettings, report: AnyReport, given: argparse.Namespace) -> int:
    """Ask for a report and print it; 2 where the reporter rejects the query. Raises Unreachable."""
    query = {parameter.name: getattr(given, parameter.name) for parameter in report.parameters}
    query |= {"from": _when(query["from"] or SINCE), "to": _when(query["to"] or "0s")}
    address = f"{settings.reporter_url.rstrip('/')}/reports/{report.name}?" + urlencode(
        {name: value for name, value in query.items() if value is not None}
    )
    try:
        status, body = await asyncio.to_thread(ask.get, address, seconds=PATIENCE_SECONDS, accept=ACCEPT[given.format])
    except OSError as error:
        raise Unreachable("the reporter", settings.reporter_url, "REPORTER_URL", error) from error
    if status != 200:
        said = _problem(status, body)
        if status >= 500:
            raise SluiceError(said)
        sys.stderr.write(f"sluice: {said}\n")
        return 2
    if given.format == "text":
        _print(orjson.loads(body), report)
    else:
        sys.stdout.buffer.write(body if body.endswith(b"\n") else body + b"\n")
        sys.stdout.buffer.flush()
    return 0


def _when(text: str) -> str:
    """How long ago as an instant; anything else is the reporter's to read, by the clocks of --time-zone."""
    return moment(text).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if _AGO.fullmatch(text) else text


def _problem(status: int, body: bytes) -> str:
    """A problem document as one sentence."""
    try:
        problem = orjson.loads(body)
        allowed = f"; allowed: {', '.join(problem['allowed'])}" if problem.get("allowed") else ""
        return f"{problem['detail']}{allowed}"
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return f"the reporter answered {status}, and no problem document"


def _print(answer: Mapping[str, Any], report: AnyReport) -> None:
    """A table of the rows; below it the sums, how fresh they are, and what is missing."""
    lines = list(_shares(answer["rows"]) if report is DEMOGRAPHICS else answer["rows"])
    names = [name for name in (lines[0] if lines else ()) if name not in ("end", "complete")]
    cells = [[_text(name, line[name]) + _mark(name, line) for name in names] for line in lines]
    shown = table([_words(name) for name in names], cells, cut=("campaign id", "value"))
    for column, name in zip(shown.columns, names, strict=True):
        column.justify = "right" if _words(name).endswith(("events", "revenue", "purchases")) else "left"
    query, out = answer["query"], console()
    out.print(shown)
    sums = ", ".join(f"{_words(name)} {_text(name, value)}" for name, value in answer["totals"].items())
    zone = ZoneInfo(query["timeZone"])
    out.print(f"\nin all: {sums}; {_period(query, zone)}, by the clocks of {zone.key}")
    if not all(line["complete"] for line in lines):
        out.print(f"{PART} is a part of its bucket: the range cuts it, or it is not over or not all stored")
    if query["compare"]:
        out.print(f"previous: {_period(query['compare'], zone)}{_so_far(query['compare'], zone)}")
    for source, fresh in answer["freshness"].items():
        out.print(f"{source}: everything accepted up to {fresh['storedUntil'] or '(not known yet)'} is in it")
    for note in answer.get("notes", ()):
        out.print(escape(note))
    if answer["next"]:
        out.print(f"there is more: --after {answer['next']}")


def _period(of: Mapping[str, Any], zone: ZoneInfo) -> str:
    start, end = (datetime.fromisoformat(of[name]).astimezone(zone).isoformat(" ") for name in ("from", "to"))
    return f"from {start} to {end}"


def _so_far(compare: Mapping[str, Any], zone: ZoneInfo) -> str:
    if compare["countedUntil"] == compare["to"]:
        return ""
    at = datetime.fromisoformat(compare["countedUntil"]).astimezone(zone).isoformat(" ", "seconds")
    return f", counted until {at}: as much of it as has passed of this one"


def _shares(rows: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Rows of demographics as one line for each value of each dimension."""
    for row in rows:
        for dimension in DIMENSIONS:
            for share in row.get(dimension) or ():
                line = {"start": row["start"], "complete": row["complete"], "source": row["source"]}
                line |= {"dimension": dimension, "value": share["value"], "events": share["events"]}
                yield line | ({"previousEvents": share["previous"]} if "previous" in share else {})


def _words(name: str) -> str:
    """A name of the API's in words, as an option has them: campaignId, campaign id."""
    return re.sub("([A-Z])", r" \1", name).lower()


def _mark(name: str, line: Mapping[str, Any]) -> str:
    return f" {PART}" if name == "start" and not line["complete"] else ""


def _text(name: str, value: Any) -> str:
    if value is None:
        return OTHER if name in ("campaignId", "value") else ""
    if name == "start":
        return datetime.fromisoformat(value).isoformat(" ", "minutes").removesuffix("+00:00")
    if isinstance(value, int):
        return f"{value:,}"
    return f"'{value}" if LIKE_OTHER.fullmatch(value) else safe(value)
