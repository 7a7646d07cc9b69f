"""The documents: their size and parts, their links, and the `sluice` commands that they show."""

from __future__ import annotations

import argparse
import re
import shlex
from pathlib import Path

import pytest

from ops.command_line import command_line
from tests.support.processes import ROOT

DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "ops" / "runbooks").glob("*.md")]
)  # fmt: skip
FENCE = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
FILE = re.compile(r"`((?:core|collector|gateway|reporter|ops|bench|sql|tests|docs)/[\w./-]+\.\w+)`")
# In a span, or a line of a fenced block; an ellipsis stands for more than one command.
COMMAND = re.compile(r"(?:`|^ *|operator |-- )sluice ((?!…)[a-z][^`\n#…]*)(?=`|\n| *#)", re.MULTILINE)
SECTIONS = ["Context", "Decision", "Alternatives", "Measured", "Consequences", "Revisit when"]


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(path: Path) -> set[str]:
    """The anchors that GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", path.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_a_name(words: list[str]) -> bool:
    """Whether these words name a command, without any option."""
    parser = command_line()
    for word in words:
        groups = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if not groups or word not in groups[0].choices:
            return False
        parser = groups[0].choices[word]
    return True


def test_the_first_pages_are_short() -> None:
    """README has at most 200 lines, ARCHITECTURE at most 8 kB."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200
    assert (ROOT / "ARCHITECTURE.md").stat().st_size <= 8000


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_lead_somewhere(document: Path) -> None:
    """Each link to a file of this repository names an existing file, and an existing heading."""
    for link in LINK.findall(FENCE.sub("", document.read_text())):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_commands_can_be_parsed(document: Path) -> None:
    """Each `sluice` command in a document is one that the command line accepts, or the name of one."""
    for command in COMMAND.findall(document.read_text()):
        words = shlex.split(command.partition(" >")[0].replace("NAME", "dead-17"))
        if is_a_name(words):
            continue
        try:
            command_line().parse_args(words)
        except SystemExit:
            pytest.fail(f"sluice {command}")


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_named_files_exist(document: Path) -> None:
    """Each file of the tree that a document names exists, except the one that docs/add-a-source.md adds."""
    for path in FILE.findall(document.read_text()):
        assert path == "core/sources/google.py" or (ROOT / path).is_file(), path


@pytest.mark.parametrize("decision", DECISIONS, ids=name)
def test_decisions_have_all_sections(decision: Path) -> None:
    """A decision has a date and the six sections in order, and is in the index."""
    text = decision.read_text()
    assert re.search(r"^Date: \d{4}-\d\d-\d\d", text, re.MULTILINE)
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    assert f"]({decision.name})" in (decision.parent / "README.md").read_text()
