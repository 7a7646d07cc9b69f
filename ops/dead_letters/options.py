"""The options of `sluice dead-letters list|show|replay|discard`."""

from __future__ import annotations

import argparse
from argparse import ArgumentTypeError
from typing import Any, Final

from core.errors import Misconfigured
from core.events.dead_reasons import DEAD_REASONS
from core.events.subjects import COLLECTED, UNKNOWN
from gateway.rejection import KEPT_BODIES
from ops.cli.arguments import dry_run, is_json, moment, positive, seconds, yes
from ops.cli.parser import command
from ops.dead_letters import commands
from ops.dead_letters.documents import DeadLetterDetails, DeadLetterRow, Discarded, ReasonCount, Replayed
from ops.dead_letters.records import KINDS, OUTCOMES, DeadLetterFilter, DeadLetterId, parse_id

REASONS: Final = tuple(dict.fromkeys(reason.value for reason in (*DEAD_REASONS, *KEPT_BODIES)))
"""All reasons of dead letters and rejected events."""


class NothingSelected(Misconfigured):
    """The command line selects no dead letters."""


def options(group: Any) -> None:
    """Add the actions and their options to `dead-letters`."""
    _list(group)
    shown = command(
        group, "show", "show one dead letter with its event, which may contain personal data",
        examples=("sluice dead-letters show dead-17",), document=DeadLetterDetails,
    )  # fmt: skip
    shown.add_argument("id", type=_id, metavar="ID", help="dead-17 or rejected-4: the first column of list")
    shown.set_defaults(
        run=lambda settings, options: commands.show(settings, options.id, as_json=is_json(options))
    )  # fmt: skip
    _replay(group)
    discarded = command(
        group, "discard", "close dead letters without storing their events", _already("discarded"),
        examples=("sluice dead-letters discard --reason too_old --dry-run", "sluice dead-letters discard dead-17"),
        document=Discarded,
    )  # fmt: skip
    _filters(discarded, changes=True)
    dry_run(discarded)
    yes(discarded)
    discarded.set_defaults(
        run=lambda settings, options: commands.discard(
            settings, selection(options), dry_run=options.dry_run, yes=options.yes, as_json=is_json(options)
        )
    )


def _list(group: Any) -> None:
    listed = command(
        group, "list", "list dead letters, the newest first",
        examples=("sluice dead-letters list --since 2h", "sluice dead-letters list --by-reason --outcome any"),
        document=list[DeadLetterRow] | list[ReasonCount],
    )  # fmt: skip
    _filters(listed)
    listed.add_argument(
        "--outcome", choices=(*OUTCOMES, "any"), default="kept", help="only this outcome (default kept)"
    )
    listed.add_argument("--limit", type=positive, default=20, metavar="N", help="number of dead letters (default 20)")
    listed.add_argument("--by-reason", action="store_true", help="count by kind, source and reason instead")
    listed.set_defaults(
        run=lambda settings, options: commands.list_(
            settings, selection(options), limit=options.limit, by_reason=options.by_reason, as_json=is_json(options)
        )
    )


def _replay(group: Any) -> None:
    replayed = command(
        group, "replay", "publish the events of dead letters again",
        "Each dead letter is validated first; one that still breaks the contract stays kept. Collectors store an event "
        f"only once, so the command may be interrupted and run again. {_already('replayed')}",
        examples=("sluice dead-letters replay --all --dry-run", "sluice dead-letters replay --reason unstorable"),
        document=Replayed,
    )  # fmt: skip
    _filters(replayed, changes=True)
    replayed.add_argument("--rate", type=positive, default=1000, metavar="N", help="maximum per second (default 1000)")
    replayed.add_argument("--limit", type=positive, metavar="N", help="maximum number of dead letters")
    replayed.add_argument(
        "--wait", type=seconds, default=30.0, metavar="SECONDS",
        help="maximum time to wait until the events are stored (default 30)",
    )  # fmt: skip
    dry_run(replayed)
    replayed.set_defaults(
        run=lambda settings, options: commands.replay_(
            settings, selection(options), dry_run=options.dry_run, rate=options.rate, limit=options.limit,
            wait_seconds=options.wait, as_json=is_json(options),
        )
    )  # fmt: skip


def _already(outcome: str) -> str:
    return (
        f"A named dead letter that is already {outcome} is skipped (code 0). If a named one does not exist or has "
        "another outcome, the command changes nothing (code 1)."
    )


def _id(text: str) -> DeadLetterId:
    try:
        return parse_id(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def _filters(parser: argparse.ArgumentParser, *, changes: bool = False) -> None:
    """Add the options that select dead letters. A command that changes them takes ids and requires a selection."""
    if changes:
        parser.add_argument("ids", type=_id, nargs="*", metavar="ID", help="dead-17, rejected-4 …")
        parser.add_argument("--all", action="store_true", help="all kept dead letters; required without another filter")
    parser.add_argument("--kind", choices=KINDS, help="dead (not storable) or rejected (by the gateway)")
    parser.add_argument("--source", choices=(*COLLECTED, UNKNOWN), help="source of the event")
    parser.add_argument(
        "--reason", choices=REASONS, metavar="REASON",
        help="such as wrong_type, unstorable, not_json (list --by-reason shows them)",
    )  # fmt: skip
    parser.add_argument(
        "--since", type=moment, metavar="WHEN",
        help="kept at or after: 2026-11-23T05:00:00Z, 2026-11-23, or an age: 30m, 2h, 3d",
    )  # fmt: skip
    parser.add_argument("--until", type=moment, metavar="WHEN", help="kept before; written like --since")


def selection(options: argparse.Namespace) -> DeadLetterFilter:
    """Return the filter of the options. Raises NothingSelected if replay or discard has none."""
    outcome: Any = getattr(options, "outcome", "kept")
    selected = DeadLetterFilter(
        options.kind, options.source, options.reason, options.since, options.until,
        None if outcome == "any" else outcome, tuple(getattr(options, "ids", ())),
    )  # fmt: skip
    if not getattr(options, "all", True) and selected.is_empty:
        raise NothingSelected(
            "select dead letters by ID, --kind, --source, --reason, --since or --until, or select all with --all"
        )
    return selected
