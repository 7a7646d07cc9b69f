"""What options of operators' commands may hold, and the options that several commands share."""

from __future__ import annotations

import argparse
import re
from argparse import ArgumentTypeError
from datetime import UTC, datetime, timedelta
from typing import Any, Final

VALUES: Final = ("publisher", "plausible", "zipf", "many", "one", "zipf-campaigns", "one-campaign")
"""How the values of made events are distributed: the names in `bench.publisher.values`, which no image holds."""
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment(text: str) -> datetime:
    """An instant (2026-11-23T05:00:00Z), a day (2026-11-23, UTC), or how long ago (30m, 2h, 3d)."""
    if ago := re.fullmatch(r"([0-9]{1,6})([smhd])", text):
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        found = datetime.fromisoformat(text.upper())
    except ValueError:
        raise ArgumentTypeError(f"{text} is no instant: 2026-11-23T05:00:00Z, 2026-11-23, 30m, 2h, 3d") from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def positive(text: str) -> int:
    """A whole number from 1."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 10**9):
        raise ArgumentTypeError(f"{text} is no whole number from 1")
    return int(text)


def amount(text: str) -> int:
    """A number of at least 1, thousands and millions as k and M: 50000, 500k, 10M."""
    factor = {"k": 1_000, "M": 1_000_000}.get(text[-1:], 1)
    try:
        return positive(text[:-1] if factor > 1 else text) * factor
    except ArgumentTypeError:
        raise ArgumentTypeError(f"{text} is no whole number from 1: 50000, 500k, 10M") from None


def seconds(text: str) -> float:
    """Seconds, 0 or more."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]*)?", text):
        raise ArgumentTypeError(f"{text} is no number of seconds from 0: 2, 0.5")
    return float(text)


def days(text: str) -> int:
    """Days: 90 or 90d."""
    try:
        return positive(text.removesuffix("d"))
    except ArgumentTypeError:
        raise ArgumentTypeError(f"{text} is no whole number of days from 1: 90, 90d") from None


def format_(parser: argparse.ArgumentParser) -> None:
    """--format."""
    parser.add_argument("--format", choices=("text", "json"), default="text", help="for people, or for programs")


def dry_run(parser: argparse.ArgumentParser) -> None:
    """--dry-run."""
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")


def yes(parser: argparse.ArgumentParser) -> None:
    """--yes."""
    parser.add_argument("--yes", action="store_true", help="do not ask")


def values(parser: argparse.ArgumentParser) -> None:
    """--values."""
    parser.add_argument(
        "--values", choices=VALUES, default="publisher",
        help="how values are distributed: new ones in each event (publisher, the default), by Zipf's law, one for all, "
        "or plausible: Zipf's law and a funnel, for demonstrations",
    )  # fmt: skip


def command(group: Any, name: str, what: str, more: str = "") -> argparse.ArgumentParser:
    """Add a command; its parser."""
    parser: argparse.ArgumentParser = group.add_parser(
        name, help=what, description=f"{what[0].upper()}{what[1:]}. {more}"
    )
    return parser


def group_of(group: Any, name: str, what: str) -> Any:
    """Add a command that has actions; what they are added to."""
    return command(group, name, what).add_subparsers(dest="action", required=True, metavar="ACTION")
