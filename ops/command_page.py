"""docs/command-line.md: every command with its options, examples and JSON shape, from the parser itself.

`python -m ops.command_page` writes it anew; a test holds the page and the parser to each other.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ops.cli.documents import shape
from ops.cli.parser import CommandParser
from ops.command_line import EXAMPLES, SECTIONS, command_line

PAGE: Final = Path(__file__).parents[1] / "docs" / "command-line.md"
_HEADING: Final = """\
# The command line

<!-- Written by `python -m ops.command_page` from ops/command_line.py: change that, then run it. -->

`make setup`, `make up` and `make demo` put `sluice` into `.venv/bin`; the image has it in its PATH. `pip install .`
installs it in any environment; with the extra, `pip install '.[local]'`, it runs a local stack, too. `python -m ops`
is the same command.

{description}

`--format json` prints one JSON document (`sluice up`: one a line) on stdout. Error messages are text on stderr in every
format. Colours appear only on a terminal, and never if `NO_COLOR` is set.

```sh
{examples}
```
"""


def page() -> str:
    """Return docs/command-line.md as the parser describes it."""
    parser = command_line()
    parts = [_HEADING.format(description=parser.epilog, examples="\n".join(EXAMPLES[:-1]))]
    commands = parser.commands()
    for title, names in SECTIONS.items():
        parts.append(f"## {title[0].upper()}{title[1:]}\n")
        for name in names:
            parts += _command(f"sluice {name}", commands[name])
    return "\n".join(parts)


def _command(words: str, parser: CommandParser) -> Iterator[str]:
    below = parser.commands()
    for name, action in below.items():
        yield from _command(f"{words} {name}", action)
    if below:
        return
    yield f"### {words}\n"
    yield f"{parser.description}\n"
    if rows := [_row(action) for action in parser._actions if action.dest != "help"]:
        yield "| option | meaning |\n| --- | --- |\n" + "".join(rows)
    yield "```sh\n" + "\n".join(parser.examples) + "\n```\n"
    text = shape(parser.document)
    yield f"JSON: {text}.\n" if isinstance(parser.document, str) else f"JSON:\n\n```text\n{text}\n```\n"


def _row(action: argparse.Action) -> str:
    value = action.metavar or ("" if action.nargs == 0 else "VALUE")
    if action.choices and not action.metavar:
        value = " or ".join(map(str, action.choices))
    name = " ".join(filter(None, (*action.option_strings[-1:], str(value))))
    meaning = (action.help or "").replace("%%", "%").replace("|", "\\|")
    return f"| `{name}` | {meaning} |\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
