"""The commands of `python -m ops` with their options: `command_line()`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from core.errors import Misconfigured
from core.events.subjects import COLLECTED
from ops.cli import commands, report
from ops.cli.arguments import amount, command, days, dry_run, format_, group_of, seconds, values, yes
from ops.dead_letters import options as dead_letters
from ops.doctor import doctor
from ops.settings import OperatorSettings


@contextmanager
def from_a_checkout() -> Iterator[None]:
    """Import here what runs a stack on one machine: an image holds only what services need. Raises Misconfigured."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise Misconfigured(f"only a checkout can do this (after make setup): there is no {error.name} here") from None


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
    report.options(group_of(group, "report", "show a report of the last 24 hours, or of any range"))
    doctor.options(command(group, "doctor", "check everything, and say what mends what is wrong"))
    what = "events that could not be stored (dead) or were rejected at the door (rejected)"
    dead_letters.options(group_of(group, "dead-letters", f"work with {what}"))
    _sources(group)
    _partitions(group_of(group, "partitions", "list, make, index and drop the daily partitions"))
    _countries(group_of(group, "countries", "work with the registry of countries that have rollups of their own"))
    _streams(group_of(group, "streams", "compare the streams with what is declared"))
    migrate = command(group, "migrate", "bring the database's schema up to date; safe at any time")
    migrate.set_defaults(run=lambda settings, _: commands.migrate(settings))
    return parser


def _fill(group: Any) -> None:
    parser = command(
        group, "fill", "fill the database with made events, for demonstrations and benchmarks",
        "Straight into partitions and rollups; the ledger balances. Where no system is meant, the local stack's "
        "database in .sluice is filled; another one only after a question, or with --yes.",
    )  # fmt: skip
    parser.add_argument("--events", type=amount, required=True, metavar="N", help="how many: 50000, 10M")
    parser.add_argument("--days", type=days, default=30, metavar="N", help="spread over so many days before now (30)")
    values(parser)
    yes(parser)
    parser.set_defaults(run=_run_fill)


async def _run_fill(settings: OperatorSettings, options: argparse.Namespace) -> int:
    with from_a_checkout():
        fill = import_module("bench.fill")  # by its name: bench stands above ops, and an image holds no bench
    code: int = await fill.run(settings, options.events, options.days, options.values, yes=options.yes)
    return code


def _sources(group: Any) -> None:
    paused = command(
        group, "pause", "let the collectors of a source fetch nothing more, until resume",
        "All of them, and over restarts. Events are accepted meanwhile and wait in the stream.",
    )  # fmt: skip
    paused.set_defaults(run=lambda settings, options: commands.pause_sources(settings, options.sources))
    resumed = command(group, "resume", "let the collectors of a source go on")
    resumed.set_defaults(run=lambda settings, options: commands.resume_sources(settings, options.sources))
    for parser in (paused, resumed):
        parser.add_argument("sources", nargs="+", choices=COLLECTED, metavar="SOURCE", help=", ".join(COLLECTED))
    drained = command(
        group, "drain", "wait until everything accepted by now is stored", "Before an upgrade, for instance."
    )
    drained.add_argument("--source", choices=COLLECTED, action="append", help="of this source only; may be repeated")
    drained.add_argument("--timeout", type=seconds, default=600.0, metavar="SECONDS", help="give up then, code 1 (600)")
    drained.set_defaults(
        run=lambda settings, options: commands.drain(settings, options.source or COLLECTED, options.timeout)
    )


def _partitions(group: Any) -> None:
    listed = command(group, "list", "list the days that have a partition")
    format_(listed)
    listed.set_defaults(
        run=lambda settings, options: commands.list_partitions(settings, as_json=options.format == "json")
    )
    made = command(group, "ensure", "make the partitions ahead that are missing, and attach those that are detached")
    made.add_argument("--days", type=days, metavar="N", help="how many days ahead (PARTITIONS_AHEAD_DAYS)")
    dry_run(made)
    made.set_defaults(
        run=lambda settings, options: commands.ensure_partitions(settings, options.days, dry_run=options.dry_run)
    )
    indexed = command(
        group, "index", "build the index on campaigns of partitions that are older than it",
        "One partition after the other, while it is written and read; may be interrupted and run again.",
    )  # fmt: skip
    dry_run(indexed)
    indexed.set_defaults(run=lambda settings, options: commands.index_partitions(settings, dry_run=options.dry_run))
    gone = command(group, "drop", "drop old days with their events, for good", "Reports keep their counts, by rollups.")
    gone.add_argument("--older-than", type=days, required=True, metavar="DAYS", help="days to keep, such as 90")
    dry_run(gone)
    yes(gone)
    gone.set_defaults(
        run=lambda settings, options: commands.drop_partitions(
            settings, options.older_than, dry_run=options.dry_run, yes=options.yes
        )
    )


def _countries(group: Any) -> None:
    rebuilt = command(
        group, "rebuild", "give the places to the most frequent countries, and count the kept days accordingly",
        "Reads all rows. Collectors store meanwhile; they wait only at the end, while places and rollups change.",
    )  # fmt: skip
    dry_run(rebuilt)
    yes(rebuilt)
    rebuilt.set_defaults(
        run=lambda settings, options: commands.rebuild_countries(settings, dry_run=options.dry_run, yes=options.yes)
    )


def _streams(group: Any) -> None:
    listed = command(group, "list", "list the streams, and where they are not as declared")
    format_(listed)
    listed.set_defaults(run=lambda settings, options: commands.list_streams(settings, as_json=options.format == "json"))
    applied = command(group, "apply", "make the streams as they are declared")
    dry_run(applied)
    yes(applied)
    applied.set_defaults(
        run=lambda settings, options: commands.apply_streams(settings, dry_run=options.dry_run, yes=options.yes)
    )
    accepted = command(group, "accept-loss", "take what doctor tells as lost as known", "It stays in the ledger.")
    yes(accepted)
    accepted.set_defaults(run=lambda settings, options: commands.accept_losses(settings, yes=options.yes))
