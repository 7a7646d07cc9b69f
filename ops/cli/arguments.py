"""Types of the options of operators' commands, and the options that several commands share."""

from __future__ import annotations

import argparse
import re
from argparse import ArgumentTypeError
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import shtab

VALUES: Final = ("publisher", "plausible", "zipf", "many", "one", "zipf-campaigns", "one-campaign")
"""The distributions of generated values: the names in `bench.publisher.values`, which the image does not contain."""
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment(text: str) -> datetime:
    """Parse an instant (2026-11-23T05:00:00Z), a day (2026-11-23, UTC) or an age (30m, 2h, 3d)."""
    if ago := re.fullmatch(r"([0-9]{1,6})([smhd])", text):
        return datetime.now(UTC) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        instant = datetime.fromisoformat(text.upper())
    except ValueError:
        raise ArgumentTypeError(
            f"{text} is not a time: write 2026-11-23T05:00:00Z, 2026-11-23, 30m, 2h or 3d"
        ) from None
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


def positive(text: str) -> int:
    """Parse a whole number from 1."""
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 10**9):
        raise ArgumentTypeError(f"{text} is not a whole number from 1")
    return int(text)


def amount(text: str) -> int:
    """Parse a number from 1 with an optional k (thousand) or M (million): 50000, 500k, 10M."""
    factor = {"k": 1_000, "M": 1_000_000}.get(text[-1:], 1)
    try:
        return positive(text[:-1] if factor > 1 else text) * factor
    except ArgumentTypeError:
        raise ArgumentTypeError(f"{text} is not a whole number from 1: write 50000, 500k or 10M") from None


def seconds(text: str) -> float:
    """Parse a number of seconds from 0."""
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]*)?", text):
        raise ArgumentTypeError(f"{text} is not a number of seconds from 0: write 2 or 0.5")
    return float(text)


def days(text: str) -> int:
    """Parse a number of days: 90 or 90d."""
    try:
        return positive(text.removesuffix("d"))
    except ArgumentTypeError:
        raise ArgumentTypeError(f"{text} is not a whole number of days from 1: write 90 or 90d") from None


def is_json(options: argparse.Namespace) -> bool:
    """Return whether `--format json` is set."""
    return bool(options.format == "json")


def folder(parser: argparse.ArgumentParser) -> None:
    """Add a folder as an argument, which a shell completes."""
    action = parser.add_argument("folder", type=Path, metavar="FOLDER", help="folder of the files")
    action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]


def dry_run(parser: argparse.ArgumentParser) -> None:
    """Add --dry-run."""
    parser.add_argument("--dry-run", action="store_true", help="show what would change, and change nothing")


def yes(parser: argparse.ArgumentParser) -> None:
    """Add --yes."""
    parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")


def values(parser: argparse.ArgumentParser) -> None:
    """Add --values."""
    parser.add_argument(
        "--values", choices=VALUES, default="publisher", metavar="DISTRIBUTION",
        help="distribution of the values: publisher (new ones in each event, the default), zipf or zipf-campaigns "
        "(Zipf's law), one or one-campaign (a single value), plausible (Zipf's law and a funnel, for demonstrations)",
    )  # fmt: skip
