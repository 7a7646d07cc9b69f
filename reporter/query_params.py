"""Parse the query parameters of a report's URL.

Every parameter is declared once, in `reporter/parameters.py` or in its report. The declaration parses the value, and
the OpenAPI document shows it. A parameter that is unknown, repeated, malformed or out of bounds raises BadQuery, which
names the parameter and the allowed values.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, TypeVar
from urllib.parse import unquote

from core.errors import SluiceError

MAX_ROWS: Final = 25_000
"""Maximum rows of one answer: buckets times groups."""
MAX_PARAMETERS: Final = 50

Value = TypeVar("Value")
Filter = TypeVar("Filter", bound=str)
ChoiceValue = TypeVar("ChoiceValue", bound=str)


class BadQuery(SluiceError):
    """A parameter, or the query as a whole, is invalid.

    `allowed` lists the allowed values if the list is closed.
    """

    def __init__(self, parameter: str | None, detail: str, allowed: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.parameter = parameter
        self.detail = detail
        self.allowed = tuple(allowed)


class NotAvailable(BadQuery):
    """The query is valid, but its figures do not exist. The detail says why, and which query to use instead."""


@dataclass(frozen=True)
class Parameter(Generic[Value]):
    """One query parameter. If `is_list`, its values are comma separated, in repeated parameters, or both."""

    name: str
    description: str
    example: str | None = None
    allowed: tuple[str, ...] = ()
    """The closed list of its values; empty if there is none."""

    is_list: ClassVar[bool] = False

    @abstractmethod
    def read(self, text: str) -> Value:
        """Return the value of a text. Raises BadQuery."""


AnyParameter = Parameter[Any]


class Text(Parameter[str]):
    """Any text."""

    def read(self, text: str) -> str:
        return text


@dataclass(frozen=True)
class Choice(Parameter[ChoiceValue]):
    """One value of a closed list."""

    allowed: tuple[ChoiceValue, ...] = ()

    def read(self, text: str) -> ChoiceValue:
        for value in self.allowed:
            if value == text:
                return value
        raise BadQuery(self.name, f"{text[:100]!r} is not allowed", self.allowed)


@dataclass(frozen=True)
class ChoiceList(Parameter[tuple[ChoiceValue, ...]], Generic[ChoiceValue]):
    """Values of a closed list, in the list's own order; at least `min_values` of them."""

    allowed: tuple[ChoiceValue, ...] = ()
    min_values: int = 1

    is_list: ClassVar[bool] = True

    def read(self, text: str) -> tuple[ChoiceValue, ...]:
        values = text.split(",")
        if unknown := [value for value in values if value not in self.allowed]:
            raise BadQuery(self.name, f"{unknown[0][:100]!r} is not allowed", self.allowed)
        if len(set(values)) < len(values):
            raise BadQuery(self.name, "holds a value more than once", self.allowed)
        if len(values) < self.min_values:
            raise BadQuery(self.name, f"needs at least {self.min_values} values", self.allowed)
        return tuple(value for value in self.allowed if value in values)


class OrderedChoiceList(ChoiceList[ChoiceValue]):
    """Values of a closed list, in the order of the query."""

    def read(self, text: str) -> tuple[ChoiceValue, ...]:
        known = {str(value): value for value in super().read(text)}
        return tuple(known[value] for value in text.split(","))


@dataclass(frozen=True)
class Flag(Parameter[bool]):
    """true or false."""

    allowed: tuple[str, ...] = ("true", "false")

    def read(self, text: str) -> bool:
        if text not in self.allowed:
            raise BadQuery(self.name, f"{text[:100]!r} is not allowed", self.allowed)
        return text == "true"


@dataclass(frozen=True)
class Integer(Parameter[int]):
    """A whole number within bounds, both inclusive."""

    bounds: tuple[int, int] = (0, 0)

    def read(self, text: str) -> int:
        minimum, maximum = self.bounds
        if not re.fullmatch("[0-9]{1,9}", text) or not minimum <= int(text) <= maximum:
            raise BadQuery(self.name, f"has to be a whole number from {minimum} to {maximum}")
        return int(text)


class QueryParams:
    """The query parameters of one request. Each is declared, and occurs once unless it is a list."""

    def __init__(self, query_string: bytes, parameters: Sequence[AnyParameter]) -> None:
        """Parse a URL's query. Raises BadQuery."""
        names = {parameter.name: parameter for parameter in parameters}
        self._texts: dict[str, str] = {}
        try:
            pairs = decode_pairs(query_string.decode("ascii"))
        except ValueError as error:  # UnicodeDecodeError among them
            raise BadQuery(None, f"the query of the URL is invalid: {error}", tuple(names)) from None
        for name, value in pairs:
            if name not in names:
                raise BadQuery(name[:100], "this report has no such parameter", tuple(names))
            if name not in self._texts:
                self._texts[name] = value
            elif names[name].is_list:
                self._texts[name] += f",{value}"
            else:
                raise BadQuery(name, "occurs more than once")

    def has(self, parameter: AnyParameter) -> bool:
        """Return whether the request has the parameter."""
        return parameter.name in self._texts

    def get(self, parameter: Parameter[Value]) -> Value | None:
        """Return the parameter's value, None if the request does not have it. Raises BadQuery."""
        return parameter.read(self._texts[parameter.name]) if self.has(parameter) else None

    def required(self, parameter: Parameter[Value]) -> Value:
        """Return the parameter's value. Raises BadQuery, also if the request does not have it."""
        if not self.has(parameter):
            raise BadQuery(parameter.name, "is required: " + parameter.description)
        return parameter.read(self._texts[parameter.name])


def one_or_several(values: tuple[Filter, ...] | None) -> Filter | tuple[Filter, ...] | None:
    """Return the values of a filter as answers repeat them: a single value without a list."""
    return values[0] if values and len(values) == 1 else values


def as_list(values: Filter | tuple[Filter, ...] | None) -> list[Filter] | None:
    """Return the values of a filter as a list for SQL. None matches everything."""
    return None if values is None else list(values) if isinstance(values, tuple) else [values]


def decode_pairs(text: str) -> list[tuple[str, str]]:
    """Return the names and values of a URL's query, decoded. Raises ValueError.

    The result is that of `urllib.parse.parse_qsl`, which takes three times as long. A pair without `=` has an empty
    value, and empty pairs are skipped.
    """
    if text.count("&") >= MAX_PARAMETERS:
        raise ValueError(f"it has more than {MAX_PARAMETERS} parameters")
    pairs = (pair.partition("=") for pair in text.replace("+", " ").split("&") if pair)
    return [(unquote(name, errors="strict"), unquote(value, errors="strict")) for name, _, value in pairs]
