"""What the OpenAPI document says beyond the types: parameters, CSV, errors and the words around them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

import msgspec
from litestar.openapi import OpenAPIConfig, ResponseSpec
from litestar.openapi.spec import (
    Example,
    OpenAPI,
    OpenAPIFormat,
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    Parameter,
    Schema,
)

from core.metrics import VERSION
from core.sources import SOURCES
from core.state import CheckName, Level
from reporter import query
from reporter.answer import PROBLEM, Problem
from reporter.formats import ARROW, CSV
from reporter.page import DocumentationPage
from reporter.query import MOST_ROWS
from reporter.reports.report import AnyReport

_TITLES: Final = " and ".join(source.title for source in SOURCES.values())
DESCRIPTION: Final = f"""\
Aggregated reports on ad-funnel events from {_TITLES}. Read-only.

**Figures are exact.** They count every stored event of the range, down to the microsecond, and all figures of an \
answer are of one moment. `freshness` says, per source, up to which instant everything that was accepted is stored.

**Ranges** include `from` and exclude `to`. Where events are no longer kept one by one, ranges have to begin and end \
on quarter-hours. An answer holds at most {MOST_ROWS} rows.

**Formats**: JSON, or by `Accept` CSV or Arrow IPC. In CSV, freshness and notes are in the headers \
`Sluice-Stored-Until` and `Sluice-Notes`, and `localStart` is the start by the local clock, without an offset. An \
empty field is null, empty text is `""`, and `(other)` is all values that are not listed, null in JSON.

**Texts of senders** are country, city and campaign. `Accept: text/csv` returns them as they are. The files under \
`/reports/….csv` have a `'` before each that a spreadsheet takes for a formula: it begins with `=`, `+`, `-`, `@`, tab \
or carriage return. A sender's own `(other)` has a `'` before it in both.

**Errors** are problem documents (RFC 9457); for a wrong parameter they name it and what is allowed."""

RESPONSES: Final = {
    status: ResponseSpec(Problem, media_type=PROBLEM, description=description, generate_examples=False)
    for status, description in {
        400: "A parameter is unknown, repeated though it is no list, malformed or out of bounds; `parameter` names it",
        406: "The Accept header takes none of the formats",
        503: "The database does not answer; try again after the seconds of `Retry-After`",
        504: "The report took too long",
    }.items()
}

AWAY: Final = {status: RESPONSES[status] for status in (400, 503, 504)}


MEDIA_TYPE: Final = "application/vnd.oai.openapi+json"


def document(schema: OpenAPI, reports: Iterable[AnyReport]) -> bytes:
    """The document as JSON. Each closed list of these reports is a schema of its own, named for its parameter, so that
    generated clients have one type for it."""
    names: dict[tuple[str, ...], str] = {get_args(Level): "Level", get_args(CheckName): "CheckName"}
    for report in reports:
        for parameter in report.parameters:
            if parameter.allowed not in ((), query.FLAG):
                prefix = report.name if parameter.several else ""
                names[parameter.allowed] = _capital(prefix) + _capital(parameter.name)
    found: dict[str, Any] = _with_references(schema.to_schema(), names)
    found["components"]["schemas"] |= {
        name: {"type": "string", "enum": list(allowed), "title": name} for allowed, name in names.items()
    }
    return msgspec.json.encode(found)


def _with_references(part: Any, names: Mapping[tuple[str, ...], str]) -> Any:
    """A part of the document with a reference in place of each closed list that has a name."""
    if isinstance(part, list | tuple):
        return [_with_references(item, names) for item in part]
    if not isinstance(part, dict):
        return part
    if isinstance(only := part.get("oneOf"), list) and len(only) == 1:
        part = {name: value for name, value in part.items() if name != "oneOf"} | only[0]
    if isinstance(values := part.get("enum"), list | tuple):
        allowed = tuple(value for value in values if value is not None)
        if (name := names.get(allowed)) is not None:
            reference = {"$ref": f"#/components/schemas/{name}"}
            rest = {key: value for key, value in part.items() if key not in ("type", "enum")}
            return rest | ({"oneOf": [reference, {"type": "null"}]} if None in values else reference)
    return {key: _with_references(value, names) for key, value in part.items()}


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]


def config() -> OpenAPIConfig:
    """Of the document, served with its page under /docs."""
    return OpenAPIConfig(
        title="Sluice reports",
        version=VERSION,
        description=DESCRIPTION,
        path="/docs",
        render_plugins=[DocumentationPage()],
    )


def operation(report: AnyReport, *, as_file: bool = False) -> type[Operation]:
    """How the document describes this report: with the parameters that it really reads, and its formats."""
    parameters = [
        Parameter(
            name=parameter.name,
            param_in="query",
            description=parameter.description,
            required=parameter.required,
            schema=_schema(parameter),
            style="form" if parameter.several else None,
            explode=True if parameter.several else None,
            examples={"usual": Example(value=_example(parameter))} if parameter.example else None,
        )
        for parameter in report.parameters
    ]

    @dataclass
    class Described(Operation):
        def __post_init__(self) -> None:
            self.parameters = list(parameters)
            found = (self.responses or {}).get("200")
            if isinstance(found, OpenAPIResponse) and found.content is not None:
                found.description = "The report"
                if as_file:
                    found.content.clear()
                found.content[CSV] = OpenAPIMediaType(schema=Schema(type=OpenAPIType.STRING))
                if as_file:
                    return
                found.content[ARROW] = OpenAPIMediaType(
                    schema=Schema(type=OpenAPIType.STRING, format=OpenAPIFormat.BINARY)
                )

    return Described


def _example(parameter: query.Parameter) -> Any:
    """The example, in the type that its schema has."""
    text = parameter.example or ""
    if parameter.bounds is not None:
        return int(text)
    if parameter.allowed == query.FLAG:
        return text == "true"
    return text.split(",") if parameter.several else text


def _schema(parameter: query.Parameter) -> Schema:
    if parameter.allowed == query.FLAG:
        return Schema(type=OpenAPIType.BOOLEAN)
    if parameter.bounds is not None:
        return Schema(type=OpenAPIType.INTEGER, minimum=parameter.bounds[0], maximum=parameter.bounds[1])
    item = Schema(type=OpenAPIType.STRING, enum=parameter.allowed or None)
    return Schema(type=OpenAPIType.ARRAY, items=item, unique_items=True) if parameter.several else item
