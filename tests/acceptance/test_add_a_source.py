"""A third source is one file and one migration: a copy of the tree does what docs/add-a-source.md says."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.support.stack import reachable_folder

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "add-a-source.md"
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv", ".sluice", "target", "node_modules", "__pycache__", ".*_cache", ".hypothesis", "results", "bin"
)


def run(folder: Path, *command: str) -> str:
    """Run a Python command in a folder; what it prints."""
    ended = subprocess.run(
        [sys.executable, *command], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
    return ended.stdout


def forgotten(folder: Path) -> set[str]:
    """The tests of what a deployment needs that fail for the new source."""
    tests = "tests/contract/test_each_source_is_deployed.py"
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--confcutdir", "tests/contract", tests],
        cwd=folder, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    return set(re.findall(r"^FAILED \S+::(\w+)\[google\]", ended.stdout, re.MULTILINE))


def contents(folder: Path) -> dict[str, str]:
    """The hash of each source file by its path."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_what_the_page_says_adds_a_source() -> None:
    """Its file, its migration, two commands: then gateway, both parsers, collector, rollups, reports, CSV, the page's
    document and doctor know the source, and count as an independent recount does. No other file is touched. What a
    deployment needs besides is not forgotten silently: five tests fail."""
    page = PAGE.read_text()
    path, declaration = re.findall(r"`(core/sources/\w+\.py)`:\n\n```python\n(.*?)```", page, re.DOTALL)[0]
    commands = re.findall(r"^python (-m ops\.\S+(?: \w+)?)", page, re.MULTILINE)
    assert len(commands) == 2
    with reachable_folder() as folder:
        tree = folder / "tree"
        shutil.copytree(ROOT, tree, ignore=LEFT_OUT, symlinks=True)
        before = contents(tree)
        (tree / path).write_text(declaration)
        for command in commands:
            run(tree, *command.split())
        changed = {name for name, digest in contents(tree).items() if before.get(name) != digest}
        (migration,) = {name for name in changed if name.startswith("sql/migrations/")}
        assert changed == {path, migration, "sql/sources.sql"}
        assert migration.endswith("_google.sql")
        run(tree, "-m", "tests.support.third_source")
        assert len(forgotten(tree)) == 5
