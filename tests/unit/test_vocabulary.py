"""The words of the project: those that docs/glossary.md and the style replace do not come back."""

import io
import re
import subprocess
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import ROOT

# A word in the left column is written as the right column says.
IDENTIFIERS = {
    "asked": "params",
    "chosen": "settings, selected",
    "door": "gateway, handler, reader",
    "glimpse": "peek",
    "letter": "dead_letter",
    "letters": "dead_letters",
    "mend": "fix",
    "mended": "fixed",
    "refuse": "reject",
    "refused": "rejected",
    "stood": "existed",
    "tell": "record, log, report",
    "told": "recorded, logged, reported",
    "understood": "resolved",
    "verdict": "result",
}
PROSE = {
    r"but for": "except",
    r"door": "gateway",
    r"for want of": "because … is missing",
    r"glimpses?": "peek",
    r"(?<!dead )(?<!dead-)(?<!capital )(?<!lower-case )(?<!with a )(?<!letter-)letters?(?! a to z)": "dead letter",
    r"mend(s|ed|ing)?": "fix",
    r"(?<!user )(?<![\"'])nobody(?![\"'])": "no …",
    r"stood": "was, existed",
    r"(?<!connection )(?<!connections )refus(e|es|ed|ing|als?)": "reject",
    r"told|tells?": "log, report, show",
    r"verdicts?": "result",
    r"whoever": "each … that",
}
# Where a word is the right one.
RIGHT = {
    ("bench/publisher", "letters"),  # of the alphabet
    ("bench/fill.py", "letters"),
    ("tests/unit/test_vocabulary.py", ""),
    ("sql/migrations/000", ""),  # applied: their text is part of their checksum
    ("tests/contract/golden", ""),
    ("CHANGELOG.md", ""),  # it names what was renamed
    ("core/settings.py", "refused"),
    ("sql/migrations/0009_names.sql", ""),  # it renames
    ("ops/cli/streams.py", "refused"),  # the stream of the version before
    ("tests/integration/test_ops_streams.py", "refused"),
}
BUILT_IN = {"ConnectionRefusedError"}
IN_CODE = ("*.py", "*.rs")
IN_PROSE = (
    "*.md",
    "*.sql",
    "*.yml",
    "*.yaml",
    "*.conf",
    "*.html",
    "*.js",
    "*.toml",
    ".env.example",
    "Makefile",
    "*.rs",
)
NEVER = re.compile(r"\.lock$|package-lock|^bench/results/|^ops/grafana/preview|/node_modules/")


def files(*patterns: str) -> Iterator[tuple[str, str]]:
    """The project's own files of these patterns, with their text."""
    listed = subprocess.run(["git", "ls-files", *patterns], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        path = ROOT / name
        if not NEVER.search(name) and path.is_file():
            yield name, path.read_text(encoding="utf-8")


def right(name: str, word: str) -> bool:
    """Whether this word may be in this file."""
    return any(name.startswith(place) and allowed in ("", word.lower()) for place, allowed in RIGHT)


def identifiers(name: str, text: str) -> Iterator[str]:
    """The identifiers of a file's code."""
    if name.endswith(".rs"):
        code = re.sub(r"//.*|\"(\\.|[^\"\\])*\"", "", text)
        yield from re.findall(r"[A-Za-z_]\w*", code)
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME:
            yield token.string


def words(identifier: str) -> list[str]:
    """The words of an identifier: snake_case and CamelCase."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", identifier)]


def prose(name: str, text: str) -> str:
    """What a person reads of a file: comments and strings of code, all of the rest."""
    if not name.endswith(".py"):
        return text
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    found = "\n".join(token.string for token in tokens if token.type in (tokenize.STRING, tokenize.COMMENT))
    return re.sub(r"[ \n]+", " ", found)


def test_no_identifier_has_a_word_of_our_own() -> None:
    """Names of code are the field's: no identifier contains a replaced word."""
    found = {
        f"{name}: {identifier} (write: {IDENTIFIERS[word]})"
        for name, text in files(*IN_CODE)
        for identifier in set(identifiers(name, text)) - BUILT_IN
        for word in words(identifier)
        if word in IDENTIFIERS and not ("dead" in words(identifier) and word.startswith("letter"))
        if not right(name, word)
    }
    assert not found, "\n".join(sorted(found))


@pytest.fixture(scope="module")
def texts() -> list[tuple[str, str]]:
    """What a person reads of each file."""
    return [(name, prose(name, text)) for name, text in files("*.py", *IN_PROSE)]


@pytest.mark.parametrize(("word", "instead"), PROSE.items())
def test_no_text_has_a_word_of_our_own(texts: list[tuple[str, str]], word: str, instead: str) -> None:
    """Docs, messages, comments and settings are plain technical English: no replaced word."""
    pattern = re.compile(rf"(?<![\w-])({word})(?![\w-])", re.IGNORECASE)
    found = [
        f"{name}: …{read[max(0, match.start() - 40) : match.end() + 40]!r} (write: {instead})"
        for name, read in texts
        for match in pattern.finditer(read)
        if not right(name, match[0])
    ]
    assert not found, f"{len(found)} places\n" + "\n".join(found[:200])


def test_glossary_terms_are_alone_in_their_line() -> None:
    """The glossary has each term once, in order, with one sentence or two."""
    lines = [
        line
        for line in Path(ROOT, "docs", "glossary.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| **")
    ]
    terms = [re.findall(r"\*\*(.+?)\*\*", line)[0] for line in lines]
    assert len(terms) >= 25
    assert terms == sorted(terms, key=str.lower)
    assert len(set(terms)) == len(terms)
