"""The options of `dead-letters list|show|replay|discard`."""

from __future__ import annotations

import argparse
from argparse import ArgumentTypeError
from typing import Any, Final

from core.errors import Misconfigured
from core.events.dead_reasons import DEAD_REASONS
from core.events.subjects import COLLECTED, UNKNOWN
from gateway.rejection import KEPT_BODIES
from ops.cli.arguments import command, dry_run, format_, moment, positive, seconds, yes
from ops.dead_letters import commands
from ops.dead_letters.records import KINDS, OUTCOMES, DeadLetterFilter, DeadLetterId, id_of

REASONS: Final = tuple(dict.fromkeys(reason.value for reason in (*DEAD_REASONS, *KEPT_BODIES)))
"""The closed list of reasons of a dead letter."""


class Usage(Misconfigured):
    """The command line asks for something that cannot be."""


def options(group: Any) -> None:
    """Add the actions and their options to `dead-letters`."""
    listed = command(group, "list", "list dead letters, the newest first")
    which(listed)
    listed.add_argument("--outcome", choices=(*OUTCOMES, "any"), default="kept", help="what became of them (kept)")
    listed.add_argument("--limit", type=positive, default=20, metavar="N", help="how many to show (20)")
    listed.add_argument("--by-reason", action="store_true", help="count them instead, by kind, source and reason")
    format_(listed)
    listed.set_defaults(
        run=lambda settings, options: commands.list_(
            settings, meant(options), most=options.limit, by_reason=options.by_reason, as_json=options.format == "json"
        )
    )
    one = command(group, "show", "show one dead letter with its event, which may hold personal data")
    one.add_argument("name", type=dead_letter, metavar="DEAD_LETTER", help="its name: dead-17, rejected-4")
    format_(one)
    one.set_defaults(
        run=lambda settings, options: commands.show(settings, options.name, as_json=options.format == "json")
    )
    again = command(
        group, "replay", "send kept dead letters out again",
        "Each is held to the contract first; one that still breaks it stays kept. What was stored before is not stored "
        f"twice, so this may be interrupted and run again at any time. {_already('replayed')}",
    )  # fmt: skip
    which(again, selected=True)
    again.add_argument("--rate", type=positive, default=1000, metavar="N", help="at most so many a second (1000)")
    again.add_argument("--limit", type=positive, metavar="N", help="look at so many dead letters at most")
    again.add_argument(
        "--wait", type=seconds, default=30.0, metavar="SECONDS", help="how long to wait until they are stored (30)"
    )
    dry_run(again)
    format_(again)
    again.set_defaults(
        run=lambda settings, options: commands.replay_(
            settings, meant(options), dry_run=options.dry_run, rate=options.rate, most=options.limit, wait=options.wait,
            as_json=options.format == "json",
        )
    )  # fmt: skip
    gone = command(group, "discard", "close kept dead letters without sending them anywhere", _already("discarded"))
    which(gone, selected=True)
    dry_run(gone)
    yes(gone)
    gone.set_defaults(
        run=lambda settings, options: commands.discard(
            settings, meant(options), dry_run=options.dry_run, yes=options.yes
        )
    )


def _already(outcome: str) -> str:
    return (
        f"A named dead letter that is {outcome} already is skipped (code 0). If one does not exist, or was "
        "closed in the other way, nothing is done (code 1)."
    )


def dead_letter(text: str) -> DeadLetterId:
    """A dead letter's name."""
    try:
        return id_of(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from None


def which(parser: argparse.ArgumentParser, *, selected: bool = False) -> None:
    """Which dead letters; where they are `selected` for a change, by name too, and never all of them by accident."""
    if selected:
        parser.add_argument(
            "names", type=dead_letter, nargs="*", metavar="DEAD_LETTER", help="by name: dead-17 rejected-4 …"
        )
        parser.add_argument(
            "--all", action="store_true", help="every kept dead letter; needed where nothing else is given"
        )
    parser.add_argument("--kind", choices=KINDS, help="dead (could not be stored) or rejected (at the door)")
    parser.add_argument("--source", choices=(*COLLECTED, UNKNOWN), help="the event's source")
    why = "such as wrong_type, unstorable, not_json (see list --by-reason)"
    parser.add_argument("--reason", choices=REASONS, metavar="REASON", help=why)
    since = "kept at or after: 2026-11-23T05:00:00Z, 2026-11-23, or how long ago: 30m, 2h, 3d"
    parser.add_argument("--since", type=moment, metavar="WHEN", help=since)
    parser.add_argument("--until", type=moment, metavar="WHEN", help="kept before; written like --since")


def meant(options: argparse.Namespace) -> DeadLetterFilter:
    """Which dead letters the options mean. Raises Usage where replay or discard names none."""
    outcome: Any = getattr(options, "outcome", "kept")
    names = tuple(getattr(options, "names", ()))
    dead_letters = DeadLetterFilter(
        options.kind, options.source, options.reason, options.since, options.until,
        None if outcome == "any" else outcome, names,
    )  # fmt: skip
    if not getattr(options, "all", True) and dead_letters.everything:
        raise Usage("say which dead letters: by name, by --kind, --source, --reason, --since or --until, or --all")
    return dead_letters
