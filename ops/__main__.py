"""The operator's command line: `python -m ops <command>`.

Exit codes: 0 all is well, 1 something is wrong, 2 a mistake of the caller, 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import structlog

from core import lifecycle
from core.errors import Misconfigured, SluiceError
from core.settings import OperatorSettings, unknown
from ops import commands, compare, dead_letters, doctor, report
from ops.arguments import (
    COLLECTED,
    amount,
    days,
    dry_run,
    format_,
    letter,
    meant,
    positive,
    seconds,
    values,
    which,
    yes,
)
from ops.connection import local_folder, operator_settings
from ops.letters import OUTCOMES

INTERRUPTED = 130
STACK_COMMANDS = frozenset({"up", "demo", "reset-data"})
"""They run or change the stack of this checkout, and read .env."""


def main() -> None:
    """Parse the command line and run one command."""
    code = INTERRUPTED
    for name, nearest in unknown().items():
        meant = f": {nearest} is the nearest one" if nearest else ""
        sys.stderr.write(f"sluice: {name} is no setting{meant}\n")

    async def run(stop: asyncio.Event) -> None:
        nonlocal code
        if options.command in STACK_COMMANDS:
            code = await _run_stack(stop, options)
        else:
            structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # told in words
            code = await lifecycle.unless_stopped(stop, options.run(operator_settings(), options))

    try:
        if set(sys.argv[1:2]) & STACK_COMMANDS:  # before the command line: its defaults come from the environment
            with _from_a_checkout():
                from ops.local.env_file import read_env_file  # noqa: PLC0415
            read_env_file(Path(".env"), os.environ)
        options = command_line().parse_args()
        # Not on uvloop: it starts children in a way in which they cannot have a user namespace of their own.
        lifecycle.run(run, asyncio.new_event_loop)
    except SluiceError as error:
        sys.stderr.write(f"sluice: {error}\n")
        code = 1
    except BrokenPipeError:  # `… list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(code)


@contextmanager
def _from_a_checkout() -> Iterator[None]:
    """Import here what runs a stack on one machine: an image holds only what services need. Raises Misconfigured."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise Misconfigured(f"only a checkout can do this (after make setup): there is no {error.name} here") from None


async def _run_stack(stop: asyncio.Event, options: argparse.Namespace) -> int:
    with _from_a_checkout():
        from ops.demo import demo  # noqa: PLC0415
        from ops.local.reset import reset_data  # noqa: PLC0415
        from ops.up import up  # noqa: PLC0415

    if options.command == "reset-data":
        sys.stdout.write(reset_data(local_folder()))
        return 0
    distribution = [] if options.values == "publisher" else ["--values", options.values]
    if options.command == "demo":
        return await demo(stop, options.seconds, [*distribution, *options.publisher])
    await up(stop, with_publisher=os.environ.get("PUBLISHER", "1") != "0", publisher_options=distribution)
    return 0


def command_line() -> argparse.ArgumentParser:
    """The parser. Its result has `command` and, except for STACK_COMMANDS, `run(settings, options)`."""
    parser = argparse.ArgumentParser(
        prog="python -m ops",
        description="Run and look after Sluice.",
        epilog="Operators' commands look at the stack that `up` runs in this folder, or at the servers that the "
        "environment names (NATS_URL, SLUICE_MIGRATE_DSN, …: .env.example). Exit codes: 0 all is well, 1 something is "
        "wrong, 2 a mistake of the caller, 130 interrupted.",
    )
    group = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    run = group.add_parser("up", help="run everything on this machine until Ctrl-C (PUBLISHER=0: without a publisher)")
    values(run)
    group.add_parser("reset-data", help="delete the data of the local stack, which must not run")
    shown = group.add_parser("demo", help="run everything under the publisher's load for a while, and check it")
    default = float(os.environ.get("DEMO_SECONDS") or 30)
    shown.add_argument(
        "--seconds", type=float, default=default, help="how long to publish (default: DEMO_SECONDS, else 30)"
    )
    values(shown)
    shown.add_argument("publisher", nargs="*", metavar="-- OPTION", help="options for the publisher (see its --help)")
    _fill(group)
    report.options(_group(group, "report", "show a report of the last 24 hours, or of any range"))
    _doctor(group)
    what = "events that could not be stored (dead) or were refused at the door (refused)"
    _dead_letters(_group(group, "dead-letters", f"work with {what}"))
    _sources(group)
    _partitions(_group(group, "partitions", "list, make, index and drop the daily partitions"))
    _countries(_group(group, "countries", "work with the registry of countries that have rollups of their own"))
    _streams(_group(group, "streams", "compare the streams with what is declared"))
    migrate = _add(group, "migrate", "bring the database's schema up to date; safe at any time")
    migrate.set_defaults(run=lambda chosen, _: commands.migrate(chosen))
    return parser


