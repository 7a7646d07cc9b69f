"""The parser of `sluice`: help in sections, examples, `--format`, and the shape of each command's JSON document."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final, NoReturn

from ops.cli.documents import shape

FORMATS: Final = ("text", "json")


class CommandParser(argparse.ArgumentParser):
    """A parser whose help ends with examples and, for a command that prints a document, with its JSON shape.

    sections maps a heading to the commands under it; without sections, argparse lists the commands.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.examples: Sequence[str] = ()
        self.sections: Mapping[str, Sequence[str]] = {}
        self.document: Any = None

    def format_help(self) -> str:
        """Return the help text."""
        formatter = self._get_formatter()
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        if self.sections:
            for title, names in self.sections.items():
                _add_section(formatter, title, [self._listed()[name] for name in names])
            _add_section(formatter, "options", [action for action in self._actions if action.option_strings])
        else:
            for group in self._action_groups:
                _add_section(formatter, group.title, group._group_actions)
        formatter.add_text(self.epilog)
        return formatter.format_help() + self._examples_and_shape()

    def error(self, message: str) -> NoReturn:
        """Print the usage, what is wrong, and where help is; exit with code 2."""
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: {message}. See `{self.prog} --help`\n")

    def commands(self) -> dict[str, CommandParser]:
        """Return the commands or actions below this parser, by name."""
        choices = self._subparsers_action.choices if self._subparsers_action else {}
        return dict(choices)

    @property
    def _subparsers_action(self) -> argparse._SubParsersAction[CommandParser] | None:
        return next((action for action in self._actions if isinstance(action, argparse._SubParsersAction)), None)

    def _listed(self) -> dict[str, argparse.Action]:
        """Return the line of each command in the list of commands, by name."""
        action = self._subparsers_action
        return {} if action is None else {listed.dest: listed for listed in action._choices_actions}

    def _examples_and_shape(self) -> str:
        text = ""
        if self.examples:
            text += "\nexamples:\n" + "".join(f"  {example}\n" for example in self.examples)
        if self.document is not None:
            lines = shape(self.document).splitlines()
            text += "\nwith --format json:\n" + "".join(f"  {line}\n" for line in lines)
        return text


def _add_section(formatter: argparse.HelpFormatter, title: str | None, actions: Sequence[argparse.Action]) -> None:
    formatter.start_section(title)
    formatter.add_arguments(actions)
    formatter.end_section()


def command(
    group: Any,
    name: str,
    summary: str,
    more: str = "",
    *,
    examples: Sequence[str] = (),
    document: Any = None,
    formats: Sequence[str] = FORMATS,
) -> CommandParser:
    """Add a command to a group of commands; return its parser.

    document is the type of its JSON document, or a text that says where the shape is documented. A command with a
    document has `--format`.
    """
    parser: CommandParser = group.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}. {more}".strip()
    )
    parser.examples = examples
    parser.document = document
    if document is not None:
        parser.add_argument(
            "--format",
            choices=formats,
            default="text",
            help="text for people, " + " or ".join(formats[1:]) + " for programs",
        )
    return parser


def group_of(group: Any, name: str, summary: str, *, examples: Sequence[str] = ()) -> Any:
    """Add a command that has actions; return the group that actions are added to."""
    parser = command(group, name, summary, examples=examples)
    return parser.add_subparsers(dest="action", required=True, metavar="ACTION", title="actions")
