"""Tools that a test needs and a machine may lack.

A test that cannot run is skipped, printed and counted at the end of the run; with SLUICE_REQUIRE_TOOLS=1, as in CI,
it fails instead: a promise that no one checked is not kept.
"""

import os
import shutil
from collections import Counter

import pytest

from core.native import NOT_BUILT

lacking: Counter[str] = Counter()


def require_tool(name: str) -> str:
    """The path of a program, or the test's end where there is none."""
    path = shutil.which(name)
    require(path is not None, f"the program {name}")
    assert path is not None
    return path


def require(there: bool, what: str) -> None:
    """End the test unless `what` is there: skipped and counted, or failed with SLUICE_REQUIRE_TOOLS=1."""
    if not there and os.environ.get("SLUICE_REQUIRE_TOOLS") == "1":
        pytest.fail(f"SLUICE_REQUIRE_TOOLS=1, but this needs {what}")
    only_where(there, what)


def require_native() -> None:
    """End the test unless the native module is built."""
    require(NOT_BUILT is None, "the native module, which make setup builds where there is a Rust toolchain")


def only_where(applies: bool, circumstance: str) -> None:
    """Skip and count a test that is about another `circumstance` than this run's: it is no tool that lacks."""
    if not applies:
        lacking[circumstance] += 1
        pytest.skip(f"only with {circumstance}")


def report() -> list[str]:
    """One line for each thing or circumstance that tests were skipped for."""
    return [f"{count} skipped without {what}" for what, count in sorted(lacking.items())]