def _add(group: Any, name: str, what: str, more: str = "") -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = group.add_parser(
        name, help=what, description=f"{what[0].upper()}{what[1:]}. {more}"
    )
    return parser


def _group(group: Any, name: str, what: str) -> Any:
    return _add(group, name, what).add_subparsers(dest="action", required=True, metavar="ACTION")


def _fill(group: Any) -> None:
    parser = _add(
        group, "fill", "fill the database with made events, for demonstrations and benchmarks",
        "Straight into partitions and rollups; the ledger balances. Where no system is meant, the local stack's "
        "database in .sluice is filled; another one only after a question, or with --yes.",
    )  # fmt: skip
    parser.add_argument("--events", type=amount, required=True, metavar="N", help="how many: 50000, 10M")
    parser.add_argument("--days", type=days, default=30, metavar="N", help="spread over so many days before now (30)")
    values(parser)
    yes(parser)
    parser.set_defaults(run=_run_fill)


async def _run_fill(chosen: OperatorSettings, options: argparse.Namespace) -> int:
    with _from_a_checkout():
        fill = import_module("bench.fill")  # by its name: bench stands above ops, and an image holds no bench
    code: int = await fill.run(chosen, options.events, options.days, options.values, yes=options.yes)
    return code


def _doctor(group: Any) -> None:
    parser = _add(group, "doctor", "check everything, and say what mends what is wrong")
    parser.add_argument("--lag", type=seconds, default=30.0, metavar="SECONDS", help="wrong is what waits longer (30)")
    parser.add_argument(
        "--disk", type=Path, action="append", default=[], metavar="FOLDER", help="a disk to check; may be repeated"
    )
    parser.add_argument(
        "--compare-days",
        type=days,
        default=compare.DAYS,
        metavar="N",
        help=f"compare the rows of so many days with their rollups ({compare.DAYS})",
    )
    parser.add_argument(
        "--compare-seconds",
        type=seconds,
        default=compare.SECONDS,
        metavar="SECONDS",
        help=f"for at most so long ({compare.SECONDS:g}); what is left out is named",
    )
    format_(parser)
    parser.set_defaults(
        run=lambda chosen, options: doctor.doctor(
            chosen,
            most_lag_seconds=options.lag,
            disks=options.disk,
            compare_days=options.compare_days,
            compare_seconds=options.compare_seconds,
            as_json=options.format == "json",
        )
    )


def _dead_letters(group: Any) -> None:
    listed = _add(group, "list", "list letters, the newest first")
    which(listed)
    listed.add_argument("--outcome", choices=(*OUTCOMES, "any"), default="kept", help="what became of them (kept)")
    listed.add_argument("--limit", type=positive, default=20, metavar="N", help="how many to show (20)")
    listed.add_argument("--by-reason", action="store_true", help="count them instead, by kind, source and reason")
    format_(listed)
    listed.set_defaults(
        run=lambda chosen, options: dead_letters.list_(
            chosen, meant(options), most=options.limit, by_reason=options.by_reason, as_json=options.format == "json"
        )
    )
    one = _add(group, "show", "show one letter with its event, which may hold personal data")
    one.add_argument("name", type=letter, metavar="LETTER", help="its name: dead-17, refused-4")
    format_(one)
    one.set_defaults(
        run=lambda chosen, options: dead_letters.show(chosen, options.name, as_json=options.format == "json")
    )
    again = _add(
        group, "replay", "send kept letters out again",
        "Each is held to the contract first; one that still breaks it stays kept. What was stored before is not stored "
        f"twice, so this may be interrupted and run again at any time. {_already('replayed')}",
    )  # fmt: skip
    which(again, chosen=True)
    again.add_argument("--rate", type=positive, default=1000, metavar="N", help="at most so many a second (1000)")
    again.add_argument("--limit", type=positive, metavar="N", help="look at so many letters at most")
    again.add_argument(
        "--wait", type=seconds, default=30.0, metavar="SECONDS", help="how long to wait until they are stored (30)"
    )
    dry_run(again)
    format_(again)
    again.set_defaults(
        run=lambda chosen, options: dead_letters.replay_(
            chosen, meant(options), dry_run=options.dry_run, rate=options.rate, most=options.limit, wait=options.wait,
            as_json=options.format == "json",
        )
    )  # fmt: skip
    gone = _add(group, "discard", "close kept letters without sending them anywhere", _already("discarded"))
    which(gone, chosen=True)
    dry_run(gone)
    yes(gone)
    gone.set_defaults(
        run=lambda chosen, options: dead_letters.discard(
            chosen, meant(options), dry_run=options.dry_run, yes=options.yes
        )
    )


