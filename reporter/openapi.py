"""Generate the OpenAPI document from the declarations of the reports.

Each closed list is a schema of its own, so that generated clients have one type for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, get_args

import msgspec

from core.metrics import VERSION
from core.sources import SOURCES
from core.state import CheckName, Level
from reporter.answer import PROBLEM, Problem
from reporter.formats import ARROW, CSV, JSON
from reporter.parameters import MINUTE_RANGE_HOURS
from reporter.pipeline import Pipeline
from reporter.query_params import MAX_ROWS, AnyParameter, ChoiceList, Flag, Integer
from reporter.reports import FILES, REPORTS, AnyReport, audience
from reporter.reports.demographics import DEFAULT_TOP
from reporter.reports.report import VERSION_PREFIX

MEDIA_TYPE: Final = "application/vnd.oai.openapi+json"

_TITLES: Final = " and ".join(source.title for source in SOURCES.values())
DESCRIPTION: Final = f"""\
Aggregated reports on ad-funnel events from {_TITLES}. Read-only.

**Figures are exact.** They count every stored event of the range, down to the microsecond. Campaigns, cities and \
other values are counted by quarter-hour. Of a quarter-hour with more than 10,000 values, the rarest ones are \
counted together. An answer that uses one has `exact: false` and the largest possible error of each figure. All \
figures of an answer come from one database snapshot. `freshness` is, per source, the instant up to which every \
accepted event is stored.

**Ranges** include `from` and exclude `to`, or are relative to now (`range`). If single events of a range are no \
longer kept, the range has to start and end on quarter-hours. An answer has at most {MAX_ROWS} rows.

**Paths** begin with `/v1`. The same paths without it give the same answers.

**Formats** are JSON and, by the `Accept` header, CSV and Arrow IPC. CSV has freshness and notes in the headers \
`Sluice-Stored-Until` and `Sluice-Notes`. Its `localStart` is the start of the bucket in local time, without an \
offset. In CSV, an empty field is null and `""` is empty text. `(other)` is all values that are not listed; it is null \
in JSON.

