"""How operators' commands speak: tables for people, JSON for programs, progress on stderr, and questions.

Results go to stdout and nothing else does, so that `--format json` can be piped on. On a terminal progress is a bar;
elsewhere it is a line now and then.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import orjson
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from core.errors import SluiceError

PIPED_WIDTH: Final = 140
LINE_SECONDS: Final = 2.0


class NotConfirmed(SluiceError):
    """Nobody said yes: nothing was changed."""


class Advance(Protocol):
    """Tells a progress how far it has come, and what is said beside the bar."""

    def __call__(self, done: int, remark: str = "") -> None: ...


def console() -> Console:
    """Where results are printed."""
    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH, highlight=False)


def table(names: Sequence[str], rows: Sequence[Sequence[str]], *, cut: Sequence[str] = ()) -> Table:
    """A table of texts. Where the terminal is too narrow, the columns of `cut` are cut and no others."""
    shown = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for place, name in enumerate(names):
        width = max(len(name), *(len(row[place]) for row in rows)) if rows else len(name)
        shown.add_column(name, no_wrap=True, min_width=8 if name in cut else width)
    for row in rows:
        shown.add_row(*map(escape, row))
    return shown


def print_json(value: Any) -> None:
    """Print one JSON document."""
    sys.stdout.buffer.write(orjson.dumps(value, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    sys.stdout.buffer.flush()


def confirm(question: str, *, yes: bool) -> None:
    """Ask before data is deleted, or written that no sender sent. Raises NotConfirmed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise NotConfirmed(f"{question}: there is no terminal to ask at; give --yes")
    sys.stderr.write(f"{question}? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise NotConfirmed("nothing was changed")


@contextmanager
def progress(what: str, total: int) -> Iterator[Advance]:
    """Show how something goes on, out of `total`."""
    if not sys.stderr.isatty():
        yield _lines(what, total)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[remark]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True)) as shown:
        task = shown.add_task(what, total=total, remark="")

        def advance(done: int, remark: str = "") -> None:
            shown.update(task, completed=done, remark=remark)

        yield advance


def _lines(what: str, total: int) -> Advance:
    told = time.monotonic()

    def advance(done: int, remark: str = "") -> None:
        nonlocal told
        if done >= total or time.monotonic() - told >= LINE_SECONDS:
            told = time.monotonic()
            sys.stderr.write(f"{what}: {done:,} of {total:,}{remark and '  ' + remark}\n")

    return advance


def moment(instant: datetime | None) -> str:
    """An instant for a table: UTC, to the second."""
    return "" if instant is None else instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def plural(count: int, what: str) -> str:
    """`1 dead letter`, `2 dead letters`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def safe(text: str) -> str:
    """Without what a terminal would obey: what a sender wrote is only ever shown."""
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)
