"""Write the OpenAPI document from the declarations of the reports: their parameters, answers and words.

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
from reporter.pipeline import Pipeline
from reporter.query import MOST_ROWS, AnyParameter, Flag, Several, Whole
from reporter.reports import FILES, REPORTS, AnyReport

MEDIA_TYPE: Final = "application/vnd.oai.openapi+json"

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

_REFERENCE: Final = "#/components/schemas/{name}"
_PROBLEMS: Final = {
    "400": "A parameter is unknown, repeated though it is no list, malformed or out of bounds; `parameter` names it",
    "406": "The Accept header takes none of the formats",
    "503": "The database does not answer; try again after the seconds of `Retry-After`",
    "504": "The report took too long",
}
_WITHOUT_ACCEPT: Final = tuple(status for status in _PROBLEMS if status != "406")
_TEXT: Final = {"schema": {"type": "string"}}
_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}


def document() -> bytes:
    """The document as JSON."""
    lists = _closed_lists()
    names = {frozenset(allowed): name for name, allowed in lists.items()}
    types = [*(report.shape for report in REPORTS), Pipeline, Problem]
    _, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    schemas = {name: _without_docstring(schema) for name, schema in components.items()}
    paths = {
        **{report.path: {"get": _report(report)} for report in REPORTS},
        "/pipeline": {"get": _pipeline()},
        **{report.path: {"get": _file(report)} for report in FILES},
    }
    written = {
        "openapi": "3.1.0",
        "info": {"title": "Sluice reports", "version": VERSION, "description": DESCRIPTION},
        "servers": [{"url": "/"}],
        **_named({"paths": paths, "components": {"schemas": schemas}}, names),
    }
    written["components"]["schemas"] |= {
        name: {"type": "string", "enum": list(allowed), "title": name} for name, allowed in lists.items()
    }
    return msgspec.json.encode(written)


def _closed_lists() -> dict[str, tuple[str, ...]]:
    """Each closed list by its name: that of its parameter, with its report's if each has another list."""
    lists = {"Level": get_args(Level), "CheckName": get_args(CheckName)}
    for report in REPORTS:
        for parameter in report.parameters:
            if parameter.allowed and not isinstance(parameter, Flag):
                prefix = report.name if parameter.several else ""
                lists[_capital(prefix) + _capital(parameter.name)] = parameter.allowed
    return lists


def _named(part: Any, names: Mapping[frozenset[str], str]) -> Any:
    """A part of the document with a reference in place of each closed list, and null as one of two."""
    if isinstance(part, list):
        return [_named(item, names) for item in part]
    if not isinstance(part, dict):
        return part
    if (values := part.get("enum")) is not None:
        reference = {"$ref": _REFERENCE.format(name=names[frozenset(values)])}
        return {key: value for key, value in part.items() if key not in ("type", "enum")} | reference
    return {"oneOf" if key == "anyOf" else key: _named(value, names) for key, value in part.items()}


def _without_docstring(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in schema.items() if key != "description"}


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]


def _report(report: AnyReport) -> dict[str, Any]:
    content = {JSON: {"schema": _reference(report.shape)}, CSV: _TEXT, ARROW: _BINARY}
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
        "summary": "The pipeline",
        "description": "Its state, as the database knows it: rates, lag, rejected and dead events, the ledger of the "
        "newest messages. Cheap: ask every two seconds.",
        "responses": _responses("The state", {JSON: {"schema": _reference(Pipeline)}}, _WITHOUT_ACCEPT),
    }


def _responses(description: str, content: Mapping[str, Any], statuses: Iterable[str]) -> dict[str, Any]:
    problem = {PROBLEM: {"schema": _reference(Problem)}}
    problems = {status: {"description": _PROBLEMS[status], "content": problem} for status in statuses}
    return {"200": {"description": description, "content": content}, **problems}


def _parameter(parameter: AnyParameter) -> dict[str, Any]:
    """A parameter: with how a list of values is sent, and with its example."""
    found = {
        "name": parameter.name,
        "in": "query",
        "description": parameter.description,
        "required": parameter.required,
        "schema": _schema(parameter),
    }
    if parameter.several:
        found |= {"style": "form", "explode": True}
    if parameter.example:
        found["examples"] = {"usual": {"value": _example(parameter, parameter.example)}}
    return found


def _schema(parameter: AnyParameter) -> dict[str, Any]:
    match parameter:
        case Flag():
            return {"type": "boolean"}
        case Whole():
            return {"type": "integer", "minimum": parameter.bounds[0], "maximum": parameter.bounds[1]}
        case Several():
            return {"type": "array", "items": {"enum": parameter.allowed}, "uniqueItems": True}
    return {"enum": parameter.allowed} if parameter.allowed else {"type": "string"}


def _example(parameter: AnyParameter, text: str) -> Any:
    """The example, in the type that its schema has."""
    match parameter:
        case Flag() | Whole():
            return parameter.read(text)
        case Several():
            return text.split(",")
    return text


def _reference(kind: type[msgspec.Struct]) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(name=kind.__name__)}
