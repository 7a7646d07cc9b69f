"""SQL as files of named statements."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import sql
from collector.sources import SOURCES
from ops import source_sql
from ops.dead_letters.records import KINDS
from sql import statements

ROOT = Path(sql.__file__).parents[1]
OURS = ("store", "maintenance", "partitions", "migrations", "dead_letters", "session", "doctor", "countries")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty folder that statements are read from."""
    monkeypatch.setattr(sql, "FOLDER", tmp_path)
    statements.cache_clear()
    yield tmp_path
    statements.cache_clear()


def test_a_file_gives_its_statements_by_name(folder: Path) -> None:
    """What stands above the first name is the file's own; comments under a name belong to the statement."""
    (folder / "some.sql").write_text("-- About.\n\n-- name: first\n-- why\nSELECT 1\n\n-- name: second\nSELECT 2;\n")
    assert statements("some") == {"first": "-- why\nSELECT 1", "second": "SELECT 2;"}


def test_a_name_occurs_once(folder: Path) -> None:
    """Two statements of one name are an error that names both file and statement."""
    (folder / "some.sql").write_text("-- name: one\nSELECT 1\n-- name: one\nSELECT 2\n")
    with pytest.raises(ValueError, match=r"some\.sql: statement one occurs twice"):
        statements("some")


def test_an_unknown_file_is_an_error() -> None:
    """A misspelt file is no empty set of statements."""
    with pytest.raises(FileNotFoundError):
        statements("no_such_file")


@pytest.mark.parametrize("source", SOURCES)
def test_each_source_has_its_statements(source: str) -> None:
    """A source has its merge."""
    assert f"merge_{source}" in statements("store") | statements("sources")


def test_the_generated_statements_follow_from_the_declarations() -> None:
    """`python -m ops.source_sql` writes sql/sources.sql anew."""
    assert source_sql.FILE.read_text() == source_sql.text()


@pytest.mark.parametrize("file", OURS)
def test_no_statement_is_dead(file: str) -> None:
    """Every statement of a file is named somewhere in the code."""
    paths = (path for folder in ("core", "collector", "ops") for path in (ROOT / folder).rglob("*.py"))
    code = "\n".join(path.read_text() for path in paths)
    composed = {f"close_{kind}" for kind in KINDS}
    unused = {name for name in statements(file) if not re.search(rf'\["{name}"\]', code)} - composed
    assert not unused
