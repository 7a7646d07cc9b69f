"""What options of operators' commands may hold, and the options that several commands share."""

from __future__ import annotations

import argparse
import re
from argparse import ArgumentTypeError
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from core.errors import Misconfigured
from core.events.dead_reasons import DEAD_REASONS
from core.events.subjects import REFUSED, SOURCES
from gateway.refusal import KEPT_BODIES
from ops.letters import KINDS, Name, Which, name_of

COLLECTED: Final = (*SOURCES, REFUSED)
REASONS: Final = tuple(dict.fromkeys(reason.value for reason in (*DEAD_REASONS, *KEPT_BODIES)))
"""The closed list of reasons of a dead letter."""
VALUES: Final = ("publisher", "plausible", "zipf", "one", "zipf-campaigns", "one-campaign")
"""How the values of made events are distributed: the names in `bench.values`, which an image does not hold."""
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Usage(Misconfigured):
    """The command line asks for something that cannot be."""


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


def letter(text: str) -> Name:
    """A letter's name."""
    try:
        return name_of(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


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


def which(parser: argparse.ArgumentParser, *, chosen: bool = False) -> None:
    """Which letters; where they are `chosen` for a change, by name too, and never all of them by accident."""
    if chosen:
        parser.add_argument("names", type=letter, nargs="*", metavar="LETTER", help="by name: dead-17 refused-4 …")
        parser.add_argument("--all", action="store_true", help="every kept letter; needed where nothing else is given")
    parser.add_argument("--kind", choices=KINDS, help="dead (could not be stored) or refused (at the door)")
    parser.add_argument("--source", choices=(*SOURCES, REFUSED, "unknown"), help="the event's source")
    why = "such as wrong_type, unstorable, not_json (see list --by-reason)"
    parser.add_argument("--reason", choices=REASONS, metavar="REASON", help=why)
    since = "kept at or after: 2026-11-23T05:00:00Z, 2026-11-23, or how long ago: 30m, 2h, 3d"
    parser.add_argument("--since", type=moment, metavar="WHEN", help=since)
    parser.add_argument("--until", type=moment, metavar="WHEN", help="kept before; written like --since")


def meant(options: argparse.Namespace) -> Which:
    """Which letters the options mean. Raises Usage where replay or discard names none."""
    outcome: Any = getattr(options, "outcome", "kept")
    names = tuple(getattr(options, "names", ()))
    letters = Which(
        options.kind, options.source, options.reason, options.since, options.until,
        None if outcome == "any" else outcome, names,
    )  # fmt: skip
    if not getattr(options, "all", True) and letters.everything:
        raise Usage("say which letters: by name, by --kind, --source, --reason, --since or --until, or --all")
    return letters
