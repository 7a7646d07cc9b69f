"""Print the results of operators' commands: tables for people, JSON for programs.

Results go to stdout; progress, questions and errors go to stderr, so that `--format json` can be piped. On a terminal
progress is a bar, elsewhere a line every few seconds. Colours appear only on a terminal, and never if NO_COLOR is set.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final, Protocol

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from core.errors import SluiceError

PIPED_WIDTH: Final = 140
LINE_SECONDS: Final = 2.0


class NotConfirmed(SluiceError):
    """The operator did not confirm a change. Nothing was changed."""


class Advance(Protocol):
    """Report how much of a progress is done, with a remark that is shown beside it."""

    def __call__(self, done: int, remark: str = "") -> None: ...


def console(*, stderr: bool = False) -> Console:
    """Return the console of stdout, or of stderr."""
    is_terminal = (sys.stderr if stderr else sys.stdout).isatty()
    return Console(
        stderr=stderr,
        width=None if is_terminal else PIPED_WIDTH,
        highlight=False,
        force_terminal=is_terminal,
        color_system="auto" if is_terminal and not os.environ.get("NO_COLOR") else None,
    )


def table(names: Sequence[str], rows: Sequence[Sequence[str]], *, cut: Sequence[str] = ()) -> Table:
    """Return a table of texts. If the terminal is too narrow, only the columns in `cut` are shortened."""
    shown = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for place, name in enumerate(names):
        width = max(len(name), *(len(row[place]) for row in rows)) if rows else len(name)
        shown.add_column(name, no_wrap=True, min_width=8 if name in cut else width)
    for row in rows:
        shown.add_row(*map(escape, row))
    return shown


def print_json(document: Any) -> None:
    """Print one JSON document."""
    _write(msgspec.json.format(msgspec.json.encode(document), indent=2))


def print_json_line(document: Any) -> None:
    """Print one JSON document on one line."""
    _write(msgspec.json.encode(document))


def print_text(text: str) -> None:
    """Print a line of text as it is, without markup."""
    console().print(text, markup=False)


def _write(document: bytes) -> None:
    sys.stdout.buffer.write(document + b"\n")
    sys.stdout.buffer.flush()


def confirm(action: str, *, yes: bool) -> None:
    """Ask before an action that deletes or adds data. Raises NotConfirmed."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise NotConfirmed(f"{action}: stdin is not a terminal, so the command cannot ask; confirm with --yes")
    sys.stderr.write(f"{action}? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise NotConfirmed("not confirmed: nothing was changed")


@contextmanager
def progress(action: str, total: int) -> Iterator[Advance]:
    """Show the progress of an action on stderr, out of `total`."""
    if not sys.stderr.isatty():
        yield _lines(action, total)
        return
    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TaskProgressColumn(),
        TimeRemainingColumn(), TextColumn("{task.fields[remark]}"),
    )  # fmt: skip
    with Progress(*columns, console=console(stderr=True)) as bars:
        task = bars.add_task(action, total=total, remark="")

        def advance(done: int, remark: str = "") -> None:
            bars.update(task, completed=done, remark=remark)

        yield advance


def _lines(action: str, total: int) -> Advance:
    printed_at = time.monotonic()

    def advance(done: int, remark: str = "") -> None:
        nonlocal printed_at
        if done >= total or time.monotonic() - printed_at >= LINE_SECONDS:
            printed_at = time.monotonic()
            sys.stderr.write(f"{action}: {done:,} of {total:,}{remark and '  ' + remark}\n")

    return advance


def moment(instant: datetime | None) -> str:
    """Return an instant for a table: UTC, to the second."""
    return "" if instant is None else instant.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S")


def plural(count: int, noun: str) -> str:
    """Return `1 message`, `2 messages`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def safe(text: str) -> str:
    """Return a sender's text without the control characters that a terminal would act on."""
    return "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)