**Texts of senders** are country, city and campaign. `Accept: text/csv` returns them unchanged. The files under \
`/v1/reports/….csv` put a `'` before each text that a spreadsheet would read as a formula. Such a text begins with \
`=`, `+`, `-`, `@`, tab or carriage return. A sender's own `(other)` has a `'` before it in both.

**Access.** If the reporter has tokens, every request needs one: as a Bearer token, or by HTTP Basic as the password \
of its name. A token may be bound to sources. Without `source`, a report then has the sources of the token.

**Errors** are problem documents (RFC 9457). If a parameter is invalid, they name it and list the allowed values."""

_REFERENCE: Final = "#/components/schemas/{name}"
_PROBLEMS: Final = {
    "400": "A parameter is unknown, malformed, out of bounds, or repeated but not a list; `parameter` names it",
    "401": "The reporter has tokens (REPORTER_TOKENS_FILE), and the request has none of them; no request is then open",
    "403": "The token may not read the source",
    "406": "The Accept header allows none of the formats",
    "503": "The database does not answer; retry after the number of seconds in `Retry-After`",
    "504": "The report took too long",
}
_WITHOUT_ACCEPT: Final = tuple(status for status in _PROBLEMS if status != "406")
_SCHEMES: Final = {"bearer": {"type": "http", "scheme": "bearer"}, "basic": {"type": "http", "scheme": "basic"}}
_TEXT: Final = {"schema": {"type": "string"}}
_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}


def document() -> bytes:
    """Return the document as JSON."""
    closed_lists = _closed_lists()
    names = {frozenset(allowed): name for name, allowed in closed_lists.items()}
    types = [*(report.answer_type for report in REPORTS), Pipeline, Problem]
    _, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    schemas = {name: _without_docstring(schema) for name, schema in components.items()}
    paths = {
        **{VERSION_PREFIX + report.path: {"get": _report(report)} for report in REPORTS},
        "/pipeline": {"get": _pipeline()},
        **{VERSION_PREFIX + report.path: {"get": _file(report)} for report in FILES},
    }
    written = {
        "openapi": "3.1.0",
        "info": {"title": "Sluice reports", "version": VERSION, "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        "x-sluice": _facts(),
        "security": [{}, *({name: []} for name in _SCHEMES)],
        **_with_references({"paths": paths, "components": {"schemas": schemas, "securitySchemes": _SCHEMES}}, names),
    }
    written["components"]["schemas"] |= {
        name: {"type": "string", "enum": list(allowed), "title": name} for name, allowed in closed_lists.items()
    }
    return msgspec.json.encode(written)


def _facts() -> dict[str, Any]:
    """Return what the page needs to offer only queries that the API accepts.

    dimensions: of each source, with the number of rows that the limit of an answer counts for it.
    """
    return {
        "maxRows": MAX_ROWS,
        "minuteRangeHours": MINUTE_RANGE_HOURS,
        "sources": [
            {
                "name": name,
                "title": source.title,
                "hasCampaigns": source.campaign is not None,
                "eventTypes": source.event_types,
                "funnel": source.funnel,
                "dimensions": {
                    dimension: audience.estimated_values([dimension], [name], DEFAULT_TOP)
                    for dimension in audience.DIMENSIONS_OF[name]
                },
            }
            for name, source in SOURCES.items()
        ],
    }


def _closed_lists() -> dict[str, tuple[str, ...]]:
    """Return each closed list by its schema name: the parameter's, with the report's before it if lists differ.

    A parameter that has the list of another one uses its schema: `steps` are event types.
    """
    of: dict[str, dict[str, tuple[str, ...]]] = {}
    for report in REPORTS:
        for parameter in report.parameters:
            if parameter.allowed and not isinstance(parameter, Flag):
                of.setdefault(parameter.name, {})[report.name] = parameter.allowed
    closed_lists = {"Level": get_args(Level), "CheckName": get_args(CheckName)}
    for name, lists in of.items():
        for report_name, allowed in lists.items():
            if allowed in closed_lists.values():
                continue
            closed_lists[_capital("" if len(set(lists.values())) == 1 else report_name) + _capital(name)] = allowed
    return closed_lists


def _with_references(part: Any, names: Mapping[frozenset[str], str]) -> Any:
    """Return a part of the document with references to closed lists, and `oneOf` for nullable types."""
    if isinstance(part, list):
        return [_with_references(item, names) for item in part]
    if not isinstance(part, dict):
        return part
    if (values := part.get("enum")) is not None:
        reference = {"$ref": _REFERENCE.format(name=names[frozenset(values)])}
        return {key: value for key, value in part.items() if key not in ("type", "enum")} | reference
    return {"oneOf" if key == "anyOf" else key: _with_references(value, names) for key, value in part.items()}


def _without_docstring(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "description"}


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]


def _report(report: AnyReport) -> dict[str, Any]:
    content = {JSON: {"schema": _reference(report.answer_type)}, CSV: _TEXT, ARROW: _BINARY}
    return _operation(report, f"get{_capital(report.name)}Report", content, _PROBLEMS)


def _file(report: AnyReport) -> dict[str, Any]:
    return _operation(report, f"download{_capital(report.name)}Report", {CSV: _TEXT}, _WITHOUT_ACCEPT)


def _operation(report: AnyReport, name: str, content: Mapping[str, Any], statuses: Iterable[str]) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": report.title,
        "description": report.description,
        "parameters": [_parameter(parameter) for parameter in report.parameters],
        "responses": _responses("The report", content, statuses),
    }


def _pipeline() -> dict[str, Any]:
    return {
        "operationId": "getPipeline",
        "summary": "State of the pipeline",
        "description": "Rates, lag, rejected and dead events, and the ledger of the newest messages, from the "
        "database. The request is cheap: clients may poll it every two seconds.",
        "responses": _responses("The state", {JSON: {"schema": _reference(Pipeline)}}, _WITHOUT_ACCEPT),
    }


def _responses(description: str, content: Mapping[str, Any], statuses: Iterable[str]) -> dict[str, Any]:
    problem = {PROBLEM: {"schema": _reference(Problem)}}
    problems = {status: {"description": _PROBLEMS[status], "content": problem} for status in statuses}
    return {"200": {"description": description, "content": content}, **problems}


def _parameter(parameter: AnyParameter) -> dict[str, Any]:
    """Return a parameter object, with the style of a list and the example."""
    described: dict[str, Any] = {
        "name": parameter.name,
        "in": "query",
        "description": parameter.description,
        "required": False,  # a range is either `from` and `to`, or `range`
        "schema": _schema(parameter),
    }
    if parameter.is_list:
        described |= {"style": "form", "explode": True}
    if parameter.example:
        described["examples"] = {"usual": {"value": _example(parameter, parameter.example)}}
    return described


def _schema(parameter: AnyParameter) -> dict[str, Any]:
    match parameter:
        case Flag():
            return {"type": "boolean"}
        case Integer():
            return {"type": "integer", "minimum": parameter.bounds[0], "maximum": parameter.bounds[1]}
        case ChoiceList():
            schema = {"type": "array", "items": {"enum": parameter.allowed}, "uniqueItems": True}
            return schema | ({"minItems": parameter.min_values} if parameter.min_values > 1 else {})
    return {"enum": parameter.allowed} if parameter.allowed else {"type": "string"}


def _example(parameter: AnyParameter, text: str) -> Any:
    """Return the example in the type of its schema."""
    match parameter:
        case Flag() | Integer():
            return parameter.read(text)
        case ChoiceList():
            return text.split(",")
    return text


def _reference(struct: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(name=struct.__name__)}