def _already(outcome: str) -> str:
    return (
        f"A named letter that is {outcome} already is told and passed over (code 0); where one does not exist, or was "
        "closed in the other way, nothing is done (code 1)."
    )


def _sources(group: Any) -> None:
    paused = _add(
        group, "pause", "let the collectors of a source fetch nothing more, until resume",
        "All of them, and over restarts. Events are accepted meanwhile and wait in the stream.",
    )  # fmt: skip
    paused.set_defaults(run=lambda chosen, options: commands.pause_sources(chosen, options.sources))
    resumed = _add(group, "resume", "let the collectors of a source go on")
    resumed.set_defaults(run=lambda chosen, options: commands.resume_sources(chosen, options.sources))
    for parser in (paused, resumed):
        parser.add_argument("sources", nargs="+", choices=COLLECTED, metavar="SOURCE", help=", ".join(COLLECTED))
    drained = _add(
        group, "drain", "wait until everything accepted by now is stored", "Before an upgrade, for instance."
    )
    drained.add_argument("--source", choices=COLLECTED, action="append", help="of this source only; may be repeated")
    drained.add_argument("--timeout", type=seconds, default=600.0, metavar="SECONDS", help="give up then, code 1 (600)")
    drained.set_defaults(
        run=lambda chosen, options: commands.drain(chosen, options.source or COLLECTED, options.timeout)
    )


def _partitions(group: Any) -> None:
    listed = _add(group, "list", "list the days that have a partition")
    format_(listed)
    listed.set_defaults(run=lambda chosen, options: commands.list_partitions(chosen, as_json=options.format == "json"))
    made = _add(group, "ensure", "make the partitions ahead that are missing, and attach those that are detached")
    made.add_argument("--days", type=days, metavar="N", help="how many days ahead (PARTITIONS_AHEAD_DAYS)")
    dry_run(made)
    made.set_defaults(
        run=lambda chosen, options: commands.ensure_partitions(chosen, options.days, dry_run=options.dry_run)
    )
    indexed = _add(
        group, "index", "build the index on campaigns of partitions that are older than it",
        "One partition after the other, while it is written and read; may be interrupted and run again.",
    )  # fmt: skip
    dry_run(indexed)
    indexed.set_defaults(run=lambda chosen, options: commands.index_partitions(chosen, dry_run=options.dry_run))
    gone = _add(group, "drop", "drop old days with their events, for good", "Reports keep their counts, by rollups.")
    gone.add_argument("--older-than", type=days, required=True, metavar="DAYS", help="days to keep, such as 90")
    dry_run(gone)
    yes(gone)
    gone.set_defaults(
        run=lambda chosen, options: commands.drop_partitions(
            chosen, options.older_than, dry_run=options.dry_run, yes=options.yes
        )
    )


def _countries(group: Any) -> None:
    rebuilt = _add(
        group, "rebuild", "give the places to the most frequent countries, and count the kept days accordingly",
        "Reads all rows. Collectors store meanwhile; they wait only at the end, while places and rollups change.",
    )  # fmt: skip
    dry_run(rebuilt)
    yes(rebuilt)
    rebuilt.set_defaults(
        run=lambda chosen, options: commands.rebuild_countries(chosen, dry_run=options.dry_run, yes=options.yes)
    )


def _streams(group: Any) -> None:
    listed = _add(group, "list", "list the streams, and where they are not as declared")
    format_(listed)
    listed.set_defaults(run=lambda chosen, options: commands.list_streams(chosen, as_json=options.format == "json"))
    applied = _add(group, "apply", "make the streams as they are declared")
    dry_run(applied)
    yes(applied)
    applied.set_defaults(
        run=lambda chosen, options: commands.apply_streams(chosen, dry_run=options.dry_run, yes=options.yes)
    )
    accepted = _add(group, "accept-loss", "take what doctor tells as lost as known", "It stays in the ledger.")
    yes(accepted)
    accepted.set_defaults(run=lambda chosen, options: commands.accept_losses(chosen, yes=options.yes))


if __name__ == "__main__":
    main()
