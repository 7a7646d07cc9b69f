"""What `sluice` shows of itself: help, examples, shapes of JSON, completion, colours; and the script that starts it."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from core.metrics import VERSION
from ops.cli.documents import UpLine, shape
from ops.cli.output import console, print_json_line
from ops.cli.parser import CommandParser
from ops.command_line import SECTIONS, SHELLS, command_line
from ops.command_page import PAGE, page
from ops.local.flow import Sample, up_line
from tests.support.operator import assert_shape
from tests.support.processes import ROOT


def leaves(parser: CommandParser, words: str = "") -> dict[str, CommandParser]:
    """Every command that can be run, by its words."""
    below = parser.commands()
    if not below:
        return {words: parser}
    return {name: leaf for word, one in below.items() for name, leaf in leaves(one, f"{words} {word}".strip()).items()}


LEAVES = leaves(command_line())


def test_each_command_is_in_one_section() -> None:
    """The sections of the help list every command once."""
    listed = [name for names in SECTIONS.values() for name in names]
    assert sorted(listed) == sorted(command_line().commands())


@pytest.mark.parametrize("words", LEAVES)
def test_each_command_has_examples_and_a_json_shape(words: str) -> None:
    """Help shows at least one example of the command itself, and the shape of its document; `--format json` exists."""
    text = LEAVES[words].format_help()
    assert f"usage: sluice {words}" in text
    assert f"sluice {words}" in text.partition("\nexamples:\n")[2]
    assert shape(LEAVES[words].document).splitlines()[0] in text.partition("\nwith --format json:\n")[2]
    (format_,) = [action for action in LEAVES[words]._actions if action.dest == "format"]
    assert format_.choices
    assert "json" in format_.choices


@pytest.mark.parametrize("words", ["", *LEAVES])
def test_each_example_can_be_run(words: str) -> None:
    """The parser takes each example as it stands."""
    parser = LEAVES[words] if words else command_line()
    for example in parser.examples:
        line = example.removeprefix('eval "$(').replace(')"', "").partition(" > ")[0]
        arguments = shlex.split(line, comments=True)
        arguments = arguments[arguments.index("sluice") + 1 :]
        if arguments[0] == "COMMAND":
            continue
        assert command_line().parse_args(arguments).command == (words or arguments[0]).split()[0], example


def test_the_page_is_what_the_parser_says() -> None:
    """`python -m ops.command_page` writes docs/command-line.md anew."""
    assert PAGE.read_text() == page()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """--version prints the version and ends with code 0."""
    with pytest.raises(SystemExit) as ended:
        command_line().parse_args(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"sluice {VERSION}\n")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_takes_the_completion(shell: str) -> None:
    """Each script names every command, and the shell finds no error in it, if it is installed."""
    script = subprocess.run(
        [sys.executable, "-m", "ops", "completion", shell], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    assert all(name in script for name in command_line().commands())
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stdout", "environment", "coloured"),
    [
        (Terminal(), {}, True),
        (Terminal(), {"NO_COLOR": "1"}, False),
        (Terminal(), {"NO_COLOR": "1", "FORCE_COLOR": "1"}, False),
        (io.StringIO(), {}, False),
        (io.StringIO(), {"FORCE_COLOR": "1"}, False),
    ],
)
def test_colours(
    monkeypatch: pytest.MonkeyPatch, stdout: io.StringIO, environment: dict[str, str], *, coloured: bool
) -> None:
    """Only a terminal gets colours, and none if NO_COLOR is set."""
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"TERM": "xterm-256color"} | environment).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "stdout", stdout)
    console().print("[bold red]wrong[/]")
    assert ("\x1b[" in stdout.getvalue()) is coloured


def test_a_second_of_flow_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    """`sluice up --format json` prints the rates between two samples, and leaves out nothing but the addresses."""
    before = Sample(at=1.0, accepted=10, stored={"fb-collector": 5})
    now = Sample(at=3.0, accepted=30, stored={"fb-collector": 25}, lag_seconds=0.5, states={"nats": "ready"})
    print_json_line(up_line(before, now))
    (line,) = capsys.readouterr().out.splitlines()
    document = json.loads(line)
    assert_shape(["up"], document)
    assert (document["accepted_per_second"], document["stored_per_second"], document["stored"]) == (10.0, 10.0, 25)
    assert document["programs"] == {"nats": "ready"}
    assert document.keys() == {*UpLine.__struct_fields__} - {"addresses"}


def test_the_script_runs_the_sources_beside_it(tmp_path: Path) -> None:
    """From any folder it runs the checkout whose .venv it is in, and imports nothing from the current folder."""
    checkout, elsewhere = tmp_path / "checkout", tmp_path / "elsewhere"
    programs = checkout / ".venv" / "bin"
    programs.mkdir(parents=True)
    (elsewhere / "ops").mkdir(parents=True)
    (elsewhere / "ops" / "__main__.py").write_text("raise SystemExit('the wrong one')")
    shutil.copy(ROOT / "ops" / "sluice", programs / "sluice")
    (programs / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (programs / "python").chmod(0o755)
    for name in ("core", "collector", "gateway", "ops", "reporter", "sql"):
        (checkout / name).symlink_to(ROOT / name)
    for command in (str(programs / "sluice"), "sluice"):
        done = subprocess.run(
            [command, "--version"],
            cwd=elsewhere,
            env={"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert (done.stdout, done.stderr) == (f"sluice {VERSION}\n", "")


def test_make_puts_the_command_into_the_environment() -> None:
    """`make up`, `make demo` and `make setup` copy the script to .venv/bin, and run it from there."""
    text = (ROOT / "Makefile").read_text()
    assert "SLUICE := $(VENV)/bin/sluice" in text
    for target in ("setup", "up", "demo", "reset-data"):
        (line,) = [line for line in text.splitlines() if line.startswith(f"{target}:")]
        assert "$(SLUICE)" in line
    assert (ROOT / "ops" / "sluice").stat().st_mode & 0o111
