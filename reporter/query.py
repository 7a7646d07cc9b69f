"""Read a report's query from the URL.

Every parameter is declared once, in `reporter/parameters.py` or in its report; the declaration reads the value and is
what the OpenAPI document shows. Whatever is unknown, repeated, malformed or out of bounds is a BadQuery that names the
parameter and what is allowed.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, TypeVar
from urllib.parse import parse_qsl

from core.errors import SluiceError

MOST_ROWS: Final = 25_000
"""Rows that one answer holds at most: buckets times groups."""
MOST_PARAMETERS: Final = 50

Value = TypeVar("Value")
Name = TypeVar("Name", bound=str)


class BadQuery(SluiceError):
    """A parameter, or the query as a whole, is not what its report takes.

    `allowed` lists what is, where the list is closed.
    """

    def __init__(self, parameter: str | None, detail: str, allowed: Sequence[str] = ()) -> None:
        super().__init__(detail)
        self.parameter = parameter
        self.detail = detail
        self.allowed = tuple(allowed)


@dataclass(frozen=True)
class Parameter(Generic[Value]):
    """One query parameter. `several` values come in repeated parameters, comma separated, or both."""

    name: str
    description: str
    required: bool = False
    example: str | None = None
    allowed: tuple[str, ...] = ()
    """The closed list of its values, if there is one."""

    several: ClassVar[bool] = False

    @abstractmethod
    def read(self, text: str) -> Value:
        """The value of a text. Raises BadQuery."""


AnyParameter = Parameter[Any]


class Text(Parameter[str]):
    """Any text."""

    def read(self, text: str) -> str:
        return text


@dataclass(frozen=True)
class Choice(Parameter[Name]):
    """One value of a closed list."""

    allowed: tuple[Name, ...] = ()

    def read(self, text: str) -> Name:
        for value in self.allowed:
            if value == text:
                return value
        raise BadQuery(self.name, f"{text[:100]!r} is not allowed", self.allowed)


@dataclass(frozen=True)
class Several(Parameter[tuple[Name, ...]], Generic[Name]):
    """Values of a closed list, in the list's own order."""

    allowed: tuple[Name, ...] = ()

    several: ClassVar[bool] = True

    def read(self, text: str) -> tuple[Name, ...]:
        values = text.split(",")
        if unknown := [value for value in values if value not in self.allowed]:
            raise BadQuery(self.name, f"{unknown[0][:100]!r} is not allowed", self.allowed)
        if len(set(values)) < len(values):
            raise BadQuery(self.name, "holds a value more than once", self.allowed)
        return tuple(value for value in self.allowed if value in values)


@dataclass(frozen=True)
class Flag(Parameter[bool]):
    """true or false."""

    allowed: tuple[str, ...] = ("true", "false")

    def read(self, text: str) -> bool:
        if text not in self.allowed:
            raise BadQuery(self.name, f"{text[:100]!r} is not allowed", self.allowed)
        return text == "true"


@dataclass(frozen=True)
class Whole(Parameter[int]):
    """A whole number within bounds, both inclusive."""

    bounds: tuple[int, int] = (0, 0)

    def read(self, text: str) -> int:
        least, most = self.bounds
        if not re.fullmatch("[0-9]{1,9}", text) or not least <= int(text) <= most:
            raise BadQuery(self.name, f"has to be a whole number from {least} to {most}")
        return int(text)


class QueryParams:
    """The parameters of one request: each is known, and stands once unless it is a list."""

    def __init__(self, query_string: bytes, known: Sequence[AnyParameter]) -> None:
        """Raises BadQuery."""
        names = {parameter.name: parameter for parameter in known}
        self._given: dict[str, str] = {}
        try:
            pairs = parse_qsl(
                query_string.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=MOST_PARAMETERS
            )
        except ValueError as error:  # UnicodeDecodeError among them
            raise BadQuery(None, f"the query of the URL cannot be read: {error}", tuple(names)) from None
        for name, value in pairs:
            if name not in names:
                raise BadQuery(name[:100], "this report has no such parameter", tuple(names))
            if name not in self._given:
                self._given[name] = value
            elif names[name].several:
                self._given[name] += f",{value}"
            else:
                raise BadQuery(name, "is given more than once")
        for parameter in known:
            if parameter.required:
                self.required(parameter)

    def has(self, parameter: AnyParameter) -> bool:
        """Whether the parameter is given."""
        return parameter.name in self._given

    def get(self, parameter: Parameter[Value]) -> Value | None:
        """The parameter's value; None where it is not given. Raises BadQuery."""
        return parameter.read(self._given[parameter.name]) if self.has(parameter) else None

    def required(self, parameter: Parameter[Value]) -> Value:
        """The parameter's value. Raises BadQuery, also where it is not given."""
        if not self.has(parameter):
            raise BadQuery(parameter.name, "is required: " + parameter.description)
        return parameter.read(self._given[parameter.name])
