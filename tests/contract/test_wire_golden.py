"""Version 1 of the wire, held by files that never change: what gateways wrote yesterday, collectors read tomorrow.

`golden/v1-<source>.bin` is one message as it travels; the JSON beside it says what it holds and which rows come of
it. A new version gets files of its own.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from collector.parse.python import python_parser
from collector.sources import SOURCES
from core.events import wire
from core.events.contract import Contract

GOLDEN = Path(__file__).parent / "golden"
CONTRACT = Contract(max_age_days=7, max_ahead_seconds=86_400)
SEQUENCE = 42


def golden(source: str) -> tuple[bytes, dict[str, Any]]:
    """The message and what it holds."""
    described = json.loads((GOLDEN / f"v1-{source}.json").read_text(encoding="utf-8"))
    return (GOLDEN / f"v1-{source}.bin").read_bytes(), described


def test_each_source_has_its_file() -> None:
    """No source is without a golden message, and no file without a test."""
    assert {path.name for path in GOLDEN.iterdir()} == {
        f"v1-{name}{end}" for name in SOURCES for end in (".bin", ".json")
    }


@pytest.mark.parametrize("source", SOURCES)
def test_a_golden_message_is_read(source: str) -> None:
    """Parts and events come out of the message byte by byte as they are written down."""
    message, described = golden(source)
    parts, lines = wire.decode(message)
    assert [msgspec.to_builtins(part) for part in parts] == described["parts"]
    assert [line.decode() for line in lines] == described["events"]


@pytest.mark.parametrize("source", SOURCES)
def test_a_golden_message_is_written(source: str) -> None:
    """The same parts and events give the same bytes."""
    message, described = golden(source)
    parts = [msgspec.convert(part, wire.Part) for part in described["parts"]]
    assert wire.encode(parts, [event.encode() for event in described["events"]]) == message


@pytest.mark.parametrize("source", SOURCES)
def test_a_golden_message_gives_its_rows(source: str) -> None:
    """The rows of each day and the invalid events are the ones written down, to the byte."""
    message, described = golden(source)
    parsed = python_parser(SOURCES[source], CONTRACT)(message, SEQUENCE)
    assert parsed.events == len(described["events"])
    assert [list(event) for event in parsed.invalid] == described["invalid"]
    assert {str(day): {"rows": rows.count, "copy": rows.copy.hex()} for day, rows in parsed.days.items()} == (
        described["days"]
    )
